"""Every predictor on equal terms: alone, beside the unprompted accuracy, and combined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.analysis.calibration import PARTS, Calibration
from reprogram.analysis.study.agreement import Agreement, Interval, PairWeights, agreement
from reprogram.analysis.study.calibrate import (
    calibration_of,
    chosen_anew,
    held_out,
    smallest_error,
)
from reprogram.analysis.study.rows import Pairs
from reprogram.errors import InputError

__all__ = ["AIM", "Candidate", "Contest", "Evaluation", "Times", "evaluate"]

OUTCOMES = ("accuracy", "gain")
LEFT_OUT = ("target", "source")
AIM = {"spearman": 0.9, "error": 0.04, "share": 0.10}

# What needs more than a forward pass, and so who competes with whom.
FAMILIES: dict[str, tuple[str, ...]] = {
    "kernel": ("kernel", "gain", "alignment", "effective-dimension"),
    "training": ("epoch-1", "epoch-2", "first-steps"),
}
WITHOUT_KERNEL = ("unprompted", "probe", "centroid")
# The seconds of a row that a predictor needs; what several need is paid once. Any other is a score.
NEEDS: dict[str, tuple[str, ...]] = {
    "unprompted": ("mapping", "pass"),
    "probe": ("pass", "probe"),
    "centroid": ("mapping", "centroid"),
    **dict.fromkeys(("kernel", "gain", "effective-dimension"), ("mapping", "pass", "kernel")),
    "alignment": ("mapping", "pass", "kernel", "alignment"),
    "first-steps": ("first-steps",),
}
FEWEST = {"pairs": 4, "target": 2, "source": 2}


@dataclass(frozen=True, eq=False)
class Candidate:
    """Predictors that a linear fit turns into an accuracy, and a gain.

    Attributes:
        features: Names of the predictors.
        family: "kernel", "training", "both" or "scores": what it needs.
        share: Of the training's time by the pace of a step, the median over the trials.
        results: By (outcome, what was left out).
        predicted: Accuracy of every row, leaving targets out.
    """

    features: tuple[str, ...]
    family: str
    share: float
    results: Mapping[tuple[str, str], Agreement]
    predicted: Float[ndarray, " rows"]

    @property
    def name(self) -> str:
        """Its predictors, joined."""
        return " + ".join(self.features)

    @property
    def error(self) -> float:
        """What candidates are ranked by: mean absolute error of the accuracy, targets left out."""
        found = self.results["accuracy", "target"].error
        assert found is not None and found.value is not None
        return found.value

    @property
    def run_error(self) -> float:
        """The same of single runs, which is what a user has."""
        found = self.results["accuracy", "target"].run_error
        assert found is not None
        return found

    def to_dict(self) -> dict[str, Any]:
        results = [
            {"outcome": outcome, "left_out": left_out, **found.to_dict()}
            for (outcome, left_out), found in self.results.items()
        ]
        own = {"name": self.name, "features": self.features, "family": self.family}
        return own | {"share_of_training": self.share, "results": results}


@dataclass(frozen=True)
class Contest:
    """Two candidates: by how much the first's mean absolute error is the smaller.

    Attributes:
        first, second: Names.
        difference: Of the second's error minus the first's, its interval widened by the number of
            contests (Bonferroni); resolved where 0 lies outside.
    """

    first: str
    second: str
    difference: Interval

    @property
    def resolved(self) -> bool:
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


@dataclass(frozen=True)
class Times:
    """Medians over the trials.

    Attributes:
        seconds: Of a forecast with all its parts.
        share: Of the training that it predicts, by the pace of a step measured beside the forecast.
        share_recorded: Of the same training as that was recorded, under whatever load it had.
        share_complete: Of a training on the complete split, by that pace.
    """

    seconds: float
    share: float
    share_recorded: float
    share_complete: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a study found.

    Attributes:
        pairs: The rows.
        raw: Uncalibrated agreement of every predictor, by (predictor, outcome).
        candidates: All fits, the smallest error first.
        user: The best fit of a forecast's parts: what a user gets. Its results choose the parts anew
            for everything that is left out, so they are not those of the candidate of its name.
        calibration: That fit on all rows.
        contests: The winner against the best of each other family.
        kernel_share: Of the held-out squared error that unprompted accuracy and probe leave, what
            the kernel's gain explains; below 0 where it adds error.
        kernel_contest: The fit of all parts against the one without the kernel.
        times: Seconds and shares.
    """

    pairs: Pairs
    raw: Mapping[tuple[str, str], Agreement]
    candidates: Sequence[Candidate]
    user: Candidate
    calibration: Calibration
    contests: Sequence[Contest]
    kernel_share: float
    kernel_contest: Contest
    times: Times

    @property
    def winner(self) -> Candidate:
        """The fit with the smallest error."""
        return self.candidates[0]

    def best(self, family: str) -> Candidate | None:
        """The best fit of a family."""
        return next((c for c in self.candidates if c.family == family), None)

    def aims(self) -> dict[str, bool]:
        """Which of the aims the user's fit reaches."""
        spearman = self.user.results["accuracy", "target"].spearman.value
        return {
            "spearman": spearman is not None and spearman >= AIM["spearman"],
            "error": self.user.run_error <= AIM["error"],
            "share": self.user.share <= AIM["share"],
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **counts(self.pairs),
            "left_out_predictors": self.pairs.left_out,
            "raw": [
                {"predictor": name, "outcome": outcome, **found.to_dict()}
                for (name, outcome), found in self.raw.items()
            ],
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "winner": self.winner.name,
            "user": self.user.name,
            "user_results": self.user.to_dict()["results"],
            "calibration": asdict(self.calibration),
            "contests": [asdict(c) | {"resolved": c.resolved} for c in self.contests],
            "kernel_share": self.kernel_share,
            "kernel_contest": asdict(self.kernel_contest)
            | {"resolved": self.kernel_contest.resolved},
            "times": asdict(self.times),
            "aims": self.aims(),
        }


def evaluate(rows: Sequence[Mapping[str, Any]]) -> Evaluation:
    """Calibrate every predictor on other targets, then on other sources, and score it.

    Args:
        rows: As `measure_trial` makes them.

    Raises:
        InputError: Too few pairs, targets or sources to leave one out.
    """
    if not rows:
        raise InputError("a study without rows has nothing to score.")
    pairs = Pairs(rows)
    _check(pairs)
    weights = PairWeights(pairs.names)
    raw = {
        (name, outcome): agreement(
            weights, pairs.mean(pairs.predictors([name])[:, 0]), pairs.mean(pairs.outcome(outcome))
        )
        for name in pairs.features
        for outcome in OUTCOMES
    }
    candidates = sorted(
        (_candidate(pairs, weights, features) for features in _feature_sets(pairs.features)),
        key=lambda c: (round(c.error, 12), len(c.features)),
    )
    by_features = {c.features: c for c in candidates}
    user = _user(pairs, weights)
    families = dict.fromkeys(c.family for c in candidates)
    rivals = [next(c for c in candidates if c.family == f) for f in families][1:]
    whole, without = by_features[PARTS], by_features[WITHOUT_KERNEL]
    return Evaluation(
        pairs, raw, candidates, user, calibration_of(pairs, user.features, user.predicted),
        [_contest(pairs, weights, candidates[0], rival, len(rivals)) for rival in rivals],
        1 - _squared_error(pairs, whole) / _squared_error(pairs, without),
        _contest(pairs, weights, whole, without), _times(pairs),
    )  # fmt: skip


def counts(pairs: Pairs) -> dict[str, int]:
    """How much a study rests on."""
    sources, targets = zip(*pairs.names, strict=True)
    return {
        "runs": len(pairs.rows), "pairs": len(pairs.names), "sources": len(set(sources)),
        "targets": len(set(targets)),
    }  # fmt: skip


def _check(pairs: Pairs) -> None:
    found = counts(pairs)
    if (
        found["pairs"] < FEWEST["pairs"]
        or found["targets"] < FEWEST["target"]
        or found["sources"] < FEWEST["source"]
    ):
        raise InputError(
            f"a study needs at least {FEWEST['pairs']} pairs of {FEWEST['source']} sources and "
            f"{FEWEST['target']} targets to leave one out, got {found['pairs']} pairs of "
            f"{found['sources']} and {found['targets']}. Train more: configs/prediction.py has 33."
        )


def _feature_sets(features: Sequence[str]) -> list[tuple[str, ...]]:
    """Every predictor alone, beside the unprompted accuracy, and beside all that is nearly free.

    So each competitor gets the company that the kernel has in a forecast.
    """
    others = [name for name in features if name != "minus-unprompted"]  # the same, but for its sign
    sets: list[tuple[str, ...]] = [(name,) for name in others]
    # The kernel's accuracy is the unprompted one plus its gain: beside the former it is the latter.
    beside = [name for name in others if name not in ("unprompted", "kernel")]
    sets += [("unprompted", name) for name in beside]
    sets += [(*WITHOUT_KERNEL, name) for name in beside if name not in PARTS]
    sets += _part_sets()
    if "first-steps" in features:
        sets.append((*PARTS, "first-steps"))
    return list(dict.fromkeys(sets))


def _part_sets() -> list[tuple[str, ...]]:
    """What a calibration can be made of, all parts first."""
    return [c for n in range(len(PARTS), 0, -1) for c in itertools.combinations(PARTS, n)]


def _candidate(pairs: Pairs, weights: PairWeights, features: tuple[str, ...]) -> Candidate:
    return _scored(pairs, weights, features, lambda o, out: held_out(pairs, o, features, out))


def _user(pairs: Pairs, weights: PairWeights) -> Candidate:
    """The parts with the smallest error; scored with parts chosen without what is left out."""
    sets = _part_sets()
    features = smallest_error(pairs, sets, "target")
    return _scored(pairs, weights, features, lambda o, out: chosen_anew(pairs, o, sets, out))


def _scored(
    pairs: Pairs,
    weights: PairWeights,
    features: tuple[str, ...],
    predict: Callable[[str, str], Float[ndarray, " rows"]],
) -> Candidate:
    """A candidate whose predictions by outcome and by what is left out are these."""
    results, accuracies = {}, {}
    for outcome, left_out in itertools.product(OUTCOMES, LEFT_OUT):
        actual, predicted = pairs.outcome(outcome), predict(outcome, left_out)
        accuracies[outcome, left_out] = predicted
        run_error = float(np.average(np.abs(predicted - actual), weights=pairs.weights))
        results[outcome, left_out] = agreement(
            weights, pairs.mean(predicted), pairs.mean(actual), run_error
        )
    return Candidate(
        features, family_of(features), _share(pairs, features), results,
        accuracies["accuracy", "target"],
    )  # fmt: skip


def family_of(features: Sequence[str]) -> str:
    """What predictors need: the kernel, steps of the training, both, or a forward pass alone.

    >>> family_of(("unprompted", "gain", "probe")), family_of(("logme",))
    ('kernel', 'scores')
    """
    needed = [family for family, names in FAMILIES.items() if set(features) & set(names)]
    return "both" if len(needed) > 1 else (needed or ["scores"])[0]


def _share(pairs: Pairs, features: Sequence[str]) -> float:
    """Share of the training's time that all the predictors take, the median over the trials."""
    epochs = [name for name in features if name.startswith("epoch-")]
    needed = {
        seconds
        for name in features
        if name not in epochs
        for seconds in NEEDS.get(name, ("scores-pass", f"score {name}"))
    }
    taken = sum((pairs.seconds(name) for name in needed), np.zeros(len(pairs.rows)))
    shares = taken / pairs.seconds("training-projected")
    for name in epochs:
        whole = np.array([row["epochs"] for row in pairs.rows])
        shares = shares + int(name.removeprefix("epoch-")) / whole
    return float(np.median(shares))


def _contest(
    pairs: Pairs, weights: PairWeights, first: Candidate, second: Candidate, family: int = 1
) -> Contest:
    actual = pairs.mean(pairs.outcome("accuracy"))
    errors = [np.abs(pairs.mean(c.predicted) - actual) for c in (first, second)]
    difference = weights.interval(weights.mean(errors[1]) - weights.mean(errors[0]), family)
    return Contest(first.name, second.name, difference)


def _squared_error(pairs: Pairs, candidate: Candidate) -> float:
    errors = candidate.predicted - pairs.outcome("accuracy")
    return max(float(np.average(errors**2, weights=pairs.weights)), math.ulp(1.0))


def _times(pairs: Pairs) -> Times:
    seconds = pairs.seconds("forecast")
    names = ("training-projected", "training", "complete-projected")
    shares = [float(np.median(seconds / pairs.seconds(name))) for name in names]
    return Times(float(np.median(seconds)), *shares)
