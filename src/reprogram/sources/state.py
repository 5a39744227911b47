"""Facts about a network's tensors: their fingerprint, bitwise equality, finite values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reprogram.errors import InputError

__all__ = ["fingerprint_of", "require_finite", "same_bits", "tensors_of"]


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state_dict; extra state of other kinds is left out."""
    return {k: v for k, v in network.state_dict().items() if isinstance(v, Tensor)}


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """sha256 over the sorted (name, shape, float32 bytes), whatever file format they came from.

    >>> w = torch.tensor([0.5, -2.0])
    >>> fingerprint_of({"w": w}) == fingerprint_of({"w": w.half()})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}\0{tuple(value.shape)}\0".encode())
        digest.update(value.numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same bytes; 0.0 and -0.0 differ, a NaN equals itself.

    >>> same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    False
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    left, right = (t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(left, right)


def require_finite(network: nn.Module, name: str) -> None:
    """Refuse weights that hold NaN or inf.

    Raises:
        InputError: Names the first such tensor.
    """
    weights = {k for k, _ in network.named_parameters(remove_duplicate=False)}
    for key, value in tensors_of(network).items():
        if not value.is_floating_point():
            continue
        bad = ~torch.isfinite(value)
        if key not in weights:
            bad &= ~torch.isneginf(value)  # attention masks are buffers that hold -inf on purpose
        if bad.any():
            raise InputError(
                f"source {name!r}: tensor {key!r} holds NaN or inf in {int(bad.sum())} of "
                f"{value.numel()} values. Finite weights are needed: load another file, or train "
                "it again with a lower rate."
            )
