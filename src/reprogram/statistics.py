"""Means with intervals over seeds, and methods compared in pairs by seed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from reprogram.errors import InputError

__all__ = ["Comparison", "Summary", "binomial_interval", "compare", "holm", "p_text", "share_text"]
__all__ += ["paired_difference", "summarise"]


@dataclass(frozen=True)
class Summary:
    """n values: their mean and the half width of its 95 % Student t interval (None for n = 1)."""

    n: int
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Comparison:
    """One method against another, paired by seed.

    Attributes:
        other: The method that the difference is taken from.
        difference: Mean difference and its interval; None where no seed is in both.
        p_value: Two-sided, as one of the comparisons Holm corrected; None for fewer than 2 pairs.
        resolved: Whether the corrected p-value is below 0.05.
    """

    other: str
    difference: Summary | None
    p_value: float | None
    resolved: bool

    @property
    def gap(self) -> float:
        """The mean difference, above 0 where the method is ahead; 0 without a seed in common."""
        return self.difference.mean if self.difference else 0.0


def summarise(values: Sequence[float]) -> Summary:
    """Mean and 95 % interval of independent runs, Student t with n - 1 degrees of freedom.

    half width = t(0.975, n - 1) * s / sqrt(n)

    Raises:
        InputError: Without values.

    >>> summarise([0.90, 0.92, 0.94]).half_width  # t = 4.303, s = 0.02
    0.0496827...
    """
    from scipy.special import stdtrit

    n = len(values)
    if n == 0:
        raise InputError("a mean needs at least one value, got none. Leave empty cells out.")
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Summary(n, mean, float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n))


def paired_difference(
    first: Mapping[Hashable, float], second: Mapping[Hashable, float], images: float | None = None
) -> tuple[Summary | None, float | None]:
    """The mean of first - second over the seeds in both, and the p-value of a paired t test.

    All seeds are read on the same test images, so more seeds do not average out the images' sampling
    error. The variance of the mean difference d over k seeds of variance s^2 is taken as

        max(s^2 / k, d (1 - d) / n),

    where hits of one run on n images that differ in d n of them have at least the second, reached
    where one method is right wherever the other is, in the variance that stands behind McNemar's test
    (McNemar 1947; Dietterich 1998, "Approximate statistical tests for comparing supervised
    classification learning algorithms"); Bouthillier et al. 2021 ("Accounting for variance in
    machine learning benchmarks") take the test set's binomial variance for the least that a
    comparison has. Of means over seeds that err on different images it is more than the least: a
    cautious floor, which resolves too little rather than too much. Student's t keeps k - 1 degrees of
    freedom where the images have the larger variance: that the seeds' is smaller is known from k
    seeds alone.

    Args:
        first: A value for each seed.
        second: The same of another method.
        images: Test images n, the same for all seeds, that each value is a share of; None where it
            is no such share.

    Returns:
        The summary of the differences (None without a common seed) and the two-sided p-value
        (None for fewer than two pairs; 1 where there is no spread at all).
    """
    from scipy.special import stdtr, stdtrit

    differences = [first[seed] - second[seed] for seed in first if seed in second]
    if not differences:
        return None, None
    summary = summarise(differences)
    if summary.n == 1:
        return summary, None
    variance = math.fsum((d - summary.mean) ** 2 for d in differences) / (summary.n - 1)
    size = abs(summary.mean)
    floor = size * max(0.0, 1.0 - size) / images if images else 0.0
    error = math.sqrt(max(variance / summary.n, floor))
    if error < 1e-12:  # rounding alone
        return summary, 1.0
    half_width = float(stdtrit(summary.n - 1, 0.975)) * error
    p_value = 2.0 * float(stdtr(summary.n - 1, -size / error))
    return Summary(summary.n, summary.mean, half_width), p_value


def p_text(p_value: float) -> str:
    """A p-value in words.

    >>> p_text(0.0341), p_text(0.0002)
    ('p = 0.034', 'p < 0.001')
    """
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


P = TypeVar("P", float, float | None)


def holm(p_values: Sequence[P]) -> list[P]:
    """Holm's step-down correction (Holm 1979, "A simple sequentially rejective ... procedure").

    The i-th smallest of m p-values is multiplied by m - i + 1; a running maximum keeps the order.
    None is no test: it stays, and does not count.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    >>> holm([None, 0.01])
    [None, 0.01]
    """
    tests = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected = list(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - rank) * p))
        corrected[i] = largest
    return corrected


def compare(
    method: str,
    accuracies: Mapping[str, Mapping[Hashable, float]],
    *,
    images: float | None = None,
    alpha: float = 0.05,
) -> list[Comparison]:
    """One method against every other, in pairs by seed, Holm-corrected over them.

    Args:
        method: The method that the others are subtracted from.
        accuracies: For each method its value for each seed.
        images: As for :func:`paired_difference`.
        alpha: The level below which a difference counts as resolved.
    """
    others = [other for other in accuracies if other != method]
    pairs = [paired_difference(accuracies[method], accuracies[other], images) for other in others]
    corrected = holm([p for _, p in pairs])
    return [
        Comparison(other, difference, p, p is not None and p < alpha)
        for other, (difference, _), p in zip(others, pairs, corrected, strict=True)
    ]


def binomial_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934), from quantiles of the beta law.

    >>> [round(bound, 3) for bound in binomial_interval(9, 10)]
    [0.555, 0.997]
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = 1.0
    if successes < trials:
        high = betaincinv(successes + 1, trials - successes, 1 - tail)
    return float(low), float(high)


def share_text(share: float, n: int) -> str:
    """A share of n images in per cent, with the interval that their number alone leaves.

    >>> share_text(0.9, 10)
    '90.0 % (95 %: 55.5 to 99.7) of 10'
    """
    low, high = binomial_interval(round(share * n), n)
    return f"{100 * share:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}) of {n:,}"
