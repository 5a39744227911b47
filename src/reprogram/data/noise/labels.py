"""Label noise: an image's label is replaced by a draw that depends on its class alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

__all__ = ["class_dependent", "class_dependent_matrix", "pair", "symmetric"]


def symmetric(
    labels: Int[ndarray, " n"], num_classes: int, rate: float, rng: np.random.Generator
) -> Int[ndarray, " n"]:
    """With probability `rate` another class, every other one equally likely.

    Args:
        labels: Classes in 0 to T - 1.
        num_classes: T.
        rate: Probability that a label becomes wrong.
        rng: Draws which and to what.
    """
    wrong = rng.random(len(labels)) < rate
    shift = rng.integers(1, num_classes, len(labels))
    return np.where(wrong, (labels + shift) % num_classes, labels)


def pair(
    labels: Int[ndarray, " n"], num_classes: int, rate: float, rng: np.random.Generator
) -> Int[ndarray, " n"]:
    """With probability `rate` the next class, and class 0 after the last (Han et al. 2018).

    Args:
        labels: Classes in 0 to T - 1.
        num_classes: T.
        rate: Probability that a label becomes wrong.
        rng: Draws which.
    """
    wrong = rng.random(len(labels)) < rate
    return np.where(wrong, (labels + 1) % num_classes, labels)


def class_dependent(
    labels: Int[ndarray, " n"], num_classes: int, rate: float, rng: np.random.Generator
) -> Int[ndarray, " n"]:
    """Labels drawn from their class's row of :func:`class_dependent_matrix`.

    Args:
        labels: Classes in 0 to T - 1.
        num_classes: T.
        rate: Mean over classes of the probability that a label becomes wrong.
        rng: Draws the matrix, then the labels.
    """
    cumulative = class_dependent_matrix(num_classes, rate, rng).cumsum(1)
    draw = rng.random(len(labels))
    # The last column is left out: it is 1 only up to rounding.
    return (draw[:, None] >= cumulative[labels, :-1]).sum(1)


def class_dependent_matrix(
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

    >>> matrix = class_dependent_matrix(4, 0.2, np.random.default_rng(0))
    >>> [round(float(value), 6) for value in (matrix.sum(1).min(), 1 - matrix.diagonal().mean())]
    [1.0, 0.2]
    """
    rates = rng.permutation(np.linspace(0.5, 1.5, num_classes)) * rate
    matrix = np.diag(1 - rates)
    shares = rng.dirichlet(np.ones(num_classes - 1), num_classes)
    matrix[~np.eye(num_classes, dtype=bool)] = (rates[:, None] * shares).ravel()
    return matrix
