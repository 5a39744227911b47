"""Accuracies of simple classifiers on features or logits, each on examples it was not fitted to."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.spectrum import leave_one_out, leave_one_out_accuracy
from reprogram.analysis.transferability.inputs import checked, class_table
from reprogram.errors import InputError

__all__ = ["linear_probe", "logistic_regression", "minus_unprompted", "nearest_centroid"]
__all__ += ["ridge_leave_one_out", "stratified_folds"]


def nearest_centroid(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
    """Share of examples nearest to their own class's mean, taken without themselves.

    Leaving x out moves its class's mean away from it: x - mean' = (x - mean) m / (m - 1) for m
    examples. The only example of a class has no centroid and counts as wrong.

    Args:
        features: Distances in them are Euclidean.
        labels: Target classes.
    """
    f, y = checked(features, labels)
    one_hot, sizes = class_table(y)
    centroids = one_hot.T @ f / sizes[:, None]
    distances = torch.cdist(f, centroids)
    moved = torch.where(sizes > 1, sizes / (sizes - 1), torch.inf)
    own = one_hot.bool()
    lone = (own & (sizes == 1)).any(1)
    distances = torch.where(own, distances * moved, distances)
    right = distances.argmin(1) == one_hot.argmax(1)
    return float((right & ~lone).double().mean())


def ridge_leave_one_out(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], rho: float = 1e-3
) -> float:
    """Leave-one-out accuracy of ridge regression of one-hot labels, in closed form.

    The linear kernel of the standardised features with a bias: what the neural tangent kernel of a
    linear probe is, so both predictors share one solver.

    Args:
        features: Standardised here.
        labels: Target classes.
        rho: Ridge as a share of the kernel's trace.
    """
    f, y = checked(features, labels)
    one_hot, sizes = class_table(y)
    if len(sizes) == 1:
        return 1.0
    f = _standardised(f, f)
    kernel = f @ f.T + 1
    residual = one_hot - 1 / len(sizes)
    change = leave_one_out(kernel, residual, rho * float(kernel.trace()))
    return leave_one_out_accuracy(change, torch.zeros_like(one_hot), one_hot.argmax(1))


def linear_probe(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    *,
    folds: int = 5,
    penalty: float = 1e-2,
) -> float:
    """Accuracy of multinomial logistic regression on held-out folds.

    Args:
        features: Standardised here, by the other folds' mean and deviation.
        labels: Target classes.
        folds: Parts, of which each is predicted by a probe on the others; stratified, not shuffled.
        penalty: Half the squared norm of the weights is weighted with it against the mean loss.

    Raises:
        InputError: Fewer than two folds, or fewer examples than folds.
    """
    f, y = checked(features, labels)
    if not 2 <= folds <= len(f):
        raise InputError(
            f"folds must be from 2 to the number of examples, {len(f)}, got {folds}. Use 5."
        )
    one_hot, sizes = class_table(y)
    if len(sizes) == 1:
        return 1.0
    index, part = one_hot.argmax(1), stratified_folds(y, folds)
    hits = 0
    for fold in range(folds):
        others, held = part != fold, part == fold
        x, z = _standardised(f[others], f[others]), _standardised(f[held], f[others])
        weight, bias = logistic_regression(x, one_hot[others], penalty)
        hits += int(((z @ weight + bias).argmax(1) == index[held]).sum())
    return hits / len(f)


def minus_unprompted(logits: Float[Tensor, "n t"], labels: Int[Tensor, " n"]) -> float:
    """Minus the accuracy before any prompt: what is already right cannot be gained.

    A baseline for the gain, not for the accuracy.

    Args:
        logits: Of the target's classes, by the mapping on the plain image.
        labels: Target classes.
    """
    values, y = checked(logits, labels)
    return -float((values.argmax(1) == y).double().mean())


def stratified_folds(labels: Int[Tensor, " n"], folds: int) -> Int[Tensor, " n"]:
    """A fold for every example: classes one after another, dealt out in turn.

    >>> stratified_folds(torch.tensor([0, 1, 0, 1, 0]), 2).tolist()
    [0, 1, 1, 0, 0]
    """
    order = labels.argsort(stable=True)
    part = torch.empty_like(labels)
    part[order] = torch.arange(len(labels), device=labels.device) % folds
    return part


def logistic_regression(
    features: Float[Tensor, "n d"], one_hot: Float[Tensor, "n t"], penalty: float
) -> tuple[Float[Tensor, "d t"], Float[Tensor, " t"]]:
    """Weights and bias that minimise mean cross-entropy + penalty |weights|^2 / 2, by L-BFGS.

    Args:
        features: Of order 1.
        one_hot: Labels.
        penalty: At least 0; the bias is not penalised.

    Raises:
        InputError: The penalty is negative.
    """
    from scipy.optimize import minimize

    if not penalty >= 0:
        raise InputError(f"penalty must be at least 0, got {penalty}.")
    x = torch.cat([features, features.new_ones(len(features), 1)], 1)
    shape = (x.shape[1], one_hot.shape[1])
    penalised = x.new_ones(shape)
    penalised[-1] = 0

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(flat).reshape(shape)
        log_p = (x @ w).log_softmax(1)
        loss = -(one_hot * log_p).sum(1).mean() + penalty / 2 * (penalised * w * w).sum()
        gradient = x.T @ (log_p.exp() - one_hot) / len(x) + penalty * penalised * w
        return float(loss), gradient.flatten().numpy()

    found = minimize(
        loss_and_gradient, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "gtol": 1e-6, "ftol": 1e-12},
    )  # fmt: skip
    w = torch.from_numpy(found.x).reshape(shape)
    return w[:-1], w[-1]


def _standardised(
    features: Float[Tensor, "n d"], fitted: Float[Tensor, "m d"]
) -> Float[Tensor, "n d"]:
    """Minus the mean, over the deviation of `fitted`; a constant feature becomes 0."""
    mean, deviation = fitted.mean(0), fitted.std(0, correction=0)
    constant = deviation <= 1e-9 * fitted.abs().amax(0)
    return ((features - mean) / deviation.masked_fill(constant, 1.0)).masked_fill(constant, 0.0)
