"""A cell: one run of one method, and nothing outside it changes its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from reprogram.errors import InputError
from reprogram.settings import Settings

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """What is trained on what.

    Attributes:
        source: A name or path that `load_source` takes.
        target: A name or path that `load_target` takes.
        method: A name in METHODS, with an optional `@variant`.
        data_fraction: Share of every class's training images, in (0, 1].
        seed: Of the split, the initialisation, the batches.
        train_pool: Stratified number of training images to start from; None takes all.
        val_share: Share of the pool that selects the epoch, in [0, 1).
        track_test: Whether every epoch's test accuracy is recorded as well.
        settings: Training settings; None takes the method's published ones.
    """

    source: str
    target: str
    method: str
    data_fraction: float = 1.0
    seed: int = 0
    train_pool: int | None = None
    val_share: float = 0.1
    track_test: bool = False
    settings: Settings | None = None

    def __post_init__(self) -> None:
        if not 0 < self.data_fraction <= 1:
            raise InputError(
                f"data_fraction must be in (0, 1], got {self.data_fraction}. "
                "1.0 uses every image that validation does not hold."
            )
        if not 0 <= self.val_share < 1:
            raise InputError(
                f"val_share must be in [0, 1), got {self.val_share}. 0.1 is the default; "
                "0 takes the last epoch."
            )
        if self.train_pool is not None and self.train_pool < 1:
            raise InputError(f"train_pool must be at least 1 image, got {self.train_pool}.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def key(self, *fingerprints: str) -> str:
        """A hash of everything that determines the result; the data's and weights' prints included."""
        text = json.dumps([self.to_dict(), *fingerprints], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
