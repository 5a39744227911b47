"""From a forecast's parts to the accuracy that training reaches: a linear fit on other targets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from reprogram.errors import InputError

__all__ = ["PARTS", "Calibration"]

_WORDS = {
    "unprompted": "the unprompted accuracy",
    "gain": "what the kernel adds to it",
    "probe": "the linear probe",
    "centroid": "the nearest centroid",
}
PARTS = tuple(_WORDS)
NUMBERS = ("intercept", *PARTS, "error", "pairs")
MADE = ("method", "images", "mapping_images", "training", "epochs", "n_train")
SHIPPED = "calibrations.json"  # beside this module: calibrations by method


@dataclass(frozen=True)
class Calibration:
    """A linear fit of trained accuracies on a forecast's parts, made on other targets.

    Attributes:
        intercept: Accuracy where every part is 0.
        unprompted, gain, probe, centroid: Weights of the parts.
        error: Half the width of a 95 % prediction interval, as a share.
        pairs: Number of (source, target) pairs behind the fit.
        method: That it was made for; None does not say.
        images: Of the kernels behind it; None does not say.
        mapping_images: Of the mappings behind it; None does not say.
        training: What the accuracies were reached by, such as "15 epochs on up to 1,800 images".
        epochs: Of these trainings where all had the same; None does not say.
        n_train: The most images that one of them had; None does not say.
    """

    intercept: float
    unprompted: float
    gain: float
    probe: float
    centroid: float
    error: float
    pairs: int
    method: str | None = None
    images: int | None = None
    mapping_images: int | None = None
    training: str | None = None
    epochs: int | None = None
    n_train: int | None = None

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """A calibration from a JSON file, such as `reprogram ntk-study` writes.

        Raises:
            InputError: No such file, or not these numbers.
        """
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except InputError as error:
            raise InputError(f"calibration {str(path)!r} {error}") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"calibration {str(path)!r} cannot be read ({type(error).__name__}). It must be a "
                f"JSON object with the numbers {', '.join(NUMBERS)}."
            ) from error

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Calibration:
        """A calibration from JSON values.

        Raises:
            InputError: A number is not finite.
        """
        numbers = {name: float(values[name]) for name in NUMBERS}
        if not all(map(math.isfinite, numbers.values())):
            raise InputError("holds a number that is not finite.")
        pairs = int(numbers.pop("pairs"))
        made = {n: values.get(n) for n in MADE}
        return cls(pairs=pairs, **numbers, **made)  # type: ignore[arg-type]

    @classmethod
    def shipped(cls, method: str, images: int, mapping_images: int) -> Calibration | None:
        """The package's own calibration of such a forecast, where it has one."""
        file = resources.files("reprogram.analysis") / SHIPPED
        if not file.is_file():
            return None
        values = json.loads(file.read_text(encoding="utf-8")).get(method)
        found = None if values is None else cls.of(values | {"method": method})
        return found if found and not found.mismatch(method, images, mapping_images) else None

    def require(self, method: str, images: int, mapping_images: int) -> None:
        """Refuse a forecast that the fit was not made for.

        Raises:
            InputError: Another method, or other numbers of images.
        """
        if other := self.mismatch(method, images, mapping_images):
            raise InputError(
                f"the calibration was made for {other}: it says nothing about this forecast. "
                "Ask for the same, or give the calibration of another reprogram ntk-study."
            )

    def mismatch(self, method: str, images: int, mapping_images: int) -> str:
        """What differs from a forecast, with the calibration's own value; "" where nothing does."""
        asked = {"method": method, "images": images, "mapping_images": mapping_images}
        own = {name: getattr(self, name) for name in asked}
        return ", ".join(
            f"--{name.replace('_', '-')} {own[name]} (not {value})"
            for name, value in asked.items()
            if own[name] not in (None, value)
        )

    @property
    def weighed(self) -> list[str]:
        """The parts that the prediction rests on, in words."""
        return [words for name, words in _WORDS.items() if getattr(self, name)]

    def accuracy(self, parts: Mapping[str, float]) -> float:
        """The calibrated accuracy, in [0, 1]."""
        value = self.intercept + sum(getattr(self, name) * parts[name] for name in PARTS)
        return min(1.0, max(0.0, value))
