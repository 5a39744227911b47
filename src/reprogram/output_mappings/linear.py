"""Trained linear mappings, on the source's logits or on its features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Generator, Tensor, nn

from reprogram.initial import drawn
from reprogram.output_mappings.base import OutputMapping

__all__ = ["HeadMapping", "LinearMapping"]


class LinearMapping(OutputMapping):
    """Linear(S, T) on the source's logits (`linear`), trained by gradient.

    With a prompt it is a fully connected label mapping (FullyMap of AutoVP, 2024); without one it
    is the experiment report's linear probe.

    Args:
        num_source_classes: S.
        num_target_classes: T; it may exceed S.
        generator: Draws weight and bias (PyTorch's default initialisation).

    Attributes:
        linear: The layer.
    """

    def __init__(
        self, num_source_classes: int, num_target_classes: int, *, generator: Generator
    ) -> None:
        super().__init__(num_source_classes, num_target_classes)
        layer = nn.Linear(num_source_classes, num_target_classes, device="meta")
        self.linear = drawn(layer, generator)

    @property
    def matrix(self) -> Float[Tensor, "source target"]:
        return self.linear.weight.detach().T

    def forward(self, outputs: Float[Tensor, "batch source"]) -> Float[Tensor, "batch target"]:
        return self.linear(outputs)


class HeadMapping(LinearMapping):
    """Linear(d, T) on the source's penultimate features: a new classification head.

    Args:
        num_features: d, which takes the place of S.
        num_target_classes: T.
        generator: Draws weight and bias (PyTorch's default initialisation).

    Attributes:
        linear: The layer.
    """

    reads = "features"

    def __init__(self, num_features: int, num_target_classes: int, *, generator: Generator) -> None:
        super().__init__(num_features, num_target_classes, generator=generator)
