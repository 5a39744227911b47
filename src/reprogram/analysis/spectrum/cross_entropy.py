"""Cross-entropy on the linearised model: its gradient flow, and one Gauss-Newton step of it.

For L = (1 / n) sum_i CE(f(x_i), y_i) gradient flow is f' = -(eta / n) Theta (softmax(f) - Y) (Lee et
al. 2019, section 2.2), which has no closed form. With H = blockdiag(diag p - p p^T) at p_0 =
softmax(f_0), Gauss-Newton gives, for small moves,

    f_t = f_0 - Theta integral_0^{eta t / n} exp(-s H Theta) ds (p_0 - Y),
    ridge step:  f = f_0 - Theta (H Theta + rho I)^-1 (p_0 - Y).

Both are solved in features, Theta = F F^T, where F is J itself or is made from the kernel:
Theta exp(-s H Theta) = F exp(-s F^T H F) F^T, which is symmetric.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.spectrum.kernel import Eigensystem, as_gram, decompose, finite
from reprogram.analysis.spectrum.regression import fitting_cross, flow_filter, ridge_filter
from reprogram.errors import InputError

__all__ = ["cross_entropy_flow", "gauss_newton_flow", "gauss_newton_ridge", "kernel_features"]


def cross_entropy_flow(
    kernel: Float[Tensor, "..."],
    logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    times: Sequence[float],
    cross: Float[Tensor, "..."] | None = None,
    *,
    tolerance: float = 1e-8,
) -> Float[Tensor, "times m k"]:
    """What training with cross-entropy up to each time adds to the logits.

    The state that is integrated is u(t), the integral of softmax(f) - Y: f = f_0 - Theta u / n on
    any examples, so test logits need no equations of their own.

    Args:
        kernel: Theta(X, X), full.
        logits: f_0(X).
        labels: Classes of X.
        times: eta t, learning rate times steps, ascending and finite.
        cross: Theta(x*, X); None predicts on X itself.
        tolerance: Relative, of the integrator.

    Raises:
        InputError: Times that are not ascending, a per-example kernel, or a failed integration.
    """
    from scipy.integrate import solve_ivp

    theta, f0 = as_gram(kernel.cpu()), finite("the logits", logits.cpu())
    _require_full(len(theta), f0)
    moments = [0.0, *map(float, times)]
    if not all(math.isfinite(t) for t in moments) or moments != sorted(moments):
        raise InputError(f"times must be finite, ascending and at least 0, got {list(times)}.")
    n, k = f0.shape
    step = theta.numpy() / n
    one_hot = F.one_hot(labels.cpu(), k).to(f0)

    def probabilities(u: np.ndarray) -> Tensor:
        return (f0 - torch.from_numpy(step @ u).reshape(n, k)).softmax(1)

    def slope(_: float, u: np.ndarray) -> np.ndarray:
        return (probabilities(u) - one_hot).flatten().numpy()

    def slope_by_state(_: float, u: np.ndarray) -> np.ndarray:
        return -hessian_times(probabilities(u), torch.from_numpy(step)).numpy()

    # Stiff where logits saturate at rates that differ by orders of magnitude; LSODA finds out.
    u, states = np.zeros(n * k), []
    for start, end in itertools.pairwise(moments):
        if end > start:
            solution = solve_ivp(
                slope, (start, end), u, method="LSODA", jac=slope_by_state,
                rtol=tolerance, atol=tolerance * 1e-2, t_eval=[end],
            )  # fmt: skip
            if not solution.success:
                raise InputError(f"the integration stopped at time {start:g}: {solution.message}")
            u = solution.y[:, -1]
        states.append(torch.from_numpy(u / n))
    integrals = torch.stack(states).to(kernel.device)  # (T, n k)
    rows = theta.to(kernel.device) if cross is None else fitting_cross(cross, n * k)
    return -(integrals @ rows.T).reshape(len(integrals), -1, k)


def hessian_times(
    p: Float[Tensor, "n k"], matrix: Float[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """H times a matrix of n k rows, H = blockdiag(diag p - p p^T)."""
    blocks = matrix.reshape(*p.shape, -1)
    mean = (p[:, :, None] * blocks).sum(1, keepdim=True)
    return (p[:, :, None] * (blocks - mean)).reshape(matrix.shape)


def kernel_features(
    kernel: Float[Tensor, "..."] | Eigensystem, k: int, cross: Float[Tensor, "..."] | None = None
) -> tuple[Float[Tensor, "n k r"], Float[Tensor, "m k r"] | None]:
    """F with Theta(X, X) = F F^T and F* with Theta(x*, X) = F* F^T, of the kernel's rank r.

    They stand for J and J* wherever only products of them count.

    Args:
        kernel: Theta(X, X), full, or its decomposition.
        k: Logits an example.
        cross: Theta(x*, X); None gives no F*.
    """
    roots, vectors = decompose(kernel).roots()
    features = (vectors * roots).reshape(-1, k, len(roots))
    if cross is None:
        return features, None
    return features, (fitting_cross(cross, len(vectors)) @ (vectors / roots)).reshape(
        -1, k, len(roots)
    )


def gauss_newton_flow(
    jacobian: Float[Tensor, "n k p"],
    logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    time: float,
) -> Float[Tensor, " p"]:
    """The parameters' change up to a time, with the Hessian of the start; J(x*) times it predicts.

    Args:
        jacobian: J of the training examples, or F of :func:`kernel_features`.
        logits: f_0(X).
        labels: Classes of X.
        time: eta t; infinity gives the Gauss-Newton step.

    Raises:
        InputError: Shapes that do not fit, or entries that are not finite.
    """
    system, gradient = _gauss_newton(jacobian, logits, labels)
    return _descend(system, gradient, flow_filter(system.resolved(), time, len(logits)))


def gauss_newton_ridge(
    jacobian: Float[Tensor, "n k p"],
    logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    rho: float,
) -> Float[Tensor, " p"]:
    """-(J^T H J + rho I)^-1 J^T (p_0 - Y), the parameters' change of a damped Gauss-Newton step.

    Args:
        jacobian: As in :func:`gauss_newton_flow`.
        logits: f_0(X).
        labels: Classes of X.
        rho: At least 0.

    Raises:
        InputError: Shapes that do not fit, or entries that are not finite.
    """
    system, gradient = _gauss_newton(jacobian, logits, labels)
    return _descend(system, gradient, ridge_filter(system.resolved(), rho))


def _gauss_newton(
    jacobian: Float[Tensor, "n k p"], logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
) -> tuple[Eigensystem, Float[Tensor, " p"]]:
    """J^T H J decomposed, and J^T (p_0 - Y)."""
    J = finite("the Jacobian", jacobian).flatten(0, 1)
    p = finite("the logits", logits).softmax(1)
    _require_full(len(J), p)
    one_hot = F.one_hot(labels.to(p.device), p.shape[1]).to(p)
    return decompose(J.T @ hessian_times(p, J)), J.T @ (p - one_hot).flatten()


def _descend(
    system: Eigensystem, gradient: Float[Tensor, " p"], filtered: Float[Tensor, " p"]
) -> Float[Tensor, " p"]:
    # Unlike those of J^T J, null directions of J^T H J may have a slope: that of an example which is
    # wrong and saturated. A finite time moves along it, infinity does not.
    return -system.vectors @ (filtered * (system.vectors.T @ gradient))


def _require_full(rows: int, logits: Float[Tensor, "n k"]) -> None:
    if rows != logits.numel():
        raise InputError(
            f"cross-entropy couples an example's logits: {len(logits)} examples with "
            f"{logits.shape[1]} logits need {logits.numel()} rows, got {rows}. Use the full kernel."
        )
