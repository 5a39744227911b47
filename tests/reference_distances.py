"""Slow, readable oracles of the data-set distances."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from scipy.linalg import sqrtm


def slow_frechet(x: np.ndarray, y: np.ndarray) -> float:
    """The formula as it is printed, with a matrix square root."""
    c_x, c_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(c_x @ c_y).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c_x + c_y - 2 * root))


def slow_mmd(x: np.ndarray, y: np.ndarray, kernel: Callable) -> float:
    """The U-statistic, pair by pair."""
    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def slow_otdd(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray) -> float:
    """Every permutation is tried; for equally many images, in all and in each class."""

    def least(cost: np.ndarray) -> float:
        n = len(cost)
        return min(
            sum(cost[k, order[k]] for k in range(n)) / n
            for order in itertools.permutations(range(n))
        )

    cost = ((x[:, None] - y[None]) ** 2).sum(2)
    total = np.empty_like(cost)
    for i, j in np.ndindex(cost.shape):
        total[i, j] = cost[i, j] + least(cost[a == a[i]][:, b == b[j]])
    return float(np.sqrt(least(total)))
