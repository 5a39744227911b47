"""What a training does, whatever a pass costs: images of its steps, of its states, of its mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Work", "with_training_seconds", "work_of", "work_of_row"]


@dataclass(frozen=True)
class Work:
    """Images that a training passes through the network.

    Attributes:
        trained: In optimiser steps.
        validated: To score every state, the first included.
        fitted: To fit the mapping.
    """

    trained: int
    validated: int
    fitted: int


def work_of(
    steps: int, batch_size: int, n_train: int, n_val: int, refit: str, final_refit: bool
) -> Work:
    """The work of a training, of whose passes the last may be cut short.

    Args:
        steps: Optimiser steps.
        batch_size: Images a step.
        n_train: Training images.
        n_val: Validation images.
        refit: When the mapping is fitted: "never", at the "start" or before every "epoch".
        final_refit: Whether it is fitted once more at the end.

    >>> work_of(7, 16, 50, 10, "epoch", False)
    Work(trained=98, validated=30, fitted=100)
    """
    per_epoch = math.ceil(n_train / batch_size)
    epochs = math.ceil(steps / per_epoch)
    trained = steps // per_epoch * n_train + min(steps % per_epoch * batch_size, n_train)
    fits = {"never": 0, "start": 1, "epoch": max(epochs, 1)}[refit] + final_refit
    return Work(trained, (epochs + 1) * n_val, fits * n_train)


def work_of_row(row: Mapping[str, Any], refit: str = "never") -> Work:
    """The work of a row's training: of n_train, n_val, steps and its resolved settings."""
    settings = row["settings"]
    return work_of(
        row["steps"], settings["batch_size"], row["n_train"], row["n_val"], refit,
        bool(settings.get("final_refit")),
    )  # fmt: skip


def with_training_seconds(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the seconds of its training alone, which it holds as images a second.

    Rows of schema 2 were first made with those of the whole cell under `seconds`.
    """
    if "images_per_second" not in row:
        return row
    pace = row["images_per_second"]
    return row | {"seconds": work_of_row(row).trained / pace if pace else 0.0}
