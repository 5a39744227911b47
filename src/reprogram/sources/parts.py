"""What a loader hands over before a source is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from reprogram.sources.base import NetworkSource

__all__ = ["Parts"]


@dataclass
class Parts:
    """The arguments of a :class:`NetworkSource`, which a caller may still override."""

    network: nn.Module
    name: str
    head: str | None
    mean: float | Sequence[float] | Tensor
    std: float | Sequence[float] | Tensor
    image_size: int
    class_names: Sequence[str]

    def source(self) -> NetworkSource:
        return NetworkSource(**vars(self))
