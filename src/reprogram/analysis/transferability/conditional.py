"""Scores of a source's predictions: what its classes say about the target's."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.transferability.inputs import checked, class_table
from reprogram.errors import InputError

__all__ = ["leep", "nce"]


def leep(probabilities: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> float:
    """LEEP, the log expected empirical prediction (Nguyen et al. 2020, ICML).

    With the empirical joint P(y, z) of labels and source classes, the mean over the examples of
    log sum_z P(y_i | z) theta(x_i)_z.

    Args:
        probabilities: theta(x), softmax outputs of the source.
        labels: Target classes.

    Returns:
        Nats, at most 0; higher is better.

    Raises:
        InputError: Rows that are no probabilities.
    """
    theta, y = checked(probabilities, labels)
    if (theta < 0).any() or not torch.allclose(theta.sum(1), theta.new_ones(()), atol=1e-4):
        raise InputError("probabilities must be at least 0 with sum 1. Take the softmax of logits.")
    one_hot, _ = class_table(y)
    joint = one_hot.T @ theta  # joint[t, s]: n times P(y = t, z = s)
    conditional = joint / joint.sum(0).clamp(min=torch.finfo(joint.dtype).tiny)
    expected = ((theta @ conditional.T) * one_hot).sum(1)
    return float(expected.log().mean())


def nce(probabilities: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> float:
    """Negative conditional entropy -H(Y | Z) (Tran et al. 2019, ICCV).

    Z is the source class of the largest probability, as Nguyen et al. (2020) use it where the
    source's own labels of the target images are not known.

    Args:
        probabilities: Softmax outputs of the source, or its logits.
        labels: Target classes.

    Returns:
        Nats, at most 0; higher is better.
    """
    values, y = checked(probabilities, labels)
    one_hot, _ = class_table(y)
    dummy, _ = class_table(values.argmax(1))
    joint = one_hot.T @ dummy / len(y)  # joint[t, s] = P(y = t, z = s)
    return float(torch.xlogy(joint, joint / joint.sum(0)).sum())
