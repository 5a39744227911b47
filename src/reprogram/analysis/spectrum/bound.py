"""The convergence bound of squared error, beside the loss it bounds.

For full-batch gradient descent on L = (1 / 2n) sum_i |f(x_i) - y_i|^2, linearised, with
eta lambda_max <= n:

    L(t) = (1 / 2n) sum_i (1 - eta lambda_i / n)^(2 t) (v_i . r_0)^2 <= exp(-2 eta lambda_min t / n) L(0).

It is derived for this project, and no bound for Adam, for cross-entropy or for the true model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.spectrum.kernel import Eigensystem, as_columns, decompose
from reprogram.errors import InputError

__all__ = ["Convergence", "convergence"]


@dataclass(frozen=True)
class Convergence:
    """Losses L at some steps: the bound, the linearised model and, where given, the true one.

    Attributes:
        steps: Steps of gradient descent.
        bound: exp(-2 eta lambda_min t / n) L(0), constant for a singular kernel.
        linearised: The linearised model's loss, exactly.
        measured: The true model's, as the caller measured it.
        lambda_min: The full kernel's smallest eigenvalue; 0 where it lies below the noise floor.
        step_limit: n / lambda_max, the largest rate at which the bound holds.
        holds: Whether the rate is at most `step_limit`.
        measured_above: Steps at which the true model's loss lies above the bound, by more than the
            1e-6 of L(0) that float32 leaves open.
    """

    steps: tuple[int, ...]
    bound: tuple[float, ...]
    linearised: tuple[float, ...]
    measured: tuple[float, ...] | None
    lambda_min: float
    step_limit: float
    holds: bool
    measured_above: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def convergence(
    kernel: Float[Tensor, "..."] | Eigensystem,
    residual: Float[Tensor, "n k"],
    learning_rate: float,
    steps: Sequence[int],
    measured: Sequence[float] | None = None,
) -> Convergence:
    """The bound and the linearised loss at some steps of gradient descent, beside measured losses.

    Args:
        kernel: Theta(X, X) at the start, or its decomposition.
        residual: Y - f_0(X).
        learning_rate: eta on L; for `F.mse_loss` 2 / K times the optimiser's.
        steps: t, whole numbers from 0.
        measured: L of the true model at these steps; for `F.mse_loss` K / 2 times its value.

    Raises:
        InputError: A rate that is not positive, negative steps, or losses of another number.
    """
    if not learning_rate > 0:
        raise InputError(f"learning_rate must be above 0, got {learning_rate}.")
    if any(t < 0 for t in steps):
        raise InputError(f"steps must be at least 0, got {min(steps)}.")
    if measured is not None and len(measured) != len(steps):
        raise InputError(
            f"measured must hold {len(steps)} losses, one a step, got {len(measured)}."
        )
    system, n = decompose(kernel), len(residual)
    columns = as_columns(residual, len(system.vectors))
    energy = (system.vectors.T @ columns).square().sum(1) / (2 * n)
    values = system.resolved()
    t = torch.tensor(list(steps), dtype=values.dtype, device=values.device)[:, None]
    decay = (1 - learning_rate * values / n).square() ** t
    linearised = decay @ energy
    bound = torch.exp(-2 * learning_rate * values[-1] * t[:, 0] / n) * energy.sum()
    limit = n / float(values[0])
    return Convergence(
        steps=tuple(steps),
        bound=tuple(bound.tolist()),
        linearised=tuple(linearised.tolist()),
        measured=None if measured is None else tuple(measured),
        lambda_min=float(values[-1]),
        step_limit=limit,
        holds=learning_rate <= limit,
        measured_above=tuple(
            step
            for step, loss, most in zip(steps, measured or (), bound.tolist(), strict=False)
            if loss > most + 1e-6 * float(energy.sum())
        ),
    )
