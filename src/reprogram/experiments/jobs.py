"""A job: what one worker does in one go, a fit and the cells that are scored with it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from reprogram.data import TargetTask, load_target
from reprogram.engine import FeatureStore
from reprogram.environment import git_sha, peak_memory, reset_peak_memory, resolve_device
from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.directory import run_in_directory
from reprogram.experiments.results import Entry
from reprogram.experiments.run import DEFAULT_MAX_MEMORY, load_cell_source, score_test
from reprogram.files import disk_full
from reprogram.model import Reprogrammed
from reprogram.sources import Source
from reprogram.training import Progress

__all__ = [
    "Context",
    "Event",
    "Job",
    "broken_row",
    "cell_source",
    "cell_task",
    "jobs_of",
    "run_job",
]


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
    """A fit, where it is trained, and the cells that are scored with it."""

    fit: str
    entries: tuple[Entry, ...]
    directory: Path | None

    @property
    def name(self) -> str:
        """The job in a few words, for a progress bar."""
        cell = self.entries[0].cell
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
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.fit, []).append(entry)
    return [Job(fit, tuple(group), place(fit)) for fit, group in groups.items()]


def run_job(
    job: Job, context: Context, tell: Callable[[Event], None] = lambda _: None
) -> Iterator[Event]:
    """Train what the job names, or take up what is there, and score its cells.

    What goes wrong in a cell becomes its row: skipped where it cannot be, failed with its
    traceback where it broke or where data, weights or packages are missing here.

    Args:
        job: What to do.
        context: How.
        tell: Told how far the training is.

    Yields:
        The row of each cell as it is made.

    Raises:
        OSError: The disk is full, which is no cell's fault.
    """
    torch.set_num_threads(context.threads)
    started = False

    def begun() -> None:
        nonlocal started
        started = True

    try:
        first = job.entries[0].cell.fit
        source, task = _loaded(first, context)
        model = _fitted(job, source, task, context, begun, _follower(tell))
    except Exception as error:
        raise_if_disk_full(error)
        for entry in job.entries:
            yield Event(entry.key, broken_row(entry, error, possible=started))
        return
    for entry in job.entries:
        try:
            row = _scored(entry, model, task, context)
        except Exception as error:
            raise_if_disk_full(error)
            row = broken_row(entry, error)
        yield Event(entry.key, row)


def _loaded(cell: Cell, context: Context) -> tuple[Source, TargetTask]:
    """The cell's source and target.

    Raises:
        UnavailableError: They, or the device, are not here, which is not the cell's fault.
    """
    try:
        resolve_device(context.device)
        return cell_source(cell, context), cell_task(cell, context)
    except InputError as error:
        raise UnavailableError(str(error)) from error


def _fitted(
    job: Job,
    source: Source,
    task: TargetTask,
    context: Context,
    on_start: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> Reprogrammed:
    """The job's model, trained here or before."""
    assert job.directory is not None
    reset_peak_memory()
    cell = job.entries[0].cell.fit
    model, _ = run_in_directory(
        cell, job.directory, source=source, task=task, target=cell.target, mend=True, test=False,
        device=context.device, max_memory=context.max_memory, store=_features(context),
        noise_cache=context.cache, on_start=on_start, on_progress=on_progress,
    )  # fmt: skip
    return model


def _scored(
    entry: Entry, model: Reprogrammed, task: TargetTask, context: Context
) -> dict[str, Any]:
    """The row of a cell whose training is done."""
    fitted = model.record
    assert fitted is not None
    row = fitted | entry.cell.to_dict() | {"target": entry.target, "fit": entry.fit}
    row |= {"settings": fitted["settings"]}
    if context.test:
        row |= score_test(
            model, task, entry.cell.noise, entry.cell.test_pool, device=context.device,
            store=_features(context), noise_cache=context.cache,
        )  # fmt: skip
    return row | {"peak_memory": peak_memory()}


def _follower(tell: Callable[[Event], None]) -> Callable[[Progress], None]:
    """Tells how far a training is, twice a second at most."""
    last = 0.0

    def follow(step: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            tell(Event(None, {"epoch": step.epoch, "epochs": step.epochs, "loss": step.loss}))

    return follow


class UnavailableError(InputError):
    """Data, weights or a device that a worker does not find."""


def broken_row(entry: Entry, error: BaseException, *, possible: bool = False) -> dict[str, Any]:
    """The row of a cell that has no result, and why.

    Args:
        entry: The cell.
        error: What went wrong.
        possible: Whether it is known that the cell can be run.
    """
    row = entry.cell.to_dict() | {"target": entry.target, "git_sha": git_sha()}
    if isinstance(error, InputError) and not possible and not _is_surroundings(error):
        return row | {"status": "skipped", "reason": str(error)}
    text = "".join(traceback.format_exception(error))
    return row | {"status": "failed", "error": _one_line(error), "traceback": _portable(text)}


def _is_surroundings(error: InputError) -> bool:
    """Whether bad input comes from what is not here: data, weights, a package, a writable folder."""
    return isinstance(error, UnavailableError) or isinstance(error.__cause__, OSError | ImportError)


def raise_if_disk_full(error: BaseException) -> None:
    """Raise what no other cell would survive either."""
    if full := disk_full(error):
        raise full


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
