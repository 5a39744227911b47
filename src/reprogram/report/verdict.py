"""Which method has the highest value, and whether the trials resolve it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from reprogram.report.statistics import Comparison, Summary, compare, summarise

__all__ = ["Verdict", "leader"]


@dataclass(frozen=True)
class Verdict:
    """Who is ahead.

    Attributes:
        kind: "resolved" (the best beats every other), "unresolved" (the methods in
            ``candidates`` cannot be told apart), "single" (n = 1: means alone), "only" (nothing
            to compare with) or "empty".
        candidates: Who may be the best; the one with the highest mean first.
        summary: The value of the first candidate.
        against: The runner-up by mean and the difference from it.
    """

    kind: str
    candidates: tuple[str, ...] = ()
    summary: Summary | None = None
    against: Comparison | None = None


def leader(values: Mapping[str, Mapping[Hashable, float]]) -> Verdict:
    """The method with the highest mean, compared with every other in pairs by trial, Holm-corrected.

    Args:
        values: For each method its value in each trial; a method without a trial is left out.

    >>> leader({"a": {0: 0.9, 1: 0.8}, "b": {0: 0.5, 1: 0.4}}).kind
    'resolved'
    """
    values = {method: found for method, found in values.items() if found}
    if not values:
        return Verdict("empty")
    summaries = {method: summarise(list(found.values())) for method, found in values.items()}
    ranked = sorted(summaries, key=lambda m: (-summaries[m].mean, m))
    best, summary = ranked[0], summaries[ranked[0]]
    if len(ranked) == 1:
        return Verdict("only", (best,), summary)
    comparisons = {c.other: c for c in compare(best, {m: values[m] for m in ranked})}
    against = comparisons[ranked[1]]
    if all(c.p_value is None for c in comparisons.values()):
        return Verdict("single", (best,), summary, against)
    ties = tuple(m for m in ranked[1:] if not comparisons[m].resolved)
    return Verdict("unresolved" if ties else "resolved", (best, *ties), summary, against)
