"""Accuracy explained by a distance and by source accuracy, tested by permuting domains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from reprogram.report.distance import DomainPair

__all__ = ["Effect", "Regression", "regress"]

MAX_PERMUTATIONS = 5_040  # all of 7 domains
MIN_FREEDOM = 1  # pairs more than coefficients


@dataclass(frozen=True)
class Effect:
    """What one standard deviation more of a regressor does to target accuracy.

    Attributes:
        alone: Change of accuracy in a regression on this regressor alone.
        beside: Change with the other regressor held; None where there is no other.
        span: The smallest and largest ``beside`` (or ``alone``) when one domain is left out.
        p_value: Of a permutation of domains; None where the design allows none but the identity.
    """

    alone: float
    beside: float | None
    span: tuple[float, float] | None
    p_value: float | None


@dataclass(frozen=True)
class Regression:
    """Target accuracy of one method explained by one distance and by source accuracy.

    Attributes:
        distance: Effect of the distance.
        source: Effect of source accuracy, where it is known and differs.
        r_squared: Share of the variance between pairs that both explain.
        correlation: Of distance and source accuracy over the pairs.
        pairs: Ordered pairs of domains.
        domains: n: what can be taken as independent.
        permutations: Relabellings of the domains that keep the design, the identity included.
    """

    distance: Effect
    source: Effect | None
    r_squared: float
    correlation: float | None
    pairs: int
    domains: int
    permutations: int


def regress(pairs: Sequence[DomainPair], measure: str) -> Regression | None:
    """Least squares of accuracy on standardised distance and source accuracy, tested by domains.

    Pairs that share a domain are not independent: p-values permute the domains among those of the
    same role (source, target, both) by double semi-partialing, the residuals of a regressor on the
    other being relabelled (Dekker, Krackhardt and Snijders 2007, "Sensitivity of MRQAP tests to
    collinearity and autocorrelation conditions").

    Args:
        pairs: One entry a pair of domains.
        measure: The distance.

    Returns:
        None where too few pairs have the distance, or it is the same for all.
    """
    pairs = [pair for pair in pairs if measure in pair.distance]
    y = np.array([pair.accuracy for pair in pairs])
    distance = _standardised([pair.distance[measure] for pair in pairs])
    if distance is None or len(pairs) < 2 + MIN_FREEDOM:
        return None
    known = [pair.source_accuracy for pair in pairs if pair.source_accuracy is not None]
    source = _standardised(known) if len(known) == len(pairs) else None
    if source is not None and (len(pairs) < 3 + MIN_FREEDOM or _collinear(distance, source)):
        source = None
    indices = _relabellings(pairs)
    both = [distance] if source is None else [distance, source]
    total = float(((y - y.mean()) ** 2).sum())
    residual = _residual(np.stack(both, axis=1)) @ y
    return Regression(
        _effect(y, distance, source, pairs, indices),
        None if source is None else _effect(y, source, distance, pairs, indices),
        1.0 - float(residual @ residual) / total if total > 0 else 0.0,
        None if source is None else float(np.corrcoef(distance, source)[0, 1]),
        len(pairs),
        len({domain for pair in pairs for domain in (pair.source, pair.target)}),
        len(indices),
    )


def _standardised(values: Sequence[float]) -> Float[ndarray, " pairs"] | None:
    """Mean 0, standard deviation 1 over the pairs; None where all are equal."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2 or np.ptp(x) <= 1e-12 * max(1e-300, np.abs(x).max()):
        return None
    return (x - x.mean()) / x.std(ddof=1)


def _collinear(first: Float[ndarray, " pairs"], second: Float[ndarray, " pairs"]) -> bool:
    """Whether one regressor is the other, so that no data separate them."""
    return abs(float(np.corrcoef(first, second)[0, 1])) > 1 - 1e-9


def _residual(regressors: Float[ndarray, "pairs k"]) -> Float[ndarray, "pairs pairs"]:
    """The matrix that removes a constant and the regressors: I - X X^+."""
    x = np.column_stack([np.ones(len(regressors)), regressors])
    return np.eye(len(x)) - x @ np.linalg.pinv(x)


def _slope(
    y: Float[ndarray, " pairs"],
    x: Float[ndarray, " pairs"],
    other: Float[ndarray, " pairs"] | None,
) -> float | None:
    """Coefficient of x beside the other; None where these pairs do not determine it."""
    held = np.empty((len(x), 0)) if other is None else other[:, None]
    rest = _residual(held) @ x
    square = float(rest @ rest)
    return float(rest @ y) / square if square > 1e-9 * len(x) else None


def _effect(
    y: Float[ndarray, " pairs"],
    x: Float[ndarray, " pairs"],
    other: Float[ndarray, " pairs"] | None,
    pairs: Sequence[DomainPair],
    indices: Int[ndarray, "permutations pairs"],
) -> Effect:
    """The effect of x, its span and its p-value."""
    alone = _slope(y, x, None)
    assert alone is not None, "x varies"
    left_out = []
    for domain in sorted({d for pair in pairs for d in (pair.source, pair.target)}):
        keep = np.array([domain not in (pair.source, pair.target) for pair in pairs])
        if keep.sum() > (1 if other is None else 2):
            slope = _slope(y[keep], x[keep], None if other is None else other[keep])
            left_out += [] if slope is None else [slope]
    span = (min(left_out), max(left_out)) if len(left_out) > 1 else None
    beside = None if other is None else _slope(y, x, other)
    return Effect(alone, beside, span, _p_value(y, x, other, indices))


def _p_value(
    y: Float[ndarray, " pairs"],
    x: Float[ndarray, " pairs"],
    other: Float[ndarray, " pairs"] | None,
    indices: Int[ndarray, "permutations pairs"],
) -> float | None:
    """Share of the relabellings with a partial correlation at least as strong as the one found."""
    if len(indices) < 2:
        return None
    project = _residual(np.empty((len(x), 0)) if other is None else other[:, None])
    target = project @ y
    # relabelled[p]: the part of x that the other does not explain, its domains renamed
    relabelled = (project @ x)[indices] @ project
    norms = np.linalg.norm(relabelled, axis=1)
    strength = np.abs(relabelled @ target) / np.where(norms > 1e-12, norms, np.inf)
    # The first is the identity; equal strengths count, whatever the order they were summed in.
    return float((strength >= strength[0] * (1 - 1e-9)).mean())


def _relabellings(pairs: Sequence[DomainPair]) -> Int[ndarray, "permutations pairs"]:
    """Index arrays of the permutations of domains that map measured pairs on measured pairs.

    Domains change places with domains of the same role only; the identity comes first. All are
    tried where they are few, else a fixed random sample.
    """
    index = {(pair.source, pair.target): i for i, pair in enumerate(pairs)}
    sources, targets = ({getattr(p, side) for p in pairs} for side in ("source", "target"))
    roles = [sorted(g) for g in (sources & targets, sources - targets, targets - sources) if g]
    if math.prod(math.factorial(len(group)) for group in roles) <= MAX_PERMUTATIONS:
        choices: Iterator[tuple[tuple[str, ...], ...]]
        choices = itertools.product(*(itertools.permutations(group) for group in roles))
    else:
        rng = np.random.default_rng(0)
        drawn = (
            tuple(tuple(group[i] for i in rng.permutation(len(group))) for group in roles)
            for _ in range(MAX_PERMUTATIONS - 1)
        )
        choices = itertools.chain([tuple(map(tuple, roles))], drawn)
    found = []
    for choice in choices:
        renamed = {
            old: new
            for group, names in zip(roles, choice, strict=True)
            for old, new in zip(group, names, strict=True)
        }
        images = [index.get((renamed[p.source], renamed[p.target])) for p in pairs]
        if None not in images:
            found.append(images)
    return np.array(found, dtype=np.int64)
