"""Batches in parts where a GPU's memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.data.augmentation import Draw
from reprogram.data.batches import Batch
from reprogram.engine.base import Engine
from reprogram.errors import InputError
from reprogram.model import Reprogrammed

__all__ = ["Parts", "SplittingEngine", "explaining_single_images", "uses_batch_statistics"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Parts:
    """How many images at once fit the memory, found out by failing.

    Attributes:
        size: Images of a part; None until memory first ran out.
    """

    def __init__(self) -> None:
        self.size: int | None = None

    def run(self, batch: Batch, attempt: Callable[[list[Batch]], T], split: bool = True) -> T:
        """`attempt` on the batch in parts; anew on halves of them where memory runs out.

        Args:
            batch: Any batch, an empty one included.
            attempt: Computes on all parts from the start, leaving nothing of a failed attempt.
            split: Whether the parts of a batch together are the batch.

        Raises:
            InputError: Memory ran out on one image, or on a batch that must not be split.
        """
        while True:
            try:
                return attempt(list(_split(batch, self.size)))
            except torch.OutOfMemoryError as error:
                size = min(self.size or len(batch.index), len(batch.index))
                message = _refusal(size, split)
                if message:
                    raise InputError(message) from error
            # Outside of the handler, whose traceback still holds the failed attempt's tensors.
            self.size = (size + 1) // 2
            logger.warning("out of memory on %d images: going on with %d at once", size, self.size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class SplittingEngine(Engine):
    """Another engine, which answers in parts where nothing is trained and memory runs out.

    A training step keeps its parts' graphs until each was propagated, so it is split around the
    backward pass: by `Parts.run` in the training loop.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.name
        self._parts = Parts()

    def outputs(self, model: Reprogrammed, batch: Batch) -> Float[Tensor, "batch source"]:
        if torch.is_grad_enabled():
            return self.engine.outputs(model, batch)

        def attempt(parts: list[Batch]) -> Tensor:
            return torch.cat([self.engine.outputs(model, part) for part in parts])

        return self._parts.run(batch, attempt)


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether an image's result depends on the others of its batch.

    >>> uses_batch_statistics(nn.BatchNorm2d(3)), uses_batch_statistics(nn.BatchNorm2d(3).eval())
    (True, False)
    """
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return any(norm.training or norm.running_mean is None for norm in norms)


@contextmanager
def explaining_single_images(batch: int, batch_size: int) -> Iterator[None]:
    """Say what is wrong where BatchNorm has one value a channel to normalise.

    Args:
        batch: Images of the batch.
        batch_size: That the run was asked for.

    Raises:
        InputError: In place of torch's ValueError.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"a batch of {batch} image (the rest of an epoch in batches of {batch_size}) leaves "
            "BatchNorm one value a channel, on maps of one pixel. Choose another batch_size."
        ) from error


def _split(batch: Batch, size: int | None) -> Iterator[Batch]:
    if size is None or size >= len(batch.index):
        yield batch
        return
    for start in range(0, len(batch.index), size):
        part = slice(start, start + size)
        draw = Draw(*(values[part] for values in batch.draw)) if batch.draw else None
        yield Batch(batch.split, batch.index[part], draw)


def _refusal(size: int, split: bool) -> str:
    """Why fewer images at once will not do; "" where they may."""
    if not split:
        return (
            f"out of memory at batch_size={size}, and BatchNorm in train mode couples the images "
            "of a batch, so splitting it would change the result. Use a smaller batch_size."
        )
    if size <= 1:
        return "out of memory on one image. Use a smaller source, or --device cpu."
    return ""
