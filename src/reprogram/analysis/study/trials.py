"""The trainings of a results directory, each beside its unprompted mapping."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from reprogram.data.noise import CLEAN
from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.results import ResultStore

__all__ = ["Trial", "trials_of"]


@dataclass(frozen=True)
class Trial:
    """A training and what it started from.

    Attributes:
        key: Of the training's row.
        cell: What was trained.
        row: Its result.
        plain: Result of the same mapping on the plain image.
    """

    key: str
    cell: Cell
    row: dict[str, Any]
    plain: dict[str, Any]

    @property
    def name(self) -> str:
        """The trial in a few words."""
        return f"{self.cell.source} -> {self.row['target']}  seed {self.cell.seed}"


def trials_of(store: ResultStore) -> tuple[list[Trial], list[Cell]]:
    """Every training that is done, and the cells that have no result yet.

    Raises:
        InputError: No training is done, one has noise or a part of the images, or the cell with its
            unprompted mapping is not there.
    """
    rows = [(entry, store.read(entry.key)) for entry in store.entries()]
    done = [(e, row) for e, row in rows if row is not None and row["status"] == "done"]
    missing = [e.cell for e, row in rows if row is None or row["status"] != "done"]
    plain = {_place(e.cell): row for e, row in done if _is_plain(e.cell)}
    trials = []
    for entry, row in done:
        if _is_plain(entry.cell):
            continue
        _check(entry.cell)
        mapping = _mapping(entry.cell)
        start = plain.get((*_place(entry.cell)[:-1], mapping))
        if start is None:
            raise InputError(
                f"{entry.cell.source} -> {entry.target}, seed {entry.cell.seed}: no result of "
                f"none+{mapping}, from which a gain is counted. Add that method to the grid."
            )
        trials.append(Trial(entry.key, entry.cell, row, start))
    if not trials:
        raise InputError(
            f"{store.directory} holds no finished training. Run one first: reprogram bench run "
            f"configs/prediction.py --out {store.directory}."
        )
    return trials, missing


def _check(cell: Cell) -> None:
    if cell.noise != CLEAN or cell.data_fraction != 1.0:
        raise InputError(
            f"{cell.source} -> {cell.target}: a study forecasts trainings on all images of a clean "
            f"pool, got data_fraction {cell.data_fraction:g} and noise {cell.noise}. Choose the size "
            "with train_pool."
        )


def _is_plain(cell: Cell) -> bool:
    return cell.method.startswith("none+") and _mapping(cell) != "linear"


def _mapping(cell: Cell) -> str:
    return cell.method.partition("@")[0].partition("+")[2]


def _place(cell: Cell) -> tuple[Any, ...]:
    """What a training and its unprompted mapping have in common; the mapping comes last."""
    own = {"method", "settings", "track_test"}
    return (*(getattr(cell, f.name) for f in fields(cell) if f.name not in own), _mapping(cell))
