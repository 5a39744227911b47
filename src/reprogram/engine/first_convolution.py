"""The convolution that alone reads a network's input."""

from __future__ import annotations

import torch
from torch import nn

from reprogram.engine.tracing import Untraceable, trace

__all__ = ["first_convolution"]


def first_convolution(network: nn.Module) -> nn.Conv2d | None:
    """The convolution that every path from the input to the output begins with, or None.

    It is called once and is affine in its input, which is checked by calling it.

    Args:
        network: A frozen module in eval mode.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    >>> first_convolution(net) is net[0]
    True
    """
    try:
        graph = trace(network)
    except Untraceable:
        return None
    modules = dict(network.named_modules(remove_duplicate=False))
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    readers = [user for node in graph.nodes if node.op == "placeholder" for user in node.users]
    if len(readers) != 1 or readers[0].op != "call_module":
        return None
    first = modules[str(readers[0].target)]
    once = sum(module is first for module in called) == 1
    return first if isinstance(first, nn.Conv2d) and once and _is_affine(first) else None


@torch.no_grad()
def _is_affine(conv: nn.Conv2d) -> bool:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1, conv.in_channels, 32, 32, generator=generator).to(conv.weight)
    try:
        found = conv(a + b) + conv(torch.zeros_like(a))
        return torch.allclose(found, conv(a) + conv(b), rtol=1e-4, atol=1e-4)
    except RuntimeError:  # a kernel of more than 32 pixels
        return False
