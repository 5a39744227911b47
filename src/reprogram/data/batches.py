"""Resident images and the batches drawn from them.

Images lie in memory as uint8, resized once. A batch names images and what augmentation does to
them; whoever computes on it (an engine) renders it or answers from something stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from reprogram.data.augmentation import Augmentation, Draw
from reprogram.data.task import Split
from reprogram.seeds import generator_for

__all__ = ["Batch", "ResidentData", "epoch_batches", "in_order"]


@dataclass(frozen=True)
class Batch:
    """Images by index into a split; `draw` is None where they are seen as they are."""

    split: str
    index: Int[Tensor, " batch"]
    draw: Draw | None = None


class ResidentData:
    """The images of a task at the sizes that one model needs.

    Args:
        splits: Splits by name; "train" holds every training image, of which a run uses some.
        size: Side s of the images that the model takes, pixels.
        augmentation: Of training batches.
    """

    def __init__(self, splits: dict[str, Split], size: int, augmentation: Augmentation) -> None:
        self.splits, self.size, self.augmentation = splits, size, augmentation
        self.labels = {name: torch.from_numpy(split.labels) for name, split in splits.items()}

    def images(self, split: str, margin: int = 0) -> UInt8[Tensor, "n 3 s s"]:
        return self.splits[split].images(self.size + margin)

    def render(self, batch: Batch) -> Float[Tensor, "batch 3 s s"]:
        """The batch's pixels in [0, 1], freshly made."""
        if batch.draw is None:
            pixels = self.images(batch.split)[batch.index]
        else:
            stored = self.images(batch.split, self.augmentation.margin)[batch.index]
            pixels = self.augmentation.render(stored, batch.draw)
        return pixels.float().div_(255)


@dataclass(frozen=True)
class BatchPlan:
    """How a run walks through its training images; equal for every method of a trial."""

    index: Tensor
    batch_size: int
    augmentation: Augmentation
    target: str
    seed: int


def epoch_batches(plan: BatchPlan, epoch: int) -> Iterator[Batch]:
    """Shuffled training batches of one epoch. The seed omits the method, so methods are paired."""
    order = generator_for("order", plan.target, plan.seed, epoch)
    draws = generator_for("augment", plan.target, plan.seed, epoch)
    shuffled = plan.index[torch.randperm(len(plan.index), generator=order)]
    for index in shuffled.split(plan.batch_size):
        draw = None
        if not plan.augmentation.is_identity:
            draw = plan.augmentation.draw(len(index), draws)
        yield Batch("train", index, draw)


def in_order(split: str, index: Tensor, batch_size: int) -> Iterator[Batch]:
    """Un-augmented batches in the order of `index`."""
    for part in index.split(batch_size):
        yield Batch(split, part)
