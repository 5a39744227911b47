"""Squared maximum mean discrepancies, unbiased (Gretton et al. 2012): they may be below 0."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.distance import cdist, pdist

__all__ = ["kid", "median_bandwidth", "mmd", "unbiased_mmd"]

MEDIAN_OF = 1000  # images a set; the median of their distances is exact enough


def unbiased_mmd(
    k_xx: Float[ndarray, "n n"], k_yy: Float[ndarray, "m m"], k_xy: Float[ndarray, "n m"]
) -> float:
    """The U-statistic of Gretton et al. 2012, Lemma 6, from the three kernel matrices.

    sum_{i != j} k(x_i, x_j) / n(n - 1) + sum_{i != j} k(y_i, y_j) / m(m - 1)
    - 2 sum_{i, j} k(x_i, y_j) / nm.
    """
    n, m = k_xy.shape
    within_x = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1))
    within_y = (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * k_xy.mean())


def kid(x: Float[ndarray, "n d"], y: Float[ndarray, "m d"]) -> float:
    """Kernel inception distance (Binkowski et al. 2018) on any features.

    The kernel is (x . y / d + 1)^3. All pairs are used: published values are means over blocks of
    images, which have the same expectation and more variance.

    Args:
        x: Features of the first set.
        y: Features of the second set.
    """
    d = x.shape[1]

    def kernel(a: ndarray, b: ndarray) -> ndarray:
        return (a @ b.T / d + 1) ** 3

    return unbiased_mmd(kernel(x, x), kernel(y, y), kernel(x, y))


def mmd(
    x: Float[ndarray, "n d"], y: Float[ndarray, "m d"], bandwidth: float | None = None
) -> float:
    """Squared MMD with the kernel exp(-|x - y|^2 / 2 sigma^2).

    Args:
        x: Features of the first set.
        y: Features of the second set.
        bandwidth: sigma; :func:`median_bandwidth` by default.
    """
    sigma = median_bandwidth(x, y) if bandwidth is None else bandwidth

    def kernel(a: ndarray, b: ndarray) -> ndarray:
        return np.exp(-cdist(a, b, "sqeuclidean") / (2 * sigma**2))

    return unbiased_mmd(kernel(x, x), kernel(y, y), kernel(x, y))


def median_bandwidth(x: Float[ndarray, "n d"], y: Float[ndarray, "m d"]) -> float:
    """Median distance of two different images of the pooled sets (the median heuristic).

    Args:
        x: Features of the first set, of which at most 1,000 are used, evenly spaced: sets often lie
            class after class.
        y: Features of the second set, the same.

    >>> median_bandwidth(np.array([[0.0], [1.0]]), np.array([[3.0]]))
    2.0
    """
    few = [z[:: -(-len(z) // MEDIAN_OF)] for z in (x, y)]
    median = float(np.median(pdist(np.concatenate(few))))
    return median or 1.0  # of images that are all the same any bandwidth is as good
