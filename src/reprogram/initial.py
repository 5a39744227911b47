"""Layers that start from an explicit generator."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Generator, nn

__all__ = ["drawn"]

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def drawn(layer: Layer, generator: Generator) -> Layer:
    """The layer, redrawn with PyTorch's default initialisation from a generator of one's own.

    Weights and biases are uniform in +-1/sqrt(fan_in), which is what `reset_parameters` of both
    layers draws from the global generator.

    Args:
        layer: Best made on the "meta" device: then nothing is drawn twice.
        generator: A CPU generator.

    Returns:
        The same layer, on the CPU.
    """
    layer.to_empty(device="cpu")
    bound = layer.weight[0].numel() ** -0.5  # fan_in: inputs of one output
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
