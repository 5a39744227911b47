"""A cell: one run of one method, and nothing outside it changes its result."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from reprogram.data.noise import CLEAN, Noise
from reprogram.data.splits import check_fraction
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
        noise: What is done to the images.
        source_seed: Which of a source's trainings, where `train-source` made one a seed.
        test_pool: Stratified number of test images that are looked at; None takes all.
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
    noise: Noise = CLEAN
    source_seed: int | None = None
    test_pool: int | None = None

    def __post_init__(self) -> None:
        check_fraction(self.data_fraction)
        if not 0 <= self.val_share < 1:
            raise InputError(
                f"val_share must be in [0, 1), got {self.val_share}. 0.1 is the default; "
                "0 takes the last epoch."
            )
        for name in ("train_pool", "test_pool"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise InputError(f"{name} must be at least 1 image, got {count}.")
        try:
            object.__setattr__(self, "seed", operator.index(self.seed))
        except TypeError:
            raise InputError(f"seed must be a whole number, got {self.seed!r}.") from None
        for name in ("data_fraction", "val_share"):  # 1 and 1.0 are one cell, with one key
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def words(self) -> str:
        """What tells it from the others of an ordinary grid, on one line."""
        noise = f" {self.noise}" if self.noise else ""
        size = f"{100 * self.data_fraction:g}%"
        return f"{self.source} -> {self.target} {self.method} {size} seed {self.seed}{noise}"

    @property
    def fit(self) -> Cell:
        """The cell without what is done to the test images alone: what has to be trained."""
        return replace(self, noise=self.noise.training, test_pool=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values that :meth:`from_dict` takes back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        settings = self.settings.to_dict() if self.settings else None
        return values | {"noise": str(self.noise), "settings": settings}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """A cell from JSON.

        Raises:
            InputError: Unknown settings or a noise that is none.
        """
        settings = values.get("settings")
        return cls(**{
            **values,
            "noise": Noise.parse(values.get("noise") or "clean"),
            "settings": Settings.from_dict(settings) if settings else None,
        })  # fmt: skip

    def key(self, *fingerprints: str) -> str:
        """A hash of everything that determines the result; the data's and weights' prints included.

        What is at its default is left out, so that a field added later leaves earlier keys as
        they are; the schema among the fingerprints changes where a default does.
        """
        values = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}
        if self.settings is not None:
            plain = Settings().to_dict()
            values["settings"] = {k: v for k, v in self.settings.to_dict().items() if v != plain[k]}
        text = json.dumps([values, *fingerprints], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()
