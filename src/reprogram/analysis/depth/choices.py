"""Does a number of the kernel say which of two input transformations loses less?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["CRITERIA", "Choice", "choices_of"]

# The claim in all of them: the method that has more of it has the lower training loss.
CRITERIA = {
    "lambda_min": "smallest eigenvalue of the full kernel",
    "smallest_nonzero": "smallest eigenvalue above 0",
    "lambda_min_trace_kernel": "smallest eigenvalue of the trace kernel",
    "alignment": "alignment",
    "effective_dimension": "effective dimension",
}


@dataclass(frozen=True)
class Choice:
    """How often the method with the larger value also had the lower training loss.

    A place is a (kind, level, target), its values the means over seeds: seeds of a place share
    their source's depth and their target, so they count once. Places share sources and targets
    among themselves, so the interval is, if anything, too narrow.

    Attributes:
        criterion: A name in CRITERIA.
        first, second: The methods.
        places: That tell the methods apart, by the value and by the loss.
        agree: Of these, where the larger value has the lower loss.
        low, high: Exact 95 % interval of agree / places (Clopper and Pearson 1934).
        first_larger: Places where the first method has the larger value.
        first_lower: Places where the first method has the lower loss.
        ties: Places that do not tell them apart, such as those with no value above 0.
        runs, runs_agree: The same count for every seed by itself, for which no interval is right.
    """

    criterion: str
    first: str
    second: str
    places: int
    agree: int
    low: float | None
    high: float | None
    first_larger: int
    first_lower: int
    ties: int
    runs: int
    runs_agree: int

    @property
    def verdict(self) -> str:
        """In words, whether the value tells, its opposite does, or nothing is resolved."""
        if self.low is None or self.high is None or self.low <= 0.5 <= self.high:
            return "does not tell: not resolved"
        return "tells" if self.low > 0.5 else "does not tell: the opposite does"


def choices_of(points: Sequence[Mapping[str, Any]], first: str, second: str) -> list[Choice]:
    """Every criterion held against the training losses of two methods.

    Args:
        points: As `measure_point` makes them.
        first: A method.
        second: Another one.
    """
    found = [_choice(points, first, second, criterion) for criterion in CRITERIA]
    return [choice for choice in found if choice.places + choice.ties]


def _choice(points: Sequence[Mapping[str, Any]], first: str, second: str, criterion: str) -> Choice:
    differences = _differences(points, first, second, criterion)
    runs = [run for by_seed in differences.values() for run in by_seed]
    means = [tuple(map(_mean, zip(*by_seed, strict=True))) for by_seed in differences.values()]
    told = [(x, y) for x, y in means if x and y]
    agree = sum(x * y < 0 for x, y in told)
    low, high = binomial_interval(agree, len(told)) if told else (None, None)
    return Choice(
        criterion, first, second, len(told), agree, low, high,
        sum(x > 0 for x, _ in told), sum(y < 0 for _, y in told), len(means) - len(told),
        sum(bool(x and y) for x, y in runs), sum(x * y < 0 for x, y in runs),
    )  # fmt: skip


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
