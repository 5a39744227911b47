"""Networks and the plain forward pass that tests of the engine compare with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers


def small_vgg11() -> nn.Module:
    """torchvision's vgg11_bn at a quarter of its width and with one linear layer."""
    widths = [n if isinstance(n, str) else n // 4 for n in cfgs["A"]]
    ending = (nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Dropout(), nn.Linear(128 * 49, 10))
    return nn.Sequential(make_layers(widths, batch_norm=True), *ending)


def calibrate(network: nn.Module) -> nn.Module:
    """BatchNorm statistics of random images, so that activations are as large as trained ones."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    like = next(network.parameters())
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64).to(like))
    return network.eval()


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
