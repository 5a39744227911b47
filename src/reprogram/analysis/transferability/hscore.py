"""H-score: how much of the features' spread lies between the classes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.transferability.inputs import checked, class_table

__all__ = ["h_score", "h_score_shrunk", "ledoit_wolf_shrinkage"]


def h_score(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
    """tr(cov(f)^-1 cov(E[f | y])) (Bao et al. 2019, ICIP).

    Args:
        features: f(x).
        labels: Target classes.

    Returns:
        Between 0 and the smaller of d and the number of classes minus 1; higher is better. The
        pseudo-inverse stands for the inverse where n <= d: then the score is nearly its maximum,
        whatever the features are.
    """
    total, between, _ = _covariances(features, labels)
    return float((torch.linalg.pinv(total, hermitian=True) * between).sum())


def h_score_shrunk(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
    """tr(S^-1 (1 - a) cov(E[f | y])), S = (1 - a) cov(f) + a mu I (Ibrahim et al. 2022).

    The shrinkage a is Ledoit and Wolf's, so that the score can be trusted where d is not far below n.

    Args:
        features: f(x).
        labels: Target classes.
    """
    total, between, centred = _covariances(features, labels)
    shrinkage = ledoit_wolf_shrinkage(centred)
    mu = total.diagonal().mean()
    shrunk = (1 - shrinkage) * total + shrinkage * mu * torch.eye(len(total), dtype=total.dtype)
    return float((torch.linalg.pinv(shrunk, hermitian=True) * between).sum() * (1 - shrinkage))


def ledoit_wolf_shrinkage(centred: Float[Tensor, "n d"]) -> float:
    """The share of mu I that makes the covariance estimate best in squared error, in [0, 1].

    Ledoit and Wolf (2004): b^2 / d^2 with d^2 = |S - mu I|^2 and b^2 the mean over the
    examples of |x x^T - S|^2 / n, both over the dimension.

    Args:
        centred: Features minus their mean.
    """
    n, _ = centred.shape
    S = centred.T @ centred / n
    spread = float((S - S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype)).square().sum())
    if spread == 0:
        return 0.0
    fourth = float(centred.square().sum(1).square().mean())  # mean |x x^T|^2
    return min((fourth - float(S.square().sum())) / n, spread) / spread


def _covariances(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"], Float[Tensor, "n d"]]:
    """Of the features, of their class means, and the centred features."""
    f, y = checked(features, labels)
    centred = f - f.mean(0)
    one_hot, sizes = class_table(y)
    means = one_hot.T @ centred / sizes[:, None]
    return centred.T @ centred / len(f), (means * sizes[:, None]).T @ means / len(f), centred
