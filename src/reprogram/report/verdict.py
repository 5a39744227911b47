"""Which method has the highest value, and whether the trials resolve it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from reprogram.statistics import Comparison, Summary, compare, summarise

__all__ = ["Verdict", "leader"]


@dataclass(frozen=True)
class Verdict:
    """Who is ahead.

    Attributes:
        kind: "resolved" (the best beats every other), "unresolved" (the methods in
            ``candidates`` cannot be told apart), "single" (n = 1: means alone), "only" (nothing
            to compare with) or "empty".
        candidates: Who may be the best; the one with the highest mean first.
        summary: The value of the first candidate, over all of its own trials.
        against: The runner-up by mean and the difference from it.
        runs: Trials in common that each comparison stands on: with every other method where the
            best is ahead, with those that cannot be told apart from it where it is not.
    """

    kind: str
    candidates: tuple[str, ...] = ()
    summary: Summary | None = None
    against: Comparison | None = None
    runs: tuple[int, ...] = ()


def leader(values: Mapping[str, Mapping[Hashable, float]], images: float | None = None) -> Verdict:
    """The method with the highest mean, compared with every other in pairs by trial, Holm-corrected.

    Means are ranked over the trials that all methods have, or each over its own where there is no
    such trial. The first beats another only where it is resolved to be above it.

    Args:
        values: For each method its value in each trial; a method without a trial is left out.
        images: Test images that each value is a share of, which bound its variance
            (:func:`~reprogram.statistics.paired_difference`); None where it is no share.

    >>> leader({"a": {0: 0.9, 1: 0.81}, "b": {0: 0.5, 1: 0.4}}).kind
    'resolved'
    """
    values = {method: found for method, found in values.items() if found}
    if not values:
        return Verdict("empty")
    ranked = _ranked(values)
    best, summary = ranked[0], summarise(list(values[ranked[0]].values()))
    if len(ranked) == 1:
        return Verdict("only", (best,), summary)
    found = compare(best, {m: values[m] for m in ranked}, images=images)
    against = found[0]
    ties = tuple(c.other for c in found if not (c.resolved and c.gap > 0))
    runs = tuple(len(values[best].keys() & values[m].keys()) for m in ties or ranked[1:])
    if all(c.p_value is None and c.gap >= 0 for c in found):
        return Verdict("single", (best,), summary, against, runs)
    return Verdict("unresolved" if ties else "resolved", (best, *ties), summary, against, runs)


def _ranked(values: Mapping[str, Mapping[Hashable, float]]) -> list[str]:
    """The methods by their mean over the trials that all have, else over their own; ties by name."""
    shared = set.intersection(*(set(found) for found in values.values()))
    means = {
        method: summarise([found[trial] for trial in shared or found]).mean
        for method, found in values.items()
    }
    return sorted(means, key=lambda method: (-means[method], method))
