"""Every transformation as algebra on the source sensitivities S at its own base point.

With S[i, c] = d logit c / d z of example i, a transformation z = g(x; theta) has the Jacobian
S dz/dtheta. The forms below are those of the transformations whose dz/dtheta is diagonal or a
Khatri-Rao product; each is a list of factors, and lists add up (MIX is two of them).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprogram.analysis.ntk.factor import Factor

__all__ = ["additive", "fc", "linear_mapping", "low_rank_fc", "mapped", "mix", "with_one"]


def additive(sensitivities: Float[Tensor, "n k *pixels"], slope: Float[Tensor, "*shape"]) -> Factor:
    """A prompt of one value a pixel, z = place(x) + prompt(delta): J = S diag(slope).

    Args:
        sensitivities: S.
        slope: d prompt / d delta, which broadcasts to a pixel's: m sigma'(delta) of `pad`, m std of
            `pad-raw`, `full` and `border`; times x for a prompt that scales the image.
    """
    return Factor((sensitivities * slope).flatten(2))


def fc(sensitivities: Float[Tensor, "n k *pixels"], x: Float[Tensor, "n *image"]) -> Factor:
    """A dense map z = W x + b: Theta(x, x') = (x^T x' + 1) S S'^T."""
    return Factor(sensitivities.flatten(2), with_one(x.flatten(1)))


def mix(
    sensitivities: Float[Tensor, "n k 3 H W"],
    x: Float[Tensor, "n *image"],
    slope: Float[Tensor, "3 H W"],
    border: Bool[Tensor, "H W"],
) -> list[Factor]:
    """A dense map inside a border, z = pad(W x + b) + m sigma(delta).

    Theta = S diag(m sigma'(delta))^2 S'^T + (x^T x' + 1) S diag(1 - m) S'^T: the linear layer acts
    through the window that the border leaves.

    Args:
        sensitivities: S.
        x: Images inside the border.
        slope: m sigma'(delta).
        border: m, true on the border.
    """
    window = sensitivities[..., ~border]
    return [additive(sensitivities, slope), fc(window, x)]


def low_rank_fc(
    sensitivities: Float[Tensor, "n k d"],
    x: Float[Tensor, "n d"],
    down: Float[Tensor, "r d"],
    up: Float[Tensor, "d r"],
) -> list[Factor]:
    """A dense map of low rank, z = (I + B A) x.

    Theta = (S S^T) o ((X A^T)(X A^T)^T (x) 1 1^T) + ((S B)(S B)^T) o (X X^T (x) 1 1^T), where the
    first term belongs to B and the second to A.

    Args:
        sensitivities: S.
        x: Flattened images.
        down: A.
        up: B.
    """
    return [Factor(sensitivities, x @ down.T), Factor(sensitivities @ up, x)]


def linear_mapping(
    outputs: Float[Tensor, "n source"], num_classes: int, *, bias: bool = True
) -> Factor:
    """A trained linear mapping adds (h h^T + 1) (x) I_K, h = what it reads.

    Args:
        outputs: h.
        num_classes: K.
        bias: Whether the mapping has one, which is the 1.
    """
    eye = torch.eye(num_classes, dtype=outputs.dtype, device=outputs.device)
    return Factor(eye.expand(len(outputs), -1, -1), with_one(outputs) if bias else outputs)


def mapped(
    kernel: Float[Tensor, "n1 source n2 source"], weight: Float[Tensor, "source target"]
) -> Float[Tensor, "n1 target n2 target"]:
    """The kernel behind a fixed mapping W from that of the source logits: (I (x) W^T) Theta (I (x) W)."""
    return torch.einsum("st,nsmu,uv->ntmv", weight, kernel, weight)


def with_one(inputs: Float[Tensor, "n q"]) -> Float[Tensor, "n q1"]:
    """[inputs, 1]: what a layer with a bias reads."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
