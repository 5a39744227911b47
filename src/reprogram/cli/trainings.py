"""The finished trainings that a verb reads, and how it computes on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram.cli.options import Common, bytes_of, set_up
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.analysis.study import StudyRows
    from reprogram.experiments.jobs import Context
    from reprogram.experiments.results import ResultStore

__all__ = ["measured", "open_trainings"]


def open_trainings(results: Path, common: Common, threads: int) -> tuple[ResultStore, Context]:
    """The store of a grid's results, and what computing on its trainings needs to know.

    Raises:
        InputError: There is no grid, or an option that such a verb does not have.
    """
    from reprogram.experiments.jobs import Context
    from reprogram.experiments.results import ResultStore

    if common.weights is not None:
        raise InputError("--weights cannot be given: the sources are those of the trainings.")
    store = ResultStore.existing(results)
    if threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}.")
    set_up(common)
    return store, Context(
        data_root=common.data_root, download=common.download, device=common.device,
        threads=threads, max_memory=bytes_of(common.max_memory),
    )  # fmt: skip


def measured(
    store: StudyRows,
    jobs: Sequence[tuple[str, str, Callable[[], dict[str, Any]]]],
    what: str,
    quiet: bool,
) -> list[dict[str, Any]]:
    """The row of every training in a store, measured where it is not there yet.

    Args:
        store: Of the rows.
        jobs: For each training its key, its name and what measures it.
        what: Is measured, for the progress bar.
        quiet: No progress bar.
    """
    from reprogram.progress import bar

    rows = []
    with bar(quiet, "{task.fields[name]}") as progress:
        steps = progress.add_task(what, total=len(jobs), name="")
        for key, name, measure in jobs:
            progress.update(steps, name=name)
            row = store.read(key)
            rows.append(store.write(key, measure()) if row is None else row)
            progress.advance(steps)
    return rows
