"""run_grid: every cell of a grid that has no result yet, by an executor, into a results store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reprogram.environment import git_sha
from reprogram.experiments.executors import Executor, Lost, Report
from reprogram.experiments.jobs import Context, Event, Job, jobs_of
from reprogram.experiments.pace import Pace
from reprogram.experiments.results import Entry, ResultStore

__all__ = ["GridProgress", "run_grid", "status_of"]

logger = logging.getLogger(__name__)

PROGRESS_EVERY = 2.0  # seconds between what `bench status` sees


@dataclass
class GridProgress:
    """How far a grid is.

    Attributes:
        total: Cells in the grid.
        counts: Cells by status: done, failed, skipped.
        running: What works now by the key of its fit: the job's name, its epoch where it has one.
        estimate: Seconds left by the pace of this run; None before the first cell is done.
    """

    total: int
    counts: dict[str, int]
    running: dict[str, dict[str, Any]] = field(default_factory=dict)
    estimate: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "total": self.total, **self.counts,
            "missing": self.total - sum(self.counts.values()),
            "running": list(self.running.values()),
            "seconds_left": self.estimate,
        }  # fmt: skip


def run_grid(
    entries: Sequence[Entry],
    store: ResultStore,
    executor: Executor,
    context: Context,
    on_progress: Callable[[GridProgress], None] = lambda _: None,
    *,
    fits: ResultStore | None = None,
) -> GridProgress:
    """Run what is missing; the caller holds the store's lock.

    A cell whose worker is lost runs again; after the executor's last attempt its row says failed.
    Stopped at any moment, everything that was done is kept, and the same call goes on.

    Args:
        entries: The cells.
        store: Where rows are written.
        executor: What runs them.
        context: What the workers need to know.
        on_progress: Called with every change.
        fits: Where fits are trained and kept; by default beside the rows.

    Returns:
        How the grid stands at the end.
    """
    have = {entry.key: store.read(entry.key) for entry in entries}
    progress = GridProgress(len(entries), {"done": 0, "failed": 0, "skipped": 0})
    for row in have.values():
        if row is not None:
            progress.counts[row["status"]] += 1
    todo = [entry for entry in entries if have[entry.key] is None]
    home = fits or store
    jobs = jobs_of(todo, home.fit_directory)
    done = [(entry.cell, row) for entry in entries if (row := have[entry.key]) is not None]
    pace = Pace(jobs, done, home.has_fit)
    last = 0.0
    on_progress(progress)
    for report in executor.run(jobs, context):
        _take(report, store, progress)
        pace.hear(report)
        progress.estimate = pace.seconds_left
        on_progress(progress)
        if time.monotonic() - last > PROGRESS_EVERY:
            last = time.monotonic()
            store.write_progress(progress.to_dict())
    store.write_progress(progress.to_dict())
    return progress


def _take(report: Report, store: ResultStore, progress: GridProgress) -> None:
    """Write what a job tells, and count it."""
    job, what = report.job, report.what
    if what is None:
        progress.running.pop(job.fit, None)
    elif isinstance(what, Event) and what.key is None:
        progress.running[job.fit] = {"job": job.name, **what.content}
    elif isinstance(what, Event):
        assert what.key is not None
        known = store.has(what.key)  # from a worker that was lost with its job half done
        store.write(what.key, what.content)
        progress.counts[what.content["status"]] += not known
    else:
        progress.running.pop(job.fit, None)
        _lost(job, what, store, progress)


def _lost(job: Job, lost: Lost, store: ResultStore, progress: GridProgress) -> None:
    logger.warning("%s: %s%s", job.name, lost.reason, "; it runs again" if lost.again else "")
    if lost.again:
        return
    for entry in job.entries:
        if store.has(entry.key):
            continue
        error = f"given up: {lost.reason}, each time it was tried"
        row = {"status": "failed", "error": error, "traceback": "", "git_sha": git_sha()}
        store.write(entry.key, entry.missing_row | row)
        progress.counts["failed"] += 1


def broken_cells(store: ResultStore, entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Those of some cells that failed or were skipped, and why."""
    rows = ((entry, store.read(entry.key)) for entry in entries)
    return [_broken(entry, row) for entry, row in rows if row and row["status"] != "done"]


def _broken(entry: Entry, row: Mapping[str, Any]) -> dict[str, Any]:
    reason = row.get("reason") or row.get("error")
    own = {"key": entry.key, "status": row["status"], "reason": reason}
    return own | {"cell": entry.cell.to_dict()}


def status_of(store: ResultStore) -> dict[str, Any]:
    """Counts of the cells that belong to a store, what runs now, and why cells failed."""
    counts = {"done": 0, "failed": 0, "skipped": 0}
    broken = []
    entries = store.entries()
    for entry in entries:
        row = store.read(entry.key)
        if row is None:
            continue
        counts[row["status"]] += 1
        if row["status"] != "done":
            broken.append(_broken(entry, row))
    tuning = store.tuning.progress()
    running = store.progress() if tuning is None else tuning
    return GridProgress(len(entries), counts).to_dict() | {
        "active": running is not None,
        "tuning": tuning is not None,
        "running": (running or {}).get("running", []),
        "seconds_left": (running or {}).get("seconds_left"),
        "time": (running or {}).get("time"),
        "broken": broken,
    }
