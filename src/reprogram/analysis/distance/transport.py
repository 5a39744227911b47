"""Distances by optimal transport: sliced Wasserstein, and OTDD, which sees the labels."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial.distance import cdist

from reprogram.errors import InputError
from reprogram.seeds import seed_for

__all__ = ["otdd", "require_pot", "sliced_wasserstein"]

DIRECTIONS = 128
ITERATIONS = 10_000_000  # of the network simplex; it ends long before


def sliced_wasserstein(
    x: Float[ndarray, "n d"],
    y: Float[ndarray, "n d"],
    order: float = 2,
    directions: int = DIRECTIONS,
) -> float:
    """Sliced Wasserstein distance (Bonneel et al. 2015): (mean over theta of W_p^p)^(1/p).

    In one dimension W_p^p is the mean of |difference|^p of the sorted values. The directions theta
    are random, and the same for every call in d dimensions.

    Args:
        x: Features of the first set.
        y: Features of the second set, as many.
        order: p >= 1.
        directions: How many theta.

    >>> round(sliced_wasserstein(np.array([[0.0], [1.0]]), np.array([[3.0], [2.0]])), 9)
    2.0
    """
    d = x.shape[1]
    theta = np.random.default_rng(seed_for("directions", d)).standard_normal((d, directions))
    theta /= np.linalg.norm(theta, axis=0)
    gaps = np.sort(x @ theta, axis=0) - np.sort(y @ theta, axis=0)
    return float((np.abs(gaps) ** order).mean() ** (1 / order))


def otdd(
    x: Float[ndarray, "n d"],
    x_labels: Int[ndarray, " n"],
    y: Float[ndarray, "m d"],
    y_labels: Int[ndarray, " m"],
) -> float:
    """Optimal transport dataset distance (Alvarez-Melis and Fusi 2020) with p = 2.

    The cost of moving (x, a) to (y, b) is |x - y|^2 + W_2^2(images of a, images of b). The
    distances of classes are exact on the samples: the paper's Gaussians would need more images a
    class than features.

    Args:
        x: Features of the first set.
        x_labels: Their classes; names do not matter, only which images are together.
        y: Features of the second set.
        y_labels: Their classes.

    Raises:
        InputError: The extra is not installed.
    """
    ot = require_pot()
    cost = cdist(x, y, "sqeuclidean")
    classes_x, a = np.unique(x_labels, return_inverse=True)
    classes_y, b = np.unique(y_labels, return_inverse=True)
    between = np.empty((len(classes_x), len(classes_y)))
    for i in range(len(classes_x)):
        rows = cost[a == i]
        for j in range(len(classes_y)):
            between[i, j] = _transport(ot, rows[:, b == j])
    # between[a_k, b_l]: squared distance of the classes of images k and l
    return float(np.sqrt(max(0.0, _transport(ot, cost + between[a][:, b]))))


def _transport(ot: ModuleType, cost: Float[ndarray, "n m"]) -> float:
    """Least total cost between two sets whose images weigh the same."""
    n, m = cost.shape
    if 1 in cost.shape:  # one image: there is one plan
        return float(cost.mean())
    return float(
        ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), np.ascontiguousarray(cost),
                numItermax=ITERATIONS)
    )  # fmt: skip


def require_pot() -> ModuleType:
    """The package POT.

    Raises:
        InputError: It is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise InputError(
            'otdd needs the package POT, which is not installed. Run: pip install "reprogram[ot]".'
        ) from error
    return ot
