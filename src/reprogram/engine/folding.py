"""BatchNorm in eval mode is affine, so it folds into the convolution in front of it."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reprogram.engine.tracing import Untraceable, trace

__all__ = ["Folded", "fold", "fold_batchnorm"]


class Folded(NamedTuple):
    """A frozen channels_last copy of a network and how many BatchNorms were folded in it."""

    network: nn.Module
    layers: int
    reason: str


def fold(network: nn.Module) -> Folded:
    """A frozen copy of an eval-mode network with BatchNorm folded into its convolutions.

    A convolution and the BatchNorm that alone reads it,
    gamma (W x + b - mu) / sqrt(var + eps) + beta, become one convolution with weight
    gamma W / sqrt(var + eps) and bias gamma (b - mu) / sqrt(var + eps) + beta. Module names stay
    as they are; a folded BatchNorm is an identity, or its own activation where it has one.

    Args:
        network: Any module in eval mode; it is not changed.

    Returns:
        The copy (channels_last, no gradients), the number of folded BatchNorms and, where the
        network cannot be traced, the reason why nothing was folded ("" otherwise).

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> fold(net).layers
    1
    """
    folded = copy.deepcopy(network).requires_grad_(False)
    reason, pairs = "", []
    try:
        pairs = _pairs(folded)
    except Untraceable as error:
        reason = str(error)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        fold_batchnorm(conv, norm)
        _replace(folded, norm_name, _after(norm))
    return Folded(folded.to(memory_format=torch.channels_last), len(pairs), reason)


@torch.no_grad()
def fold_batchnorm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give `conv` the weight and bias of `norm(conv(.))`, computed in float64 on the CPU."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.cpu().double() + norm.eps).rsqrt()
    shift = -norm.running_mean.cpu().double()
    if conv.bias is not None:
        shift = shift + conv.bias.cpu().double()
    if norm.affine:
        scale = scale * norm.weight.cpu().double()
    shift = shift * scale
    if norm.affine:
        shift = shift + norm.bias.cpu().double()
    weight = conv.weight.cpu().double() * scale[:, None, None, None]
    conv.weight = _frozen(weight, conv.weight)
    conv.bias = _frozen(shift, conv.weight)


def _frozen(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like.device, like.dtype), requires_grad=False)


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of (convolution, BatchNorm) that are called once, one on the other's result alone."""
    graph = trace(network)
    modules = dict(network.named_modules(remove_duplicate=False))
    calls: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            identity = id(modules[str(node.target)])
            calls[identity] = calls.get(identity, 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not _foldable(modules[str(node.target)]):
            continue
        (before,) = node.all_input_nodes
        if before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if calls[id(conv)] == calls[id(norm)] == 1 and _plain_weight(conv):
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _foldable(module: nn.Module) -> bool:
    return is_batchnorm(module) and not module._forward_hooks and not module._forward_pre_hooks


@torch.no_grad()
def is_batchnorm(module: object) -> bool:
    """Whether an eval-mode module is BatchNorm, or timm's with an activation behind it.

    A class with a `forward` of its own is called to see what it does.
    """
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return False
    if type(module).forward is nn.BatchNorm2d.forward:
        return True
    if module.running_mean.is_meta:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, module.num_features, 4, 4), generator=generator).to(module.running_mean)
    plain = nn.functional.batch_norm(
        x, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps
    )
    return torch.allclose(module(x), _after(module)(plain), rtol=1e-4, atol=1e-5)


def _plain_weight(module: nn.Module) -> bool:
    """Whether the layer is linear in its `weight` and adds its `bias`, checked by calling it."""
    if not isinstance(module, nn.Conv2d) or module.weight.is_meta or module._forward_hooks:
        return False
    if type(module).forward is nn.Conv2d.forward:
        return not nn.utils.parametrize.is_parametrized(module) and not module._forward_pre_hooks
    probe = copy.deepcopy(module)
    shape = (1, module.in_channels, 32, 32)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(module.weight)
    before = probe(x)
    # Doubling weight and bias doubles the result of a convolution, not of a standardised one.
    probe.weight.mul_(2)
    if probe.bias is not None:
        probe.bias.mul_(2)
    return torch.allclose(probe(x), 2 * before, rtol=1e-4, atol=1e-5)


def _after(norm: nn.BatchNorm2d) -> nn.Module:
    """What a folded BatchNorm leaves: nothing, or timm's dropout and activation after it."""
    rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    return nn.Sequential(*rest).eval() if rest else nn.Identity().eval()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
