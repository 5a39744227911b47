"""Label noise: an image's label is replaced by a draw from its class's row of a matrix."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

__all__ = ["class_dependent", "pair", "redrawn", "symmetric"]


def redrawn(
    labels: Int[ndarray, " n"], matrix: Float[ndarray, "T T"], rng: np.random.Generator
) -> Int[ndarray, " n"]:
    """Labels drawn anew: label t becomes u with probability matrix[t, u].

    >>> redrawn(np.array([0, 1, 1]), np.eye(2)[::-1], np.random.default_rng(0)).tolist()
    [1, 0, 0]
    """
    draw, new = rng.random(len(labels)), np.empty_like(labels)
    # Class by class, not (n, T) at once; the last column is 1 only up to rounding and left out.
    for label, cumulative in enumerate(matrix.cumsum(1)[:, :-1]):
        own = labels == label
        new[own] = np.searchsorted(cumulative, draw[own], side="right")
    return new


def symmetric(num_classes: int, rate: float, rng: np.random.Generator) -> Float[ndarray, "T T"]:
    """P(new label | label): with probability `rate` another class, every other one equally likely.

    Args:
        num_classes: T.
        rate: Probability that a label becomes wrong.
        rng: Nothing is drawn.

    >>> symmetric(3, 0.5, np.random.default_rng(0))[0].tolist()
    [0.5, 0.25, 0.25]
    """
    other = rate / (num_classes - 1)
    return np.full((num_classes, num_classes), other) + np.eye(num_classes) * (1 - rate - other)


def pair(num_classes: int, rate: float, rng: np.random.Generator) -> Float[ndarray, "T T"]:
    """P(new label | label): with probability `rate` the next class, and class 0 after the last.

    Han et al. 2018. Takes what :func:`symmetric` takes.

    >>> pair(3, 0.25, np.random.default_rng(0)).tolist()
    [[0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 0.75]]
    """
    same = np.eye(num_classes)
    return (1 - rate) * same + rate * np.roll(same, 1, axis=1)


def class_dependent(
    num_classes: int, rate: float, rng: np.random.Generator
) -> Float[ndarray, "T T"]:
    """P(new label | label) with a rate and preferred wrong classes of each class's own.

    The form of Patrini et al. 2017 with drawn entries: their hand-made confusions exist
    for their data sets only. Rates are evenly spaced from half to one and a half times `rate`, in
    drawn order; the wrong classes share a class's rate by a uniform draw from the simplex.

    Args:
        num_classes: T.
        rate: Mean over classes of the probability that a label becomes wrong, at most 2/3.
        rng: Draws the matrix.

    >>> matrix = class_dependent(4, 0.2, np.random.default_rng(0))
    >>> [round(float(value), 6) for value in (matrix.sum(1).min(), 1 - matrix.diagonal().mean())]
    [1.0, 0.2]
    """
    rates = rng.permutation(np.linspace(0.5, 1.5, num_classes)) * rate
    matrix = np.diag(1 - rates)
    shares = rng.dirichlet(np.ones(num_classes - 1), num_classes)
    matrix[~np.eye(num_classes, dtype=bool)] = (rates[:, None] * shares).ravel()
    return matrix
