"""Time left: from the jobs that a run has finished, weighted by what their like took before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, final

from reprogram.experiments.cell import Cell
from reprogram.experiments.executors import Lost, Report
from reprogram.experiments.jobs import Event, Job
from reprogram.methods import get_method

__all__ = ["Pace"]


@final
class Pace:
    """How fast a run is.

    A job weighs the seconds that done cells of its source, target and method took, in proportion
    to images and epochs, or steps; one whose like is not known weighs as much as the others' mean.

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
        self._ended: list[Job] = []
        self._known: dict[tuple[str, ...], _Mean] = {}
        self._ratio: float | None = None  # of what is left to what has ended
        self._started = time.monotonic()
        for cell, row in done:
            self._learn(cell, row)

    def hear(self, report: Report) -> None:
        """Take in what a job tells."""
        job, what = report.job, report.what
        if isinstance(what, Event) and what.key is not None:
            (cell,) = (entry.cell for entry in job.entries if entry.key == what.key)
            self._learn(cell, what.content)
        if what is None or (isinstance(what, Lost) and not what.again):
            self._ended.append(self._left.pop(job.fit))
            self._ratio = self._compared()

    @property
    def seconds_left(self) -> float | None:
        """None before the first job has ended."""
        return None if self._ratio is None else self._ratio * (time.monotonic() - self._started)

    def _learn(self, cell: Cell, row: dict[str, Any]) -> None:
        if row["status"] == "done":
            mean = self._known.setdefault(_kind(cell), _Mean())
            mean.n += 1
            mean.unit += row["seconds"] / _work(cell)
            mean.scoring += row.get("test_seconds", 0.0)

    def _compared(self) -> float:
        """What is left in units of what has ended."""
        ended, left = (
            [self._weight(job) for job in jobs] for jobs in (self._ended, self._left.values())
        )
        known = [weight for weight in (*ended, *left) if weight]
        usual = fmean(known) if known else 1.0
        return sum(w or usual for w in left) / sum(w or usual for w in ended)

    def _weight(self, job: Job) -> float | None:
        """Seconds that a job's like took; None where that is not known."""
        cell = job.entries[0].cell
        mean = self._known.get(_kind(cell))
        if mean is None:
            return None
        training = 0.0 if job.fit in self._fitted else mean.unit * _work(cell)
        return (training + len(job.entries) * mean.scoring) / mean.n


@dataclass
class _Mean:
    """Sums over n cells: seconds of training a unit of work, seconds of scoring."""

    n: int = 0
    unit: float = 0.0
    scoring: float = 0.0


def _kind(cell: Cell) -> tuple[str, ...]:
    return cell.source, cell.target, cell.method


def _work(cell: Cell) -> float:
    """What a training's time is in proportion to: optimiser steps, or epochs times images."""
    settings = cell.settings or get_method(cell.method).settings
    if settings.steps is not None:
        return float(settings.steps)
    return settings.epochs * cell.data_fraction * (cell.train_pool or 1)
