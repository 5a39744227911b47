"""LogME: how well a Bayesian linear model on the features explains the labels."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.transferability.inputs import checked

__all__ = ["logme", "max_log_evidence"]

_ITERATIONS = 200
_TINY = 1e-12


def logme(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
    """Mean over classes of the largest log evidence per example (You et al. 2021, ICML).

    For each class, y in {0, 1} is regressed on the features, w ~ N(0, I / alpha) and
    y ~ N(F w, I / beta); alpha and beta maximise the evidence p(y | F, alpha, beta).

    Args:
        features: Of the target's images, from the source.
        labels: Their classes; absent ones are left out of the mean.

    Returns:
        Nats per example; higher is better.
    """
    F, y = checked(features, labels)
    U, singular, _ = torch.linalg.svd(F, full_matrices=False)
    values = singular.square()
    total = 0.0
    classes = y.unique()
    for c in classes:
        target = (y == c).to(F)
        total += max_log_evidence(values, U.T @ target, float(target.sum()), len(F), F.shape[1])
    return total / len(classes) / len(F)


def max_log_evidence(
    values: Float[Tensor, " r"],
    projected: Float[Tensor, " r"],
    squared_norm: float,
    n: int,
    d: int,
) -> float:
    """The largest log p(y | F, alpha, beta) over alpha and beta, by MacKay's fixed point.

    Args:
        values: Eigenvalues of F^T F, r = min(n, d) of them.
        projected: U^T y, U the left singular vectors of F.
        squared_norm: |y|^2.
        n: Examples.
        d: Features.
    """
    outside = max(squared_norm - float(projected.square().sum()), 0.0)
    alpha = beta = 1.0
    best = previous = -math.inf
    for _ in range(_ITERATIONS):
        shrunk = beta * values / (alpha + beta * values)
        weights = float((shrunk.square() * projected.square() / values.clamp(min=_TINY)).sum())
        error = float(((1 - shrunk) * projected).square().sum()) + outside
        evidence = 0.5 * (
            n * math.log(beta / (2 * math.pi)) + d * math.log(alpha) - beta * error
            - alpha * weights - float(torch.log(alpha + beta * values).sum())
            - (d - len(values)) * math.log(alpha)
        )  # fmt: skip
        best = max(best, evidence)
        if abs(evidence - previous) < 1e-10 * n:
            break
        previous = evidence
        gamma = float(shrunk.sum())  # parameters that the data determine
        alpha = max(gamma, _TINY) / max(weights, _TINY)
        beta = max(n - gamma, _TINY) / max(error, _TINY)
    return best
