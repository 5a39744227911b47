"""Time left: from the jobs that a run has finished, weighted by what their like took before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, final

from reprogram.experiments.cell import Cell
from reprogram.experiments.executors import Report
from reprogram.experiments.jobs import Event, Job
from reprogram.methods import get_method

__all__ = ["Pace"]


@final
class Pace:
    """How fast a run is.

    A job weighs the seconds that done cells of its source, target and method took, in proportion
    to images and epochs, or steps; one whose like is not known weighs as much as the others' mean.
    What jobs took for their weight is what those left will take; running ones have a part of it
    behind them.

    Args:
        jobs: All of them.
        done: Cells that were done before, with their rows.
        fitted: Whether a fit is there already, so that its job only scores.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        done: Iterable[tuple[Cell, dict[str, Any]]] = (),
        fitted: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._left = {job.fit: job for job in jobs}
        self._fitted = {job.fit for job in jobs if fitted(job.fit)}
        self._started = time.monotonic()
        self._begun: dict[str, float] = {}  # when each running job began
        self._workers = 1  # most jobs that ran at a time
        self._ended: list[tuple[Job, float]] = []  # with the seconds that it took
        self._expected: dict[str, float] = {}  # seconds of each job left, whole
        self._known: dict[tuple[str, ...], _Mean] = {}
        for cell, row in done:
            self._learn(cell, row)

    def hear(self, report: Report) -> None:
        """Take in what a job tells."""
        job, what = report.job, report.what
        if isinstance(what, Event):
            self._begun.setdefault(job.fit, time.monotonic())
            self._workers = max(self._workers, len(self._begun))
            if what.key is not None:
                (cell,) = (entry.cell for entry in job.entries if entry.key == what.key)
                self._learn(cell, what.content)
            return
        begun = self._begun.pop(job.fit, self._started)
        if what is None or not what.again:
            self._ended.append((self._left.pop(job.fit), time.monotonic() - begun))
            self._expected = self._expect()

    @property
    def seconds_left(self) -> float | None:
        """None before the first job has ended."""
        if not self._ended:
            return None
        now = time.monotonic()
        left = [
            max(0.0, seconds - (now - self._begun.get(fit, now)))
            for fit, seconds in self._expected.items()
        ]
        # No number of workers shortens the longest job.
        return max(sum(left) / self._workers, *left, 0.0)

    def _learn(self, cell: Cell, row: dict[str, Any]) -> None:
        if row["status"] == "done":
            mean = self._known.setdefault(_kind(cell), _Mean())
            mean.n += 1
            mean.training += row["seconds"]
            mean.work += _work(cell)
            mean.scoring += row.get("test_seconds", 0.0)

    def _expect(self) -> dict[str, float]:
        """Seconds that each job left takes, by what those that ended took for their weight."""
        ended = [self._weight(job) for job, _ in self._ended]
        left = {fit: self._weight(job) for fit, job in self._left.items()}
        known = [weight for weight in (*ended, *left.values()) if weight]
        usual = fmean(known) if known else 1.0
        pace = sum(seconds for _, seconds in self._ended) / sum(w or usual for w in ended)
        return {fit: pace * (w or usual) for fit, w in left.items()}

    def _weight(self, job: Job) -> float | None:
        """Seconds that a job's like took; None where that is not known."""
        cell = job.entries[0].cell
        mean = self._known.get(_kind(cell))
        if mean is None:
            return None
        training = 0.0
        if mean.work and job.fit not in self._fitted:
            training = mean.training / mean.work * _work(cell)
        return training + len(job.entries) * mean.scoring / mean.n


@dataclass
class _Mean:
    """Sums over n cells: seconds of training and what they are in proportion to, of scoring."""

    n: int = 0
    training: float = 0.0
    work: float = 0.0
    scoring: float = 0.0


def _kind(cell: Cell) -> tuple[str, ...]:
    return cell.source, cell.target, cell.method


def _work(cell: Cell) -> float:
    """What a training's time is in proportion to: optimiser steps, or epochs times images."""
    settings = cell.settings or get_method(cell.method).settings
    if settings.steps is not None:
        return float(settings.steps)
    return settings.epochs * cell.data_fraction * (cell.train_pool or 1)
