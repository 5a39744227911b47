"""Folding changes neither what a network computes nor the caller's network."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from engine_networks import randomise_batchnorm, small_vgg11
from torch import Tensor, nn

from reprogram.engine.folding import fold
from reprogram.sources.networks import cifar_resnet20

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar_resnet20": cifar_resnet20,
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(weights=None),
    "vgg11_bn": small_vgg11,
    "timm mobilenetv2_100 same": lambda: timm.create_model("mobilenetv2_100", pad_type="same"),
}


def norms(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_network_computes_the_same(name: str) -> None:
    network = randomise_batchnorm(NETWORKS[name]().double())
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, found = network(x), folded.network(x)
    assert folded.reason == ""
    assert folded.layers == len(norms(network)) > 0
    assert norms(folded.network) == []
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_folded_network_is_frozen_and_channels_last() -> None:
    network = cifar_resnet20().eval()
    folded = fold(network).network
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(p.requires_grad for p in network.parameters())
    assert not folded.training
    weight = folded.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


class Shared(nn.Module):
    """One BatchNorm after two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(self.norm(self.a(x))))


class TwoReaders(nn.Module):
    """A convolution that BatchNorm and a sum read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.norm(x)


class Standardised(nn.Conv2d):
    """A convolution whose forward rescales its weight."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight / self.weight.std(), self.bias)


class Squashed(nn.BatchNorm2d):
    """A BatchNorm whose forward does more."""

    def forward(self, input: Tensor) -> Tensor:
        return 3 * torch.tanh(super().forward(input))


def hooked() -> nn.Module:
    """A BatchNorm whose result a hook changes."""
    norm = nn.BatchNorm2d(4)
    norm.register_forward_hook(lambda module, args, result: result + 1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm)


class Branching(nn.Module):
    """A forward pass that torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize(
    "network",
    [
        Shared(),
        TwoReaders(),
        nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), Squashed(4)),
        hooked(),
    ],
    ids=[
        "shared",
        "two readers",
        "standardised",
        "batch statistics",
        "activation between",
        "forward of its own",
        "hook",
    ],  # fmt: skip
)
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    network = randomise_batchnorm(network.double())
    folded = fold(network)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    assert folded.layers == 0
    assert torch.allclose(folded.network(x), network(x), rtol=1e-12, atol=1e-12)


def test_a_network_that_cannot_be_traced_is_returned_unfolded_with_the_reason() -> None:
    network = randomise_batchnorm(Branching().double())
    folded = fold(network)
    x = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    assert folded.layers == 0
    assert "Branching" in folded.reason
    assert torch.allclose(folded.network(x), network(x), rtol=1e-12, atol=1e-12)
