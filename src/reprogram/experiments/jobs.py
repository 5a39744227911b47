"""A job: what one worker does in one go, a fit and the cells that are scored with it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from reprogram.data import TargetTask, load_target
from reprogram.engine import FeatureStore
from reprogram.environment import git_sha, peak_memory, reset_peak_memory
from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.directory import run_in_directory
from reprogram.experiments.results import Entry
from reprogram.experiments.run import DEFAULT_MAX_MEMORY, load_cell_source, score_test
from reprogram.sources import Source
from reprogram.training import Progress

__all__ = ["Context", "Event", "Job", "cell_source", "cell_task", "jobs_of", "run_job"]


@dataclass(frozen=True)
class Context:
    """What every worker needs to know; none of it changes a result.

    Attributes:
        data_root: Where sets by name lie.
        download: Whether what is missing may be fetched.
        device: As for `run_cell`.
        threads: Threads a cell computes with; recorded, since sums depend on their order.
        max_memory: Bytes that images, or a prompt, may take.
        cache: Folder of stored features and noisy images; None keeps them in memory.
        cache_limit: Bytes that the folder may grow to.
        test: Whether the test images are looked at.
    """

    data_root: Path | None = None
    download: bool = False
    device: str = "auto"
    threads: int = 1
    max_memory: int = DEFAULT_MAX_MEMORY
    cache: Path | None = None
    cache_limit: int = 8 << 30
    test: bool = True


@dataclass(frozen=True)
class Job:
    """A fit, where it is trained, and the cells that are scored with it, each with its key."""

    fit: str
    cells: tuple[tuple[str, Cell], ...]
    directory: Path | None

    @property
    def name(self) -> str:
        """The job in a few words, for a progress bar."""
        cell = self.cells[0][1]
        seed = f"seed {cell.seed}"
        return (
            f"{cell.source} -> {cell.target}  {cell.method}  {100 * cell.data_fraction:g}%  {seed}"
        )


@dataclass(frozen=True)
class Event:
    """What a worker tells: the row of a cell, or how far it is (key None)."""

    key: str | None
    content: dict[str, Any]


def jobs_of(entries: Iterable[Entry], place: Callable[[str], Path | None]) -> list[Job]:
    """Entries grouped by what is trained for them, in their order.

    Args:
        entries: Cells without a result.
        place: Where a fit is trained.
    """
    groups: dict[str, list[tuple[str, Cell]]] = {}
    for entry in entries:
        groups.setdefault(entry.fit, []).append((entry.key, entry.cell))
    return [Job(fit, tuple(cells), place(fit)) for fit, cells in groups.items()]


def run_job(job: Job, context: Context, emit: Callable[[Event], None]) -> None:
    """Train what the job names, or take up what is there, and score its cells.

    What goes wrong in a cell becomes its row: skipped where it cannot be, failed with its
    traceback where it broke. A full disk is not a cell's fault and is raised.
    """
    assert job.directory is not None
    torch.set_num_threads(context.threads)
    started = False

    def begun() -> None:
        nonlocal started
        started = True

    last = 0.0

    def follow(step: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            emit(Event(None, {"epoch": step.epoch, "epochs": step.epochs, "loss": step.loss}))

    first = job.cells[0][1].fit
    try:
        source, task = cell_source(first, context), cell_task(first, context)
        store = _features(context)
        reset_peak_memory()
        model, _ = run_in_directory(
            first, job.directory, source=source, task=task, test=False, device=context.device,
            max_memory=context.max_memory, store=store, noise_cache=context.cache,
            on_start=begun, on_progress=follow,
        )  # fmt: skip
        fitted = model.record
        assert fitted is not None
    except Exception as error:
        raise_if_disk_full(error)
        for key, cell in job.cells:
            emit(Event(key, broken_row(cell, error, skipped=not started)))
        return
    for key, cell in job.cells:
        try:
            row = fitted | cell.to_dict() | {"target": task.name, "fit": job.fit}
            row |= {"settings": fitted["settings"]}
            if context.test:
                row |= score_test(
                    model, task, cell.noise, cell.test_pool, device=context.device, store=store,
                    noise_cache=context.cache,
                )  # fmt: skip
            emit(Event(key, row | {"peak_memory": peak_memory()}))
        except Exception as error:
            raise_if_disk_full(error)
            emit(Event(key, broken_row(cell, error, skipped=isinstance(error, InputError))))


def broken_row(cell: Cell, error: BaseException, *, skipped: bool = False) -> dict[str, Any]:
    """The row of a cell that has no result, and why."""
    row = cell.to_dict() | {"target": Path(cell.target).stem, "git_sha": git_sha()}
    if skipped and isinstance(error, InputError):
        return row | {"status": "skipped", "reason": str(error)}
    text = "".join(traceback.format_exception(error))
    return row | {"status": "failed", "error": _one_line(error), "traceback": _portable(text)}


def raise_if_disk_full(error: BaseException) -> None:
    """Raise what no other cell would survive either."""
    import errno

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _portable(text: str) -> str:
    """A traceback that names files of the package, not folders of a machine."""
    package = str(Path(__file__).resolve().parents[1])
    return text.replace(package, "reprogram")


@lru_cache(maxsize=4)
def _loaded_source(name: str, seed: int | None, download: bool) -> Source:
    return load_cell_source(name, seed, download=download)


def cell_source(cell: Cell, context: Context) -> Source:
    """The cell's source, loaded once in a process."""
    return _loaded_source(cell.source, cell.source_seed, context.download)


@lru_cache(maxsize=4)
def _loaded_task(target: str, data_root: Path | None, download: bool, memory: int) -> TargetTask:
    return load_target(target, data_root=data_root, download=download, max_memory=memory)


def cell_task(cell: Cell, context: Context) -> TargetTask:
    """The cell's target, loaded once in a process."""
    return _loaded_task(cell.target, context.data_root, context.download, context.max_memory)


@lru_cache(maxsize=1)
def _feature_store(directory: Path | None, limit: int) -> FeatureStore:
    return FeatureStore(directory=directory, disk_limit=limit)


def _features(context: Context) -> FeatureStore:
    return _feature_store(context.cache, context.cache_limit)
