"""Steps of several prompts, timed from outside at a callback."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import torch

from benchmarks.ours import Trial
from benchmarks.timing import Meter
from reprogram.lockstep import train_several
from reprogram.training import Progress, Run

__all__ = ["round_seconds"]


def round_seconds(trials: Sequence[Trial], meter: Meter = time.process_time) -> list[float]:
    """Seconds of each round, in which every trial takes one step; the first prepares as well.

    Args:
        trials: On one source, without validation images; their epochs are one step.
        meter: What is read; by default the CPU seconds of this process.
    """

    def tick(_: Progress) -> None:
        ticks.append(meter())

    runs = [
        Run(
            trial.model, trial.engine, trial.data.labels, trial.plan, torch.arange(0),
            trial.settings, on_progress=tick if trial is trials[-1] else lambda _: None,
        )
        for trial in trials
    ]  # fmt: skip
    ticks = [meter()]
    for result in train_several(runs):
        if isinstance(result, Exception):
            raise result
    return [after - before for before, after in pairwise(ticks)]
