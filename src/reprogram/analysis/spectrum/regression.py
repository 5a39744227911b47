"""Squared error on the linearised model: ridge regression and gradient flow, primal and dual.

With R = Y - f_0(X), the change of the logits that training brings is Theta(x*, X) phi(Theta) R:

    ridge            phi(lambda) = 1 / (lambda + rho),
    gradient flow    phi_t(lambda) = (1 - exp(-eta lambda t / n)) / lambda,  phi_t(0) = eta t / n,

for L = (1 / 2n) sum_i |f(x_i) - y_i|^2 (Jacot et al. 2018; Lee et al. 2019, section 2.2). At t = 0
nothing has changed; t -> infinity is the pseudo-inverse. A singular kernel is ordinary: a null
direction v has J^T v = 0, so it takes no part in any prediction.

The dual route holds the parameters' change instead, phi(J^T J) J^T R, and J(x*) times it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.spectrum.kernel import (
    Eigensystem,
    as_columns,
    as_matrix,
    decompose,
    finite,
)
from reprogram.errors import InputError

__all__ = ["flow_filter", "gradient_flow", "gradient_flow_dual", "mse_time", "ridge_dual"]
__all__ += ["kernel_ridge", "ridge_filter", "scaled_residual"]


def ridge_filter(values: Float[Tensor, " m"], rho: float) -> Float[Tensor, " m"]:
    """1 / (lambda + rho), and 0 for lambda = rho = 0: the pseudo-inverse.

    Raises:
        InputError: rho is negative or not a number.
    """
    if not rho >= 0:
        raise InputError(f"rho must be at least 0, got {rho}. 0 is the pseudo-inverse.")
    shifted = values + rho
    return torch.where(shifted > 0, 1 / shifted, 0.0)


def flow_filter(values: Float[Tensor, " m"], time: float, n: int) -> Float[Tensor, " m"]:
    """phi_t(lambda), with phi_t(0) = eta t / n.

    Args:
        values: Eigenvalues, at least 0.
        time: eta t, learning rate times steps; infinity is the pseudo-inverse.
        n: Examples in the mean of the loss.

    Raises:
        InputError: The time is negative or not a number.

    >>> flow_filter(torch.tensor([0.0, 1.0]), time=2.0, n=4).tolist()
    [0.5, 0.39346933364868164]
    """
    if not time >= 0:
        raise InputError(f"time must be at least 0, got {time}. It is learning rate times steps.")
    if time == torch.inf:
        return ridge_filter(values, 0.0)
    s = time / n
    decay = s * values
    normal = decay > torch.finfo(values.dtype).tiny  # below it a quotient loses its digits
    return torch.where(normal, -s * torch.expm1(-decay) / decay, s)


def mse_time(learning_rate: float, steps: float, num_classes: int) -> float:
    """The time eta t of full-batch gradient descent on `F.mse_loss`, which divides by n K.

    >>> mse_time(0.1, 100, num_classes=10)
    2.0
    """
    return 2 * learning_rate * steps / num_classes


def scaled_residual(
    logits: Float[Tensor, "n k"], one_hot: Float[Tensor, "n k"], scale: float | None = None
) -> Float[Tensor, "n k"]:
    """Labels on the scale of the logits: scale (Y - 1 / K) - (f_0 - its row mean).

    One-hot labels lie far closer together than a source's logits do, and regression on Y - f_0
    would mostly shrink those.

    Args:
        logits: f_0(X).
        one_hot: Y.
        scale: None is three standard deviations of the logits.
    """
    if scale is None:
        scale = 3 * float(logits.std(correction=0))
    target = scale * (one_hot - 1 / logits.shape[1])
    return target - (logits - logits.mean(1, keepdim=True))


def kernel_ridge(
    kernel: Float[Tensor, "..."] | Eigensystem,
    residual: Float[Tensor, "n k"],
    rho: float,
    cross: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "m k"]:
    """Theta(x*, X) (Theta + rho I)^-1 R: what ridge regression adds to the logits f_0(x*).

    Args:
        kernel: Theta(X, X), or its decomposition where several rho are asked for.
        residual: R = Y - f_0(X).
        rho: In the units of the kernel; 0 is the pseudo-inverse.
        cross: Theta(x*, X), (m, k, n, k), its matrix, or (m, n); None predicts on X itself.

    Raises:
        InputError: The kernel is zero or not finite, or the shapes do not fit.
    """
    system = decompose(kernel)
    return _spread(system, residual, ridge_filter(system.resolved(), rho), cross)


def gradient_flow(
    kernel: Float[Tensor, "..."] | Eigensystem,
    residual: Float[Tensor, "n k"],
    time: float,
    cross: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "m k"]:
    """Theta(x*, X) phi_t(Theta) R: what training up to a time adds to the logits f_0(x*).

    Args:
        kernel: Theta(X, X), or its decomposition where several times are asked for.
        residual: R = Y - f_0(X).
        time: eta t on L; :func:`mse_time` gives it for `F.mse_loss`. Infinity is allowed.
        cross: As in :func:`kernel_ridge`.

    Raises:
        InputError: The kernel is zero or not finite, or the shapes do not fit.
    """
    system = decompose(kernel)
    filtered = flow_filter(system.resolved(), time, len(residual))
    return _spread(system, residual, filtered, cross)


def _spread(
    system: Eigensystem,
    residual: Float[Tensor, "n k"],
    filtered: Float[Tensor, " r"],
    cross: Float[Tensor, "..."] | None,
) -> Float[Tensor, "m k"]:
    """Theta(x*, X) V diag(filtered) V^T R, null directions left out."""
    k = residual.shape[1]
    columns = as_columns(residual, len(system.vectors))
    null = system.values <= system.noise_floor
    coefficients = filtered.masked_fill(null, 0.0)[:, None] * (system.vectors.T @ columns)
    if cross is None:
        change = system.vectors @ (system.values[:, None] * coefficients)
    else:
        change = fitting_cross(cross, len(columns)) @ (system.vectors @ coefficients)
    return change.reshape(-1, k)


def fitting_cross(cross: Float[Tensor, "..."], rows: int) -> Float[Tensor, "m rows"]:
    """Theta(x*, X) as a matrix.

    Raises:
        InputError: Its columns are not the training kernel's rows.
    """
    matrix = as_matrix(cross)
    if matrix.shape[1] != rows:
        raise InputError(
            f"cross must have one column for each of the kernel's {rows} rows, got "
            f"{matrix.shape[1]}. Take it as empirical_ntk(f, params, x_test, x_train)."
        )
    return matrix


def ridge_dual(
    gram: Float[Tensor, "p p"] | Eigensystem, moment: Float[Tensor, " p"], rho: float
) -> Float[Tensor, " p"]:
    """(C + rho I)^-1 g, the parameters' change of ridge regression.

    Args:
        gram: C = J^T J, or its decomposition.
        moment: g = J^T R.
        rho: As in :func:`kernel_ridge`.

    Raises:
        InputError: C is zero or not finite.
    """
    system = decompose(gram)
    return _move(system, moment, ridge_filter(system.resolved(), rho))


def gradient_flow_dual(
    gram: Float[Tensor, "p p"] | Eigensystem, moment: Float[Tensor, " p"], time: float, n: int
) -> Float[Tensor, " p"]:
    """phi_t(C) g, the parameters' change after training up to a time.

    Args:
        gram: C = J^T J, or its decomposition.
        moment: g = J^T R.
        time: As in :func:`gradient_flow`.
        n: Examples in C.

    Raises:
        InputError: C is zero or not finite.
    """
    system = decompose(gram)
    return _move(system, moment, flow_filter(system.resolved(), time, n))


def _move(
    system: Eigensystem, moment: Float[Tensor, " p"], filtered: Float[Tensor, " p"]
) -> Float[Tensor, " p"]:
    null = system.values <= system.noise_floor
    projections = system.vectors.T @ finite("J^T r", moment)
    return system.vectors @ (filtered.masked_fill(null, 0.0) * projections)
