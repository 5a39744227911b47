"""Which method wins, by target and images a class, under a budget of what may be spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.report.panels import Panel
from reprogram.report.statistics import Comparison, Summary, compare

__all__ = ["BUDGETS", "Budget", "Verdict", "advantage", "budgets"]

# row field -> what the page calls it
BUDGETS = {
    "trainable_parameters": "trained parameters",
    "stored_bytes": "stored bytes",
    "seconds": "training time",
}


@dataclass(frozen=True)
class Budget:
    """A limit on one cost; without a limit everything may be spent."""

    cost: str = ""
    limit: float = math.inf

    def allows(self, panel: Panel, method: str) -> bool:
        """Whether a method stays within the budget on this pair; an unknown cost does not."""
        if not self.cost:
            return True
        cost = panel.cost(method, self.cost)
        return cost is not None and cost <= self.limit


@dataclass(frozen=True)
class Verdict:
    """The answer of one place on the map.

    Attributes:
        kind: "resolved" (the best beats every other within the budget), "unresolved" (the methods
            in ``candidates`` cannot be told apart), "single" (n = 1: means alone), "only" (nothing
            to compare with) or "empty".
        candidates: Who may be the best; the one with the highest mean first.
        summary: Accuracy of the first candidate.
        against: The runner-up by mean and the difference from it.
    """

    kind: str
    candidates: tuple[str, ...] = ()
    summary: Summary | None = None
    against: Comparison | None = None


def advantage(panel: Panel, fraction: float, budget: Budget = Budget()) -> Verdict:  # noqa: B008
    """The method with the highest mean accuracy within a budget, and whether that is resolved.

    The best is compared with every other affordable method in pairs by seed, Holm-corrected.
    """
    accuracies = {}
    for method in panel.methods:
        entry = panel.entry(method, fraction)
        if entry.done and budget.allows(panel, method):
            accuracies[method] = entry
    if not accuracies:
        return Verdict("empty")
    means = {m: s.mean for m, entry in accuracies.items() if (s := entry.summary) is not None}
    ranked = sorted(means, key=lambda m: (-means[m], m))
    best, summary = ranked[0], accuracies[ranked[0]].summary
    if len(ranked) == 1:
        return Verdict("only", (best,), summary)
    comparisons = {c.other: c for c in compare(best, {m: accuracies[m].by_seed for m in ranked})}
    against = comparisons[ranked[1]]
    if all(c.p_value is None for c in comparisons.values()):
        return Verdict("single", (best,), summary, against)
    ties = tuple(m for m in ranked[1:] if not comparisons[m].resolved)
    return Verdict("unresolved" if ties else "resolved", (best, *ties), summary, against)


def budgets(panels: Sequence[Panel]) -> list[Budget]:
    """No limit, then for each cost the round limits at which another method becomes affordable."""
    result = [Budget()]
    for cost in BUDGETS:
        values = {panel.cost(m, cost) for panel in panels for m in panel.methods}
        limits = sorted({_round_up(value) for value in values if value is not None})
        # The largest limit allows everything, which is the first budget.
        result += [Budget(cost, limit) for limit in limits[:-1]]
    return result


def _round_up(value: float) -> float:
    """The next number of two digits: 29,571 -> 30,000.

    >>> _round_up(29571.0), _round_up(0.0)
    (30000.0, 0.0)
    """
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / unit, 9)) * unit:.2g}")
