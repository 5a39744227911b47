"""Networks and the plain forward pass that tests of the engine compare with."""

from __future__ import annotations

from torch import Tensor, nn


def randomise_batchnorm(network: nn.Module) -> nn.Module:
    """Eval mode with BatchNorm statistics and weights that do something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            values = [module.weight, module.bias, module.running_mean, module.running_var]
            for value, low in zip(values, (0.5, -0.2, -0.2, 0.5), strict=True):
                if value is not None:
                    value.data.uniform_(low, low + (1.0 if low > 0 else 0.4))
    return network.eval()


def paste(background: Tensor, patches: Tensor, top: int, left: int) -> Tensor:
    """Every image on a copy of the background of its own: what the plain engine computes on."""
    canvas = background.expand(len(patches), -1, -1, -1).clone()
    size = patches.shape[-1]
    canvas[:, :, top : top + size, left : left + size] = patches
    return canvas
