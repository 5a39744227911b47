"""Noise: which kind, how strong, on which images; as a value and a text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import final

from reprogram.data.noise.kinds import NOISES, SEVERITIES, ImageNoise, LabelNoise
from reprogram.errors import InputError, unknown

__all__ = ["CLEAN", "PLACES", "Noise"]

PLACES = ("test", "train", "both")
_TEXT = re.compile(r"([^:@#\s]+):(\d+)(?:@([^:@#\s]*))?(?:#(\d+))?")


@final
@dataclass(frozen=True, order=True)
class Noise:
    """A noise of images or of training labels; `Noise()` is clean.

    Training images are those of the official training split and of a set's own validation split:
    who trains on noisy data validates on noisy data. Test labels are never changed.

    Attributes:
        kind: "clean" or a name in NOISES.
        severity: 1 to 5; 0 for "clean".
        on: "test", "train" or "both"; label noise is on "train".
        seed: Which draw of the noise; every method of a comparison gets the same one.

    Raises:
        InputError: For values that do not go together.

    >>> noise = Noise("gaussian", 3)
    >>> str(noise), str(CLEAN), Noise.parse("pair:2") == Noise("pair", 2, "train")
    ('gaussian:3@test', 'clean', True)
    """

    kind: str = "clean"
    severity: int = 0
    on: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("severity", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"noise {name} must be a whole number >= 0, got {value!r}.")
        if self.kind == "clean":
            if (self.severity, self.on, self.seed) != (0, "test", 0):
                raise InputError("noise 'clean' has no severity, place or seed. Write clean.")
            return
        if self.kind not in NOISES:
            raise unknown("noise", self.kind, ["clean", *NOISES])
        if self.severity not in SEVERITIES:
            raise InputError(
                f"severity of noise {self.kind!r} must be 1 to 5, got {self.severity}. "
                "For no noise write clean."
            )
        if self.on not in PLACES:
            raise unknown("place of noise", self.on, PLACES)
        if self.changes_labels and self.on != "train":
            raise InputError(
                f"label noise {self.kind!r} is on training labels, got on={self.on!r}: test labels "
                f"are never changed. Write {self.kind}:{self.severity}@train."
            )

    def __str__(self) -> str:
        if self.kind == "clean":
            return "clean"
        draw = f"#{self.seed}" if self.seed else ""
        return f"{self.kind}:{self.severity}@{self.on}{draw}"

    def __bool__(self) -> bool:
        return self.kind != "clean"

    @classmethod
    def parse(cls, text: str) -> Noise:
        """`KIND:SEVERITY[@test|train|both][#SEED]`, or `clean`.

        Without a place, image noise is on test and label noise on train.

        Raises:
            InputError: For anything else.
        """
        if text.strip() == "clean":
            return CLEAN
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"noise {text!r} is not KIND:SEVERITY[@PLACE][#SEED]. "
                "Write it like gaussian:3@test, symmetric:2@train or clean."
            )
        kind, severity, place, seed = found.groups()
        usual = "train" if isinstance(NOISES.get(kind), LabelNoise) else "test"
        return cls(kind, int(severity), usual if place is None else place, int(seed or 0))

    @property
    def changes_labels(self) -> bool:
        return isinstance(NOISES.get(self.kind), LabelNoise)

    @property
    def changes_images(self) -> bool:
        return isinstance(NOISES.get(self.kind), ImageNoise)

    @property
    def strength(self) -> float:
        """What the severity stands for, in the unit of the kind; 0 for clean."""
        return NOISES[self.kind].levels[self.severity - 1] if self else 0.0

    @property
    def training(self) -> Noise:
        """What training and validation see of it: cells with the same share one fit."""
        return CLEAN if self.on == "test" else replace(self, on="train")

    def touches(self, split: str) -> bool:
        """Whether a split's images or labels are changed; validation goes with training."""
        side = "test" if split == "test" else "train"
        return bool(self) and self.on in (side, "both")


CLEAN = Noise()
