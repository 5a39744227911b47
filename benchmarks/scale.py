"""How large the measurements are: the documented ones, and small ones for a first look."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Sizes that every row shares.

    Args:
        batch: Images a step.
        images: Training images of the rows that measure epochs.
        val_images: Validation images of those rows.
        epochs: Epochs of a probe.
        repetitions: Runs of each side; the fastest counts.
        canvas: Side of the source's images, pixels.
        classes: T, of the target.
    """

    batch: int = 128
    images: int = 256
    val_images: int = 64
    epochs: int = 50
    repetitions: int = 3
    canvas: int = 224
    classes: int = 10


FULL = Scale()
QUICK = Scale(batch=4, images=8, val_images=2, repetitions=2, classes=2)
