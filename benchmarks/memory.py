"""Row `memory`: peak resident size of a training step, in a fresh process for each side.

`python -m benchmarks.memory SIDE BATCH` is that process.
"""

from __future__ import annotations

import sys

from benchmarks import ours, peak, prompts
from benchmarks.inputs import resnet18
from benchmarks.peer import Loop, PaddingPrompt
from benchmarks.registry import Measured
from benchmarks.scale import Scale

__all__ = ["memory", "peak_of"]

IMAGE_SIZE, STEPS = 32, 2  # the second step finds the optimiser's state


def memory(scale: Scale) -> Measured:
    peak.resident_mib("VmHWM")  # fails here where it would in the processes
    return Measured(peak_of("peer", scale.batch), peak_of("ours", scale.batch), "MiB", 1)


def peak_of(side: str, batch: int) -> float:
    """MiB that a side's training takes."""
    return peak.peak_of("benchmarks.memory", side, batch)


def run_side(side: str, batch: int) -> None:
    """Two training steps of one side."""
    source = resnet18()
    scale = Scale(batch=batch, repetitions=STEPS)
    trial = prompts.padding_trial(source, IMAGE_SIZE, scale)
    if side == "ours":
        ours.run(trial)
        return
    x, labels = prompts.batch_of(trial.data.splits["train"], IMAGE_SIZE)
    loop = Loop(source, PaddingPrompt(source, IMAGE_SIZE), scale.classes)
    for _ in range(STEPS):
        loop.step(x, labels)


if __name__ == "__main__":
    peak.print_peak(lambda: run_side(sys.argv[1], int(sys.argv[2])))
