"""Does a number of the kernel say which of two input transformations loses less?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reprogram.analysis.depth.claims import ALPHA
from reprogram.statistics import holm

__all__ = ["CRITERIA", "Choice", "choices_of"]

# The claim in all of them: the method that has more of it has the lower training loss.
CRITERIA = {
    "lambda_min": "smallest eigenvalue of the full kernel (over the trace)",
    "smallest_nonzero": "smallest eigenvalue above 0 (over the trace)",
    "lambda_min_trace_kernel": "smallest eigenvalue of the trace kernel (over the trace)",
    "alignment": "alignment",
    "effective_dimension": "effective dimension",
}


@dataclass(frozen=True)
class Choice:
    """Whether the method with the larger value also had the lower training loss.

    A place is a (kind, level, target), its values the means over seeds: seeds of a place share
    their source's depth and their target, so they count once. Where one method loses less in every
    place, any number that is larger for it agrees in every place, were it the number of parameters:
    so the test is of association, given how often either side occurs, and there is none where a side
    never changes. Places share sources and targets among themselves, so p-values are rather too small.

    Attributes:
        criterion: A name in CRITERIA.
        first, second: The methods.
        places: That tell the methods apart, by the value and by the loss.
        agree: Of these, where the larger value has the lower loss.
        p_value: Fisher's exact test of the value's side with the loss's, two-sided, Holm-corrected
            over the criteria; None where one of them never changes.
        first_larger: Places where the first method has the larger value.
        first_lower: Places where the first method has the lower loss.
        both: Places where it has both.
        ties: Places that do not tell them apart, such as those with no value above 0.
        runs, runs_agree: The same count for every seed by itself, for which no test is right.
    """

    criterion: str
    first: str
    second: str
    places: int
    agree: int
    p_value: float | None
    first_larger: int
    first_lower: int
    both: int
    ties: int
    runs: int
    runs_agree: int

    @property
    def verdict(self) -> str:
        """In words, whether the value tells, its opposite does, or nothing can be said."""
        if self.p_value is None:
            return "cannot be tested: one of the two never changes sides"
        if self.p_value >= ALPHA:
            return "does not tell: not resolved"
        together = self.both * self.places > self.first_larger * self.first_lower
        return "tells" if together else "does not tell: the opposite does"


def choices_of(points: Sequence[Mapping[str, Any]], first: str, second: str) -> list[Choice]:
    """Every criterion held against the training losses of two methods.

    Args:
        points: As `measure_point` makes them.
        first: A method.
        second: Another one.
    """
    found = [_choice(points, first, second, criterion) for criterion in CRITERIA]
    corrected = holm([choice.p_value for choice in found])
    return [
        replace(choice, p_value=p)
        for choice, p in zip(found, corrected, strict=True)
        if choice.places + choice.ties
    ]


def _choice(points: Sequence[Mapping[str, Any]], first: str, second: str, criterion: str) -> Choice:
    differences = _differences(points, first, second, criterion)
    runs = [run for by_seed in differences.values() for run in by_seed]
    means = [tuple(map(_mean, zip(*by_seed, strict=True))) for by_seed in differences.values()]
    sides = [(x > 0, y < 0) for x, y in means if x and y]
    larger, lower = (sum(side) for side in zip(*sides, strict=True)) if sides else (0, 0)
    both = sides.count((True, True))
    return Choice(
        criterion, first, second, len(sides), sum(x == y for x, y in sides),
        _association(both, larger, lower, len(sides)), larger, lower, both, len(means) - len(sides),
        sum(bool(x and y) for x, y in runs), sum(x * y < 0 for x, y in runs),
    )  # fmt: skip


def _association(both: int, larger: int, lower: int, places: int) -> float | None:
    """Fisher's exact test of two sides in so many places; None where one never changes."""
    from scipy.stats import fisher_exact

    if {larger, lower} & {0, places}:
        return None
    table = [[both, larger - both], [lower - both, places - larger - lower + both]]
    return float(fisher_exact(table).pvalue)


def _differences(
    points: Sequence[Mapping[str, Any]], first: str, second: str, criterion: str
) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """First minus second of the value and of the training loss: a list of seeds for every place."""
    by_method: dict[str, dict[tuple[Any, ...], tuple[float, float]]] = {first: {}, second: {}}
    for p in points:
        if p["method"] in by_method and p[criterion] is not None:
            run = (p["kind"], p["level"], p["target"], p["seed"])
            by_method[p["method"]][run] = (p[criterion], p["train_loss"])
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for run, (value, loss) in by_method[first].items():
        if run in by_method[second]:
            other, other_loss = by_method[second][run]
            found.setdefault(run[:-1], []).append((value - other, loss - other_loss))
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
