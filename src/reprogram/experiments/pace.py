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
    behind them, and from their second epoch on tell by their own epochs what is left.

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
        self._epochs: dict[str, _Epochs] = {}  # and how far it is
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
            elif "epochs" in what.content:
                self._follow(job, **what.content)
            return
        begun = self._begun.pop(job.fit, self._started)
        self._epochs.pop(job.fit, None)
        if what is None or not what.again:
            self._ended.append((self._left.pop(job.fit), time.monotonic() - begun))
            self._expected = self._expect()

    @property
    def seconds_left(self) -> float | None:
        """None before a job has ended or is in its second epoch."""
        if not self._expected and not self._ended:
            return None
        now = time.monotonic()
        left = [
            max(0.0, self._end(fit, seconds, now) - now) for fit, seconds in self._expected.items()
        ]
        # No number of workers shortens the longest job.
        return max(sum(left) / self._workers, *left, 0.0)

    def _follow(self, job: Job, epoch: int, epochs: int, **_: Any) -> None:
        """Take in how far a job is."""
        now = time.monotonic()
        heard = self._epochs.setdefault(job.fit, _Epochs(now, epoch, epochs))
        if epoch > heard.epoch:
            heard.time, heard.epoch = now, epoch
            if not self._ended:
                self._expected = self._expect()

    def _end(self, fit: str, seconds: float, now: float) -> float:
        """When a job ends that takes so long as a whole; one that waits would begin now."""
        epochs = self._epochs.get(fit)
        told = None if epochs is None else epochs.end
        return self._begun.get(fit, now) + seconds if told is None else told

    def _learn(self, cell: Cell, row: dict[str, Any]) -> None:
        if row["status"] == "done":
            mean = self._known.setdefault(_kind(cell), _Mean())
            mean.n += 1
            mean.training += row["seconds"]
            mean.work += _work(cell)
            mean.scoring += row.get("test_seconds", 0.0)

    def _expect(self) -> dict[str, float]:
        """Seconds that each job left takes, by what those that ended took for their weight.

        Before any has ended those that run stand for them.
        """
        measured = self._ended or [
            (self._left[fit], epochs.end - self._begun[fit])
            for fit, epochs in self._epochs.items()
            if epochs.end is not None
        ]
        ended = [self._weight(job) for job, _ in measured]
        left = {fit: self._weight(job) for fit, job in self._left.items()}
        known = [weight for weight in (*ended, *left.values()) if weight]
        usual = fmean(known) if known else 1.0
        pace = sum(seconds for _, seconds in measured) / sum(w or usual for w in ended)
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


class _Epochs:
    """How far a training is: when its latest epoch began, and its first one that was heard of."""

    def __init__(self, time: float, epoch: int, epochs: int) -> None:
        self.first = self.time = time
        self.from_epoch = self.epoch = epoch
        self.epochs = epochs

    @property
    def end(self) -> float | None:
        """When it ends at the pace of its epochs so far; None in the first that was heard of."""
        if self.epoch == self.from_epoch:
            return None
        each = (self.time - self.first) / (self.epoch - self.from_epoch)
        return self.time + each * (self.epochs - self.epoch + 1)


def _kind(cell: Cell) -> tuple[str, ...]:
    return cell.source, cell.target, cell.method


def _work(cell: Cell) -> float:
    """What a training's time is in proportion to: optimiser steps, or epochs times images."""
    settings = cell.settings or get_method(cell.method).settings
    if settings.steps is not None:
        return float(settings.steps)
    return settings.epochs * cell.data_fraction * (cell.train_pool or 1)
