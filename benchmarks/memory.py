"""Row `memory`: peak resident size of a training step, in a fresh process for each side.

`python -m benchmarks.memory SIDE BATCH` is that process: it prints the MiB by which its peak exceeds
its resident size after import.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import ours, prompts
from benchmarks.inputs import resnet18
from benchmarks.peer import Loop, PaddingPrompt
from benchmarks.registry import Measured
from benchmarks.scale import Scale
from reprogram.errors import InputError

__all__ = ["memory", "peak_of", "resident_mib"]

ROOT = Path(__file__).resolve().parents[1]
IMAGE_SIZE, STEPS = 32, 2  # the second step finds the optimiser's state


def memory(scale: Scale) -> Measured:
    resident_mib("VmHWM")  # fails here where it would in the processes
    peer, own = peak_of("peer", scale.batch), peak_of("ours", scale.batch)
    return Measured(peer, own, "MiB", 1)


def peak_of(side: str, batch: int) -> float:
    """MiB that a side's training takes, measured in a process of its own."""
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", side, str(batch)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


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


def resident_mib(field: str) -> float:
    """VmRSS (resident size) or VmHWM (its peak) of this process.

    Where the system has no /proc, the peak so far stands for both.

    Raises:
        InputError: The system tells neither.
    """
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would start at the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError as error:
        raise InputError("this system does not tell a process's peak memory.") from error
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    torch.set_num_threads(1)
    before = resident_mib("VmRSS")
    run_side(sys.argv[1], int(sys.argv[2]))
    print(resident_mib("VmHWM") - before)
