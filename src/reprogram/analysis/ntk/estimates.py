"""Spectra from products alone: Lanczos for the largest eigenvalues, Hutch++ for the trace.

Both report the error that they may have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
import scipy.stats
import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.ntk.operators import KernelOperator
from reprogram.errors import InputError

__all__ = ["Estimate", "hutchpp", "lanczos"]


class Estimate(NamedTuple):
    """A number and the half width of its interval."""

    value: float
    error: float


def lanczos(
    operator: KernelOperator, count: int, *, tolerance: float = 1e-12, seed: int = 0
) -> tuple[Float[Tensor, " count"], Float[Tensor, " count"]]:
    """The largest eigenvalues of a kernel, by Lanczos with implicit restarts (ARPACK).

    Args:
        operator: The kernel.
        count: Number of eigenvalues, below its size.
        tolerance: Relative accuracy at which it stops.
        seed: Of the starting vector.

    Returns:
        Eigenvalues, largest first, and the norm of each residual Theta v - lambda v: some true
        eigenvalue lies within it, since Theta is symmetric.

    Raises:
        InputError: `count` is not in 1 to size - 1.
    """
    if not 1 <= count < operator.size:
        raise InputError(
            f"count must be in 1 to {operator.size - 1} for a kernel of {operator.size} rows, got "
            f"{count}. The gram and dual routes give all eigenvalues."
        )

    def product(u: np.ndarray) -> np.ndarray:
        columns = torch.from_numpy(np.ascontiguousarray(u, dtype=np.float64)).view(
            operator.size, -1
        )
        return (operator @ columns).cpu().numpy().reshape(u.shape)

    linear = scipy.sparse.linalg.LinearOperator(
        (operator.size, operator.size), matvec=product, matmat=product, dtype=np.float64
    )
    start = np.random.default_rng(seed).standard_normal(operator.size)
    if not product(start).any():  # a kernel of zeros, on which ARPACK gives up
        return torch.zeros(count).double(), torch.zeros(count).double()
    values, vectors = scipy.sparse.linalg.eigsh(linear, k=count, v0=start, tol=tolerance)
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    residuals = np.linalg.norm(product(vectors) - vectors * values, axis=0)
    # Rounding of the products themselves, which a residual cannot see.
    errors = residuals + values[0] * operator.size**0.5 * np.finfo(np.float64).eps
    return torch.from_numpy(values.clip(0)), torch.from_numpy(errors)


def hutchpp(operator: KernelOperator, products: int = 60, *, seed: int = 0) -> Estimate:
    """The trace of a kernel from random products.

    Hutch++ (Meyer et al. 2021, algorithm 1): a third of the products finds a subspace Q, its trace
    tr Q^T Theta Q is taken exactly, and Hutchinson's estimator serves the rest,

        tr Theta ~ tr Q^T Theta Q + mean_g g^T (I - Q Q^T) Theta (I - Q Q^T) g.

    Args:
        operator: The kernel.
        products: How many, at least 9.
        seed: Of the random signs.

    Returns:
        The estimate and the half width of its 99.9 % interval (Student t over the samples g).
    """
    if products < 9:
        raise InputError(f"products must be at least 9, got {products}.")
    if operator.size <= products:  # then every entry of the diagonal costs one product
        return Estimate(float((operator @ torch.eye(operator.size).double()).trace()), 0.0)
    share = products // 3
    generator = torch.Generator().manual_seed(seed)

    def signs() -> Tensor:
        return torch.randint(2, (operator.size, share), generator=generator).double() * 2 - 1

    basis, _ = torch.linalg.qr((operator @ signs()).cpu())
    exact = float((basis * (operator @ basis).cpu()).sum())
    g = signs()
    g = g - basis @ (basis.T @ g)
    samples = (g * (operator @ g).cpu()).sum(0)
    spread = float(samples.std()) / share**0.5
    return Estimate(
        exact + float(samples.mean()), float(scipy.stats.t.ppf(0.9995, share - 1)) * spread
    )
