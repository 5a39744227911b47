"""Kernels as matrices: checked, in float64, with the eigenvalues that arithmetic cannot resolve named.

Everything in this package takes a kernel in either form: (n1, k, n2, k), as `empirical_ntk` gives
it, or a matrix. The full kernel's matrix is example-major, row i k + c; the trace kernel and the
pseudo-NTK are n1 x n2 and act on every logit alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.errors import InputError

__all__ = ["Eigensystem", "as_columns", "as_gram", "as_matrix", "centred", "decompose"]
__all__ += ["cleared", "finite", "noise_floor_of"]


def as_matrix(kernel: Float[Tensor, "..."]) -> Float[Tensor, "rows columns"]:
    """The kernel as a float64 matrix, example-major.

    Args:
        kernel: (n1, k, n2, k) or a matrix.

    Raises:
        InputError: Another shape, or an entry that is not finite.
    """
    if kernel.ndim == 4 and kernel.shape[1] == kernel.shape[3]:
        kernel = kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
    if kernel.ndim != 2 or not kernel.numel():
        raise InputError(
            f"a kernel must have shape (n1, k, n2, k) or be a matrix, got {tuple(kernel.shape)}. "
            "Take it from empirical_ntk."
        )
    return finite("the kernel", kernel)


def finite(name: str, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float64.

    Raises:
        InputError: One of them is not finite.
    """
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise InputError(
            f"{name} must be finite, got NaN or infinity in {bad:,} of {values.numel():,} entries. "
            "Look for it in the model's outputs and gradients."
        )
    return values.detach().to(torch.float64)


def as_gram(kernel: Float[Tensor, "..."]) -> Float[Tensor, "rows rows"]:
    """The kernel of a set with itself as a symmetric matrix.

    Raises:
        InputError: It is not square or not symmetric, or it is all zero.
    """
    matrix = as_matrix(kernel)
    if matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"this needs the kernel of a set with itself, a square matrix, got {tuple(matrix.shape)}. "
            "Pass the kernel between two sets as cross."
        )
    scale = _largest(matrix)
    if scale == 0:
        raise InputError(
            "the kernel is zero: no trainable parameter changes any output. "
            "Check the mapping and which parameters require a gradient."
        )
    if torch.equal(matrix, matrix.T):
        return matrix
    if _largest(matrix - matrix.T) > 1e-4 * scale:  # above what float32 leaves
        raise InputError("the kernel of a set with itself must be symmetric, and this one is not.")
    return (matrix + matrix.T).div_(2)


def _largest(matrix: Float[Tensor, "rows columns"]) -> float:
    """The largest absolute value, without a copy."""
    low, high = matrix.aminmax()
    return max(-float(low), float(high))


def as_columns(residual: Float[Tensor, "n k"], rows: int) -> Float[Tensor, "rows columns"]:
    """What a kernel with so many rows acts on: one column of n k entries, or k columns of n.

    Raises:
        InputError: The kernel has neither n k nor n rows, or an entry is not finite.
    """
    values = finite("the residual", residual)
    if rows == values.numel():
        return values.reshape(-1, 1)
    if rows == len(values):
        return values
    n, k = values.shape
    raise InputError(
        f"a kernel with {rows} rows does not fit a residual of {n} examples and {k} logits: "
        f"it needs {n * k} rows (full kernel) or {n} (trace kernel)."
    )


@dataclass(frozen=True, eq=False)
class Eigensystem:
    """Theta = V diag(values) V^T.

    Attributes:
        values: Eigenvalues, largest first, as computed: those of null directions may be negative.
        vectors: V, one column an eigenvalue.
        noise_floor: Below it an eigenvalue cannot be told from zero.
    """

    values: Float[Tensor, " m"]
    vectors: Float[Tensor, "rows m"]
    noise_floor: float

    def resolved(self) -> Float[Tensor, " m"]:
        """The eigenvalues, with exact zeros below the noise floor."""
        return self.values.where(self.values > self.noise_floor, 0.0)

    def roots(self) -> tuple[Float[Tensor, " r"], Float[Tensor, "rows r"]]:
        """The square roots of the r eigenvalues above the noise floor, with their vectors."""
        above = self.values > self.noise_floor
        return self.values[above].sqrt(), self.vectors[:, above]


def noise_floor_of(lambda_max: float, rows: int, precision: torch.dtype = torch.float64) -> float:
    """Rows x unit round-off x lambda_max, the usual threshold of a numerical rank.

    Args:
        lambda_max: Largest eigenvalue.
        rows: Of the matrix.
        precision: In which the Jacobians were computed: float32 ones leave a kernel that is known
            to float32 only, whatever it was accumulated in.
    """
    return rows * torch.finfo(precision).eps * lambda_max


def decompose(
    kernel: Float[Tensor, "..."] | Eigensystem, precision: torch.dtype = torch.float64
) -> Eigensystem:
    """Eigenvalues and vectors of a kernel, largest first; a decomposed one is handed through.

    Raises:
        InputError: The kernel is not square, not symmetric, not finite or zero.
    """
    if isinstance(kernel, Eigensystem):
        return kernel
    values, vectors = torch.linalg.eigh(as_gram(kernel))
    floor = noise_floor_of(float(values[-1]), len(values), precision)
    return Eigensystem(values.flip(0), vectors.flip(1), floor)


def centred(matrix: Float[Tensor, "rows rows"], k: int) -> Float[Tensor, "rows rows"]:
    """(C (x) I_k) Theta (C (x) I_k), C = I - 1 1^T / n: the mean over examples taken off both sides.

    A kernel that is constant over the examples, such as that of a border prompt on a linear source,
    becomes exactly 0.
    """
    n = math.isqrt(matrix.numel()) // k
    blocks = matrix.reshape(n, k, n, k)
    blocks = blocks - blocks.mean(0, keepdim=True)
    blocks = blocks - blocks.mean(2, keepdim=True)
    return cleared(blocks.reshape(n * k, n * k), float(matrix.norm()))


def cleared(rest: Float[Tensor, "*shape"], before: float) -> Float[Tensor, "*shape"]:
    """What a mean left of values of norm `before`: zero where that is rounding error only."""
    return rest if float(rest.norm()) > 1e-10 * before else torch.zeros_like(rest)
