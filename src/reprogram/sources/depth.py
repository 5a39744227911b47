"""The NTK paper's sources of growing depth (arXiv 2506.00620): DNN, CNN, VGG- and ResNet-style.

"cnn-3" is the CNN of level 3. None has BatchNorm. Weights start as N(0, 2 / fan_in) and biases as
N(0, 0.1), both variances, so that a network at initialisation is the kernel literature's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["DEPTH_NETWORKS", "DepthNetwork", "depth_arguments", "depth_network"]

LEVELS = range(1, 10)  # those of the paper's code
BIAS_VARIANCE = 0.1
VGG_GROUPS, VGG_CHANNELS = 3, 512  # at most


@dataclass(frozen=True)
class Kind:
    """How one of the four is built, its published width and the smallest image it can pool."""

    body: Callable[[int, int, int, int], tuple[list[nn.Module], int]]
    width: int
    image_size: int


class DepthNetwork(nn.Module):
    """A body of a given depth, then a linear layer.

    Args:
        body: Layers from images or maps to (batch, features).
        features: Width of what the linear layer reads.
        num_classes: Number of logits.
    """

    def __init__(self, body: list[nn.Module], features: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.linear = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                initialise(module)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch classes"]:
        return self.linear(self.body(x))


class PreActivationBlock(nn.Module):
    """x' = shortcut(x) + conv(relu(conv(relu(x)))); the shortcut is 1 x 1 where channels change."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3(in_channels, channels), conv3(channels, channels)
        same = in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h w"]:
        return self.shortcut(x) + self.conv2(torch.relu(self.conv1(torch.relu(x))))


def initialise(layer: nn.Conv2d | nn.Linear) -> None:
    """Weights N(0, 2 / fan_in) and biases N(0, 0.1) from torch's global generator."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=(2 / fan_in) ** 0.5)
    assert layer.bias is not None
    nn.init.normal_(layer.bias, std=BIAS_VARIANCE**0.5)


def conv3(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, padding=1)


def conv_stack(in_channels: int, channels: int, count: int) -> list[nn.Module]:
    """`count` times a 3 x 3 convolution and a ReLU."""
    inputs = [in_channels, *[channels] * (count - 1)]
    return [layer for c in inputs for layer in (conv3(c, channels), nn.ReLU())]


def pooled(layers: list[nn.Module]) -> list[nn.Module]:
    """Layers, then the mean over the map."""
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def dnn(level: int, width: int, size: int, channels: int) -> tuple[list[nn.Module], int]:
    """Level L has L linear layers, the last one included: level 1 is linear in the image."""
    inputs = [channels * size**2, *[width] * (level - 1)]
    layers = [
        layer
        for a, b in zip(inputs[:-1], inputs[1:], strict=True)
        for layer in (nn.Linear(a, b), nn.ReLU())
    ]
    return [nn.Flatten(), *layers], inputs[-1]


def cnn(level: int, width: int, size: int, channels: int) -> tuple[list[nn.Module], int]:
    """L convolutions, average pool 2, global pool."""
    return pooled([*conv_stack(channels, width, level), nn.AvgPool2d(2)]), width


def vgg(level: int, width: int, size: int, channels: int) -> tuple[list[nn.Module], int]:
    """Groups of L convolutions and an average pool 2; the width doubles, up to 512."""
    groups = min(VGG_GROUPS, size.bit_length() - 1)  # a map of 7 px can be halved twice
    widths = [max(width, min(width << g, VGG_CHANNELS)) for g in range(groups)]
    layers = [
        layer
        for a, b in zip([channels, *widths], widths, strict=False)
        for layer in (*conv_stack(a, b, level), nn.AvgPool2d(2))
    ]
    return pooled(layers), widths[-1]


def resnet(level: int, width: int, size: int, channels: int) -> tuple[list[nn.Module], int]:
    """Conv 7 x 7 stride 2, average pool, then L pre-activation blocks of twice the width."""
    inputs = [width, *[2 * width] * (level - 1)]
    stem = [
        nn.Conv2d(channels, width, 7, stride=2, padding=3),
        nn.AvgPool2d(3 if size > 32 else 2, stride=2),
    ]
    blocks = [PreActivationBlock(c, 2 * width) for c in inputs]
    return pooled([*stem, *blocks, nn.AvgPool2d(2)]), 2 * width


KINDS: dict[str, Kind] = {
    "dnn": Kind(dnn, 2048, 1),
    "cnn": Kind(cnn, 512, 2),
    "vgg": Kind(vgg, 32, 2),
    "resnet": Kind(resnet, 32, 7),
}

DEPTH_NETWORKS: dict[str, tuple[Kind, int]] = {
    f"{name}-{level}": (kind, level) for name, kind in KINDS.items() for level in LEVELS
}


def depth_arguments(
    name: str, width: int | None = None, image_size: int = 32, channels: int = 3
) -> dict[str, int]:
    """The arguments of :func:`depth_network` in full, as a source directory keeps them.

    >>> depth_arguments("cnn-3")
    {'width': 512, 'image_size': 32, 'channels': 3}
    """
    width = DEPTH_NETWORKS[name][0].width if width is None else width
    return {"width": width, "image_size": image_size, "channels": channels}


def depth_network(
    name: str,
    num_classes: int,
    *,
    width: int | None = None,
    image_size: int = 32,
    channels: int = 3,
) -> DepthNetwork:
    """A depth network, initialised from torch's global generator.

    Args:
        name: In DEPTH_NETWORKS.
        num_classes: Number of logits.
        width: Units or channels of its first layer; None is the paper's.
        image_size: Side of its square input, pixels or positions of a map.
        channels: Of its input.

    Raises:
        ValueError: The width or the channels are below 1, or the input is too small to be pooled.

    >>> depth_network("dnn-2", 10, width=8, image_size=4).linear.in_features
    8
    """
    kind, level = DEPTH_NETWORKS[name]
    width = kind.width if width is None else width
    if width < 1 or channels < 1 or image_size < kind.image_size:
        raise ValueError(
            f"width and channels must be at least 1 and image_size at least {kind.image_size}, "
            f"got {width}, {channels} and {image_size}."
        )
    body, features = kind.body(level, width, image_size, channels)
    return DepthNetwork(body, features, num_classes)
