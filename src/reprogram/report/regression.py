"""Accuracy explained by a distance and by source accuracy, tested by permuting domains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from reprogram.report.distance import PRIMARY, DomainPair
from reprogram.statistics import holm

__all__ = ["Effect", "Regression", "corrected", "regress"]

MAX_PERMUTATIONS = 5_040  # all of 7 domains
MIN_FREEDOM = 1  # pairs more than coefficients


@dataclass(frozen=True)
class Effect:
    """What one standard deviation more of a regressor does to target accuracy.

    Attributes:
        alone: Change of accuracy in a regression on this regressor alone.
        beside: Change with the other regressor held; None where there is no other.
        interval: 95 % interval of ``beside`` (or ``alone``) by a jackknife over domains; None where
            the pairs without some domain do not determine it.
        p_value: Of a permutation of domains; None where the design allows none but the identity.
    """

    alone: float
    beside: float | None
    interval: tuple[float, float] | None
    p_value: float | None

    @property
    def size(self) -> float:
        """The effect beside the other regressor, or alone where there is no other."""
        return self.alone if self.beside is None else self.beside


@dataclass(frozen=True)
class Regression:
    """Target accuracy of one method explained by one distance and by source accuracy.

    Attributes:
        distance: Effect of the distance.
        source: Effect of source accuracy, where it is known and differs.
        r_squared: Share of the variance between pairs of a group that both explain.
        correlation: Of distance and source accuracy over the pairs of a group.
        pairs: Ordered pairs of domains.
        disjoint: Those of them that are known not to have the same classes.
        domains: n: what can be taken as independent.
        permutations: Relabellings of the domains that keep the design, the identity included.
    """

    distance: Effect
    source: Effect | None
    r_squared: float
    correlation: float | None
    pairs: int
    disjoint: int
    domains: int
    permutations: int

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that any data could have in this design."""
        return 1 / self.permutations


def corrected(effects: Mapping[str, Effect]) -> dict[str, float]:
    """The p-value of each distance's effect: the primary as it is, the others Holm-corrected.

    Args:
        effects: For each distance its effect; one without a p-value is left out.
    """
    values = {name: of.p_value for name, of in effects.items() if of.p_value is not None}
    others = [name for name in values if name != PRIMARY]
    return values | dict(zip(others, holm([values[name] for name in others]), strict=True))


def regress(pairs: Sequence[DomainPair], measure: str) -> Regression | None:
    """Least squares of accuracy on standardised distance and source accuracy, tested by domains.

    Pairs with the same classes and pairs with other classes have a level of accuracy each, so that
    class overlap is not taken for distance; slopes are common, and a standard deviation is one
    within the groups.

    Pairs that share a domain are not independent: p-values permute the domains among those of the
    same role (source, target, both), pairs staying in their group, by double semi-partialing, the
    residuals of a regressor on the other being relabelled (Dekker, Krackhardt and Snijders 2007,
    "Sensitivity of MRQAP tests to collinearity and autocorrelation conditions").

    Args:
        pairs: One entry a pair of domains.
        measure: The distance.

    Returns:
        None where too few pairs have the distance, or it is the same for all of a group.
    """
    pairs = [pair for pair in pairs if measure in pair.distance]
    if not pairs:
        return None
    y = np.array([pair.accuracy for pair in pairs])
    groups = _groups(pairs)
    fixed = groups.shape[1] + 1  # coefficients: a level each, the distance
    distance = _standardised([pair.distance[measure] for pair in pairs], groups)
    if distance is None or len(pairs) < fixed + MIN_FREEDOM:
        return None
    known = [pair.source_accuracy for pair in pairs if pair.source_accuracy is not None]
    source = _standardised(known, groups) if len(known) == len(pairs) else None
    if source is not None and (
        len(pairs) < fixed + 1 + MIN_FREEDOM or _collinear(distance, source)
    ):
        source = None
    indices = _relabellings(pairs)
    both = [groups, distance] if source is None else [groups, distance, source]
    total = float(np.square(_residual(groups) @ y).sum())
    rest = float(np.square(_residual(np.column_stack(both)) @ y).sum())
    return Regression(
        _effect(y, distance, source, groups, pairs, indices),
        None if source is None else _effect(y, source, distance, groups, pairs, indices),
        1.0 - rest / total if total > 0 else 0.0,
        None if source is None else float(np.corrcoef(distance, source)[0, 1]),
        len(pairs),
        sum(pair.same_classes is False for pair in pairs),
        len({domain for pair in pairs for domain in (pair.source, pair.target)}),
        len(indices),
    )


def _groups(pairs: Sequence[DomainPair]) -> Float[ndarray, "pairs groups"]:
    """A column of 0 and 1 for each kind of pair: same classes, other classes, not known."""
    kinds = sorted({str(pair.same_classes) for pair in pairs})
    return np.array([[float(str(p.same_classes) == kind) for kind in kinds] for p in pairs])


def _standardised(
    values: Sequence[float], groups: Float[ndarray, "pairs groups"]
) -> Float[ndarray, " pairs"] | None:
    """Mean 0 in every group, standard deviation 1 within them; None where none varies."""
    x = np.asarray(values, dtype=float)
    freedom = len(x) - groups.shape[1]
    rest = _residual(groups) @ x
    if freedom < 1 or np.ptp(rest) <= 1e-12 * max(1e-300, np.abs(x).max()):
        return None
    return rest / np.sqrt(rest @ rest / freedom)


def _collinear(first: Float[ndarray, " pairs"], second: Float[ndarray, " pairs"]) -> bool:
    """Whether one regressor is the other, so that no data separate them."""
    return abs(float(np.corrcoef(first, second)[0, 1])) > 1 - 1e-9


def _residual(regressors: Float[ndarray, "pairs k"]) -> Float[ndarray, "pairs pairs"]:
    """The matrix that removes the regressors: I - X X^+."""
    return np.eye(len(regressors)) - regressors @ np.linalg.pinv(regressors)


def _slope(
    y: Float[ndarray, " pairs"], x: Float[ndarray, " pairs"], held: Float[ndarray, "pairs k"]
) -> float | None:
    """Coefficient of x beside what is held; None where these pairs do not determine it."""
    rest = _residual(held) @ x
    square = float(rest @ rest)
    return float(rest @ y) / square if square > 1e-9 * len(x) else None


def _effect(
    y: Float[ndarray, " pairs"],
    x: Float[ndarray, " pairs"],
    other: Float[ndarray, " pairs"] | None,
    groups: Float[ndarray, "pairs groups"],
    pairs: Sequence[DomainPair],
    indices: Int[ndarray, "permutations pairs"],
) -> Effect:
    """The effect of x, its interval and its p-value."""
    alone = _slope(y, x, groups)
    assert alone is not None, "x varies"
    held = groups if other is None else np.column_stack([groups, other])
    beside = None if other is None else _slope(y, x, held)
    left_out = _left_out(y, x, held, pairs)
    half = _half_width(left_out) if left_out else 0.0
    size = alone if beside is None else beside
    interval = (size - half, size + half) if left_out else None
    return Effect(alone, beside, interval, _p_value(y, x, held, indices))


def _left_out(
    y: Float[ndarray, " pairs"],
    x: Float[ndarray, " pairs"],
    held: Float[ndarray, "pairs k"],
    pairs: Sequence[DomainPair],
) -> list[float]:
    """The slope without each domain and all its pairs; [] where one of them is not determined."""
    slopes = []
    for domain in sorted({domain for pair in pairs for domain in (pair.source, pair.target)}):
        keep = np.array([domain not in (pair.source, pair.target) for pair in pairs])
        slope = _slope(y[keep], x[keep], held[keep]) if keep.sum() > held.shape[1] else None
        if slope is None:
            return []
        slopes.append(slope)
    return slopes


def _half_width(left_out: Sequence[float]) -> float:
    """Half of a slope's 95 % interval, from the slopes b_-i without one of n domains each.

    t(0.975, n - 1) sqrt((n - 2) / 2n sum_i (b_-i - mean b_-i)^2), the jackknife of Snijders and
    Borgatti 1999, "Non-parametric standard errors and tests for network statistics".
    """
    from scipy.special import stdtrit

    n = len(left_out)
    square = float(np.square(np.array(left_out) - np.mean(left_out)).sum())
    return float(stdtrit(n - 1, 0.975)) * math.sqrt((n - 2) / (2 * n) * square)


def _p_value(
    y: Float[ndarray, " pairs"],
    x: Float[ndarray, " pairs"],
    held: Float[ndarray, "pairs k"],
    indices: Int[ndarray, "permutations pairs"],
) -> float | None:
    """Share of the relabellings with a partial correlation at least as strong as the one found."""
    if len(indices) < 2:
        return None
    project = _residual(held)
    target = project @ y
    # relabelled[p]: the part of x that what is held does not explain, its domains renamed
    relabelled = (project @ x)[indices] @ project
    norms = np.linalg.norm(relabelled, axis=1)
    strength = np.abs(relabelled @ target) / np.where(norms > 1e-12, norms, np.inf)
    # The first is the identity; equal strengths count, whatever the order they were summed in.
    return float((strength >= strength[0] * (1 - 1e-9)).mean())


def _relabellings(pairs: Sequence[DomainPair]) -> Int[ndarray, "permutations pairs"]:
    """Index arrays of the permutations of domains that map measured pairs on pairs of their group.

    Domains change places with domains of the same role only; the identity comes first. All are
    tried where they are few, else a fixed random sample.
    """
    index = {(pair.source, pair.target, pair.same_classes): i for i, pair in enumerate(pairs)}
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
        images = [index.get((renamed[p.source], renamed[p.target], p.same_classes)) for p in pairs]
        if None not in images:
            found.append(images)
    return np.array(found, dtype=np.int64)
