"""The plain pass through a folded copy of the source: no BatchNorm, channels_last, no weight gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.data.batches import ResidentData
from reprogram.engine.first_convolution import first_convolution
from reprogram.engine.folding import fold
from reprogram.engine.plain import PlainEngine
from reprogram.input_transforms import SharedPrompt
from reprogram.model import Reprogrammed
from reprogram.sources import NetworkSource, Source

__all__ = ["FoldedEngine", "folded_source", "for_inference", "is_frozen_network"]


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
    ).to(source.mean)  # fmt: skip


def for_inference(source: Source) -> Source:
    """The folded copy of a frozen network; any other source as it is."""
    return folded_source(source) if is_frozen_network(source) else source


class FoldedEngine(PlainEngine):
    """Calls the model with its source replaced by the folded copy.

    Where all images share one prompt p, the first convolution of a training pass is
    conv(place(x) + p) = conv(place(x)) + W * p: its input gradient, the dearest of all layers, is
    needed for the batch's sum only, at the cost of one image.
    """

    name = "folded"

    def __init__(
        self, model: Reprogrammed, data: ResidentData, device: torch.device, precision: str
    ) -> None:
        super().__init__(data, device, precision)
        self.source = folded_source(model.source)
        self._first = first_convolution(self.source.network)

    def forward(self, model: Reprogrammed, x: Tensor) -> Float[Tensor, "batch source"]:
        transform = model.input_transform
        if (
            self._first is not None
            and isinstance(transform, SharedPrompt)
            and transform.shared
            and torch.is_grad_enabled()
        ):
            placed = transform.place(transform.check(x))
            return self._with_prompt(model, placed, transform.prompt(), self._first)
        return self._read(model, transform(x))

    def _read(self, model: Reprogrammed, z: Tensor) -> Tensor:
        return self.source.features(z) if model.mapping.reads == "features" else self.source(z)

    def _with_prompt(
        self, model: Reprogrammed, placed: Tensor, prompt: Tensor, first: nn.Conv2d
    ) -> Tensor:
        # (place(x) + p - mean) / std = (place(x) - mean) / std + p / std
        response = first((prompt / self.source.std)[None])
        if first.bias is not None:
            response = response - first.bias[:, None, None]

        def add_response(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output.add_(response)

        handle = first.register_forward_hook(add_response)
        try:
            return self._read(model, placed)
        finally:
            handle.remove()
