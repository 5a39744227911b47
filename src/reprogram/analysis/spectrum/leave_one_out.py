"""Leave-one-out of kernel ridge regression in closed form: one factorisation, no refits.

With H = Theta (Theta + rho I)^-1, the residual that example i has when it is left out is

    e_i = (I - H_ii)^-1 (R - H R)_i = (G_ii)^-1 (G R)_i,   G = (Theta + rho I)^-1,

H_ii and G_ii the K x K blocks of example i (the PRESS identity, block form). The second form, by
I - H = rho G, subtracts no numbers that are nearly equal.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.spectrum.kernel import Eigensystem, as_columns, as_gram, finite
from reprogram.errors import InputError

__all__ = ["leave_one_out", "leave_one_out_accuracy", "leave_one_out_dual", "left_out"]
__all__ += ["ridge_inverse"]


def leave_one_out(
    kernel: Float[Tensor, "..."] | Eigensystem, residual: Float[Tensor, "n k"], rho: float
) -> Float[Tensor, "n k"]:
    """What ridge regression on the other n - 1 examples adds to each example's logits.

    Args:
        kernel: Theta(X, X), full or per-example, or its decomposition.
        residual: R = Y - f_0(X).
        rho: Above 0, in the units of the kernel.

    Raises:
        InputError: rho is not positive, or the kernel is zero or does not fit.
    """
    return left_out(ridge_inverse(kernel, rho), residual)


def ridge_inverse(
    kernel: Float[Tensor, "..."] | Eigensystem, rho: float
) -> Float[Tensor, "rows rows"]:
    """G = (Theta + rho I)^-1; the effective dimension at rho is rows - rho tr G.

    Args:
        kernel: As in :func:`leave_one_out`.
        rho: As in :func:`leave_one_out`.

    Raises:
        InputError: rho is not positive, or the kernel is zero.
    """
    _require_ridge(rho)
    if isinstance(kernel, Eigensystem):
        V = kernel.vectors
        return (V / (kernel.resolved() + rho)) @ V.T
    return torch.cholesky_inverse(_factor(as_gram(kernel), rho))


def left_out(
    inverse: Float[Tensor, "rows rows"], residual: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """:func:`leave_one_out` from G.

    Raises:
        InputError: The residual does not fit.
    """
    n, k = residual.shape
    columns = as_columns(residual, len(inverse))
    solved = (inverse @ columns).reshape(n, k)
    if columns.shape[1] == k and len(columns) == n:
        held_out = solved / inverse.diagonal()[:, None]  # the same for every logit
    else:
        blocks = inverse.reshape(n, k, n, k).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        held_out = torch.linalg.solve(blocks, solved)
    return columns.reshape(n, k) - held_out


def leave_one_out_dual(
    jacobian: Float[Tensor, "n k p"],
    residual: Float[Tensor, "n k"],
    rho: float,
    gram: Float[Tensor, "p p"] | None = None,
    moment: Float[Tensor, " p"] | None = None,
) -> Float[Tensor, "n k"]:
    """The same by the dual route: H_ii = J_i (C + rho I)^-1 J_i^T.

    Args:
        jacobian: J of the examples that are left out, one at a time: all, or some.
        residual: Their residuals.
        rho: Above 0.
        gram: C of all examples; None where these are all.
        moment: J^T R of all examples, given with `gram`.

    Raises:
        InputError: rho is not positive, J is not finite, or one of `gram` and `moment` is missing.
    """
    _require_ridge(rho)
    if (gram is None) != (moment is None):
        raise InputError("gram and moment are those of all examples: give both, or neither.")
    J, R = finite("the Jacobian", jacobian), finite("the residual", residual)
    flat = J.flatten(0, 1)
    C = flat.T @ flat if gram is None else finite("J^T J", gram)
    pulled = flat.T @ R.flatten() if moment is None else finite("J^T R", moment)
    factor = _factor(C, rho)
    both = torch.cat([flat, pulled[None]]).T
    whitened = torch.linalg.solve_triangular(factor, both, upper=False)  # (P, n k + 1)
    rows, target = whitened[:, :-1].T, whitened[:, -1]
    fitted = (rows @ target).reshape(R.shape)
    blocks = rows.reshape(*R.shape, -1)
    own = torch.einsum("ikp,ilp->ikl", blocks, blocks)  # H_ii
    identity = torch.eye(R.shape[1], dtype=R.dtype, device=R.device)
    return R - torch.linalg.solve(identity - own, R - fitted)


def leave_one_out_accuracy(
    change: Float[Tensor, "n k"], logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
) -> float:
    """Share of arg-max hits of f_0 plus what :func:`leave_one_out` gives, in [0, 1]."""
    predictions = (logits.to(change) + change).argmax(1)
    return float((predictions == labels.to(change.device)).double().mean())


def _factor(matrix: Float[Tensor, "rows rows"], rho: float) -> Float[Tensor, "rows rows"]:
    """The Cholesky factor of matrix + rho I.

    Raises:
        InputError: rho lies below the rounding errors of the matrix.
    """
    ridged = matrix.clone()
    ridged.diagonal().add_(rho)
    factor, failed = torch.linalg.cholesky_ex(ridged)
    if failed:
        raise InputError(
            f"rho={rho:g} is lost in the rounding errors of a kernel with trace "
            f"{float(matrix.trace()):g}. Use 1e-4 of the trace."
        )
    return factor


def _require_ridge(rho: float) -> None:
    if not 0 < rho < float("inf"):
        raise InputError(
            f"rho must be above 0 to leave an example out, got {rho}: an interpolating fit says "
            "nothing about it. 1e-4 of the kernel's trace is a start."
        )
