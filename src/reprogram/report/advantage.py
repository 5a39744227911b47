"""Which method wins, by pair, images a class and noise, under a budget of what may be spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.report.panels import Panel
from reprogram.report.verdict import Verdict, leader

__all__ = ["BUDGETS", "Budget", "advantage", "budgets", "printed", "verdicts"]

# row field -> what the page calls it
BUDGETS = {
    "trainable_parameters": "trained parameters",
    "stored_bytes": "stored bytes",
    "training_flops": "training compute",
}
STEP = 1.5  # between two limits of one cost: methods that cost nearly the same share one


@dataclass(frozen=True)
class Budget:
    """A limit on one cost; without a limit everything may be spent."""

    cost: str = ""
    limit: float = math.inf

    def allows(self, panel: Panel, method: str, fraction: float) -> bool:
        """Whether a method stays within the budget at a data size; an unknown cost does not."""
        if not self.cost:
            return True
        cost = panel.entry(method, fraction).typical(self.cost)
        return cost is not None and cost <= self.limit


def advantage(panel: Panel, fraction: float, budget: Budget = Budget()) -> Verdict:  # noqa: B008
    """The method with the highest mean accuracy within a budget, and whether that is resolved."""
    return verdicts(panel, fraction, [budget])[0]


def verdicts(panel: Panel, fraction: float, choices: Sequence[Budget]) -> list[Verdict]:
    """:func:`advantage` for each budget; budgets that allow the same methods share one verdict."""
    done = [method for method in panel.methods if panel.entry(method, fraction).done]
    found = []
    for budget in choices:
        allowed = tuple(m for m in done if budget.allows(panel, m, fraction))
        place = (fraction, allowed)
        if place not in panel.known:
            values = {m: panel.entry(m, fraction).by_seed for m in allowed}
            panel.known[place] = leader(values, panel.images)
        found.append(panel.known[place])
    return found


def budgets(panels: Sequence[Panel]) -> list[Budget]:
    """No limit, then for each cost the round limits at which another method becomes affordable."""
    result = [Budget()]
    for cost in BUDGETS:
        values = {panel.cost(m, cost) for panel in panels for m in panel.methods}
        limits: list[float] = []
        for limit in sorted({_round_up(v) for v in values if v is not None}, reverse=True):
            if not limits or limit * STEP <= limits[-1]:
                limits.append(limit)
        # The largest limit allows everything, which is the first budget.
        result += [Budget(cost, limit) for limit in reversed(limits[1:])]
    return result


def printed(choices: Sequence[Budget]) -> list[Budget]:
    """The budgets that are drawn, printed and told: none, and the largest parameter limit that bites."""
    limits = [budget for budget in choices if budget.cost == "trainable_parameters"]
    return [Budget(), *limits[-1:]]


def _round_up(value: float) -> float:
    """The next number of two digits: 29,571 -> 30,000.

    >>> _round_up(29571.0), _round_up(0.0)
    (30000.0, 0.0)
    """
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / unit, 9)) * unit:.2g}")
