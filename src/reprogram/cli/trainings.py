"""The finished trainings that a verb reads, and how it computes on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reprogram.cli.options import Common, bytes_of, set_up
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.experiments.jobs import Context
    from reprogram.experiments.results import ResultStore

__all__ = ["open_trainings"]


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
