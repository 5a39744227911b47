"""The plain pass through a folded copy of the source: no BatchNorm, channels_last, no weight gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.data.batches import ResidentData
from reprogram.engine.folding import fold
from reprogram.engine.plain import PlainEngine
from reprogram.model import Reprogrammed
from reprogram.sources import NetworkSource, Source

__all__ = ["FoldedEngine", "folded_source", "is_frozen_network"]


def is_frozen_network(source: Source) -> bool:
    """Whether the source is a network whose weights no training changes."""
    frozen = not any(p.requires_grad for p in source.parameters())
    return isinstance(source, NetworkSource) and frozen


def folded_source(source: Source) -> NetworkSource:
    """A copy of a frozen source that computes the same with fewer operations."""
    assert isinstance(source, NetworkSource)
    return NetworkSource(
        fold(source.network).network, mean=source.mean, std=source.std,
        image_size=source.image_size, class_names=source.class_names, name=source.name,
        head=source.head,
    )  # fmt: skip


class FoldedEngine(PlainEngine):
    """Calls the model with its source replaced by the folded copy."""

    name = "folded"

    def __init__(
        self, model: Reprogrammed, data: ResidentData, device: torch.device, precision: str
    ) -> None:
        super().__init__(data, device, precision)
        self.source = folded_source(model.source)

    def forward(self, model: Reprogrammed, x: Tensor) -> Float[Tensor, "batch source"]:
        z = model.input_transform(x)
        return self.source.features(z) if model.mapping.reads == "features" else self.source(z)
