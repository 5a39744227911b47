"""The paper's two claims as rank correlations, tested by permuting depths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from reprogram.analysis.study.agreement import correlation, ranks
from reprogram.statistics import holm

__all__ = ["ALPHA", "Claim", "claims_of"]

PERMUTATIONS = 5_040
FEWEST_LEVELS = 3
ALPHA = 0.05

# Words, x, y, the sign that the claim predicts. Eigenvalues are shares of their sum: raw ones
# compare the scales of the prompts. That of the full kernel is its min(n K, P)-th: the n K-th is 0
# by rank wherever a prompt has fewer parameters, and the same number elsewhere.
SMALLEST = "a larger smallest eigenvalue"
CLAIMS: tuple[tuple[str, str, str, int], ...] = (
    ("a more accurate source, a more accurate target", "source_accuracy", "accuracy", 1),
    (f"{SMALLEST} above 0, a lower training loss", "smallest_nonzero", "train_loss", -1),
    (f"{SMALLEST} above 0, a lower test loss", "smallest_nonzero", "loss", -1),
    (
        f"{SMALLEST} of the trace kernel, a lower training loss",
        "lambda_min_trace_kernel", "train_loss", -1,
    ),
    ("a higher alignment, a more accurate target", "alignment", "accuracy", 1),
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One claim and what the data say of it.

    Attributes:
        words: The claim.
        sign: Of the correlation that it predicts.
        correlation: Spearman over depths, the mean over the groups.
        p_value: Two-sided, Holm-corrected over the claims; None where nothing can be permuted.
        groups: Spearman of every kind of source, target and method.
        levels: Depths that a group has at most.
    """

    words: str
    sign: int
    correlation: float | None
    p_value: float | None
    groups: Mapping[str, float | None]
    levels: int

    @property
    def verdict(self) -> str:
        """In words, whether the claim holds, its opposite does, or nothing is resolved."""
        if self.correlation is None or self.p_value is None or self.p_value >= ALPHA:
            return "does not hold: not resolved"
        return "holds" if self.correlation * self.sign > 0 else "does not hold: the opposite does"


def claims_of(points: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Every claim, tested.

    Seeds are averaged, so a group has a value a depth. Groups of one kind of source share their
    sources: a permutation gives its depths new x values in all of them at once.

    Args:
        points: As `measure_point` makes them.
    """
    found = [_tested(points, x, y) for _, x, y, _ in CLAIMS]
    corrected = holm([p for _, p, _, _ in found])
    return [
        Claim(words, sign, value, p, groups, levels)
        for (words, _, _, sign), (value, _, groups, levels), p in zip(
            CLAIMS, found, corrected, strict=True
        )
    ]


Group = tuple[str, str, str]


def _tested(
    points: Sequence[Mapping[str, Any]], x: str, y: str
) -> tuple[float | None, float | None, dict[str, float | None], int]:
    """Mean correlation, p-value, every group's correlation, most depths of a group."""
    groups = _groups(points, x, y)
    levels = {kind: len(xs) for (kind, _, _), (xs, _) in groups.items()}
    orders = _orders(levels)
    by_group = {group: _spearman(xs, ys, orders[group[0]]) for group, (xs, ys) in groups.items()}
    named = {
        " ".join(group): float(v[0]) if math.isfinite(v[0]) else None
        for group, v in by_group.items()
    }
    known = [v for v in by_group.values() if math.isfinite(v[0])]
    most = max(levels.values(), default=0)
    if not known:
        return None, None, named, most
    means = np.mean(known, axis=0)
    # Equal strengths count, whatever the order that they were summed in.
    p = float((np.abs(means) >= abs(means[0]) * (1 - 1e-9)).mean()) if len(means) > 1 else None
    return float(means[0]), p, named, most


def _groups(
    points: Sequence[Mapping[str, Any]], x: str, y: str
) -> dict[Group, tuple[Float[ndarray, " levels"], Float[ndarray, " levels"]]]:
    """Values a depth, means over seeds; every group of a kind has the same depths."""
    values: dict[Group, dict[int, list[tuple[float, float]]]] = {}
    for point in points:
        if point[x] is None or point[y] is None:
            continue
        group = (point["kind"], point["target"], point["method"])
        values.setdefault(group, {}).setdefault(point["level"], []).append((point[x], point[y]))
    found = {}
    for group, by_level in values.items():
        kind = [set(levels) for other, levels in values.items() if other[0] == group[0]]
        shared = sorted(set.intersection(*kind))
        if len(shared) >= FEWEST_LEVELS:
            means = np.array([np.mean(by_level[level], axis=0) for level in shared])
            found[group] = (means[:, 0], means[:, 1])
    return found


def _orders(levels: Mapping[str, int]) -> dict[str, Int[ndarray, "permutations levels"]]:
    """For every kind its depths' order in every permutation; the first is the identity."""
    total = math.prod(math.factorial(n) for n in levels.values())
    if total <= PERMUTATIONS:
        choices = list(
            itertools.product(*(itertools.permutations(range(n)) for n in levels.values()))
        )
        return {kind: np.array([c[i] for c in choices]) for i, kind in enumerate(levels)}
    rng = np.random.default_rng(0)
    return {
        kind: np.array([range(n), *(rng.permutation(n) for _ in range(PERMUTATIONS - 1))])
        for kind, n in levels.items()
    }


def _spearman(
    x: Float[ndarray, " levels"],
    y: Float[ndarray, " levels"],
    orders: Int[ndarray, "permutations levels"],
) -> Float[ndarray, " permutations"]:
    ones = np.ones(orders.shape)
    moved = ranks(x, ones[:1])[0][orders]  # a permutation moves the ranks with the values
    return correlation(moved, ranks(y, ones[:1])[0] + 0 * moved, ones)
