"""Agreement of predictions with what came out, and how sure it is.

Pairs that share a source or a target are not independent. Intervals are of the pigeonhole bootstrap
(Owen 2007, "The pigeonhole bootstrap"): sources and targets are drawn with replacement, each for
itself, and a pair counts as often as its source times its target was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

__all__ = ["Agreement", "Interval", "PairWeights", "agreement", "correlation", "ranks"]

DRAWS = 2_000
FEWEST_PAIRS = 3  # that a draw must hold to have a correlation


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; None where the pairs give none."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


@dataclass(frozen=True)
class Agreement:
    """How predictions of pairs agree with what came out.

    Attributes:
        spearman: Correlation of ranks.
        pearson: Correlation.
        error: Mean absolute error of the pairs' mean predictions; None for a score in other units.
        run_error: That of single runs, each pair counting alike.
    """

    spearman: Interval
    pearson: Interval
    error: Interval | None
    run_error: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class PairWeights:
    """How often every pair counts in every draw; the first draw is the data.

    Args:
        names: (source, target) of the pairs.
        draws: Bootstrap draws.
        seed: Of the draws: every predictor meets the same ones.

    Attributes:
        values: (1 + draws, pairs).
    """

    def __init__(self, names: Sequence[tuple[str, str]], draws: int = DRAWS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts = np.ones((1 + draws, len(names)))
        for side in (0, 1):
            clusters, index = np.unique([name[side] for name in names], return_inverse=True)
            even = np.full(len(clusters), 1 / len(clusters))
            counts[1:] *= rng.multinomial(len(clusters), even, size=draws)[:, index]
        self.values = counts

    def interval(self, statistics: Float[ndarray, " draws"], family: int = 1) -> Interval:
        """The data's own value and the middle 95 % of the draws that have one.

        Args:
            statistics: A value a draw.
            family: Intervals that are to hold together: each is widened as Bonferroni does.
        """
        found = statistics[1:][np.isfinite(statistics[1:])]
        tail = 2.5 / family
        low, high = np.percentile(found, [tail, 100 - tail]) if len(found) else (math.nan, math.nan)
        return Interval(*(_number(v) for v in (statistics[0], low, high)))

    def mean(self, values: Float[ndarray, " pairs"]) -> Float[ndarray, " draws"]:
        """The mean over the pairs in every draw; NaN in an empty one."""
        total = self.values.sum(1)
        return np.divide(
            self.values @ values, total, out=np.full(len(total), np.nan), where=total > 0
        )


def agreement(
    weights: PairWeights,
    predicted: Float[ndarray, " pairs"],
    actual: Float[ndarray, " pairs"],
    run_error: float | None = None,
) -> Agreement:
    """Agreement of the pairs' predictions; without `run_error` they are in other units."""
    w = weights.values
    error = None
    if run_error is not None:
        error = weights.interval(weights.mean(np.abs(predicted - actual)))
    x, y = np.broadcast_to(predicted, w.shape), np.broadcast_to(actual, w.shape)
    return Agreement(
        weights.interval(correlation(ranks(predicted, w), ranks(actual, w), w)),
        weights.interval(correlation(x, y, w)),
        error,
        run_error,
    )


def ranks(
    values: Float[ndarray, " n"], weights: Float[ndarray, "draws n"]
) -> Float[ndarray, "draws n"]:
    """Ranks in every draw, where a value stands as often as it weighs; ties share their mean.

    >>> ranks(np.array([3.0, 1.0, 3.0]), np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.0]])).tolist()
    [[2.5, 1.0, 2.5], [3.0, 1.5, 3.0]]
    """
    unique, index = np.unique(values, return_inverse=True)
    total = np.zeros((len(weights), len(unique)))
    np.add.at(total.T, index, weights.T)
    below = total.cumsum(1) - total
    return (below + (total + 1) / 2)[:, index]


def correlation(
    x: Float[ndarray, "draws n"], y: Float[ndarray, "draws n"], weights: Float[ndarray, "draws n"]
) -> Float[ndarray, " draws"]:
    """Weighted Pearson correlation of every draw; NaN where fewer than 3 pairs or one value stand."""
    share = weights / np.maximum(weights.sum(1, keepdims=True), 1)
    dx = x - (share * x).sum(1, keepdims=True)
    dy = y - (share * y).sum(1, keepdims=True)
    xx, yy = (share * dx * dx).sum(1), (share * dy * dy).sum(1)
    size = np.abs(x).max(1) * np.abs(y).max(1)
    known = np.sqrt(xx * yy) > 1e-12 * size
    known &= (weights > 0).sum(1) >= FEWEST_PAIRS
    found = np.full(len(weights), np.nan)
    return np.divide((share * dx * dy).sum(1), np.sqrt(xx * yy), out=found, where=known)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
