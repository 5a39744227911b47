"""Linear fits of what training reached, made without the targets, or sources, they are tried on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.analysis.calibration import PARTS, Calibration
from reprogram.analysis.study.rows import Pairs

__all__ = ["calibration_of", "chosen_anew", "fit", "held_out", "smallest_error"]

Features = tuple[str, ...]


def fit(
    x: Float[ndarray, "rows features"], y: Float[ndarray, " rows"], weights: Float[ndarray, " rows"]
) -> Float[ndarray, " coefficients"]:
    """Weighted least squares with an intercept, which comes first.

    Features are standardised on the way, so that the least-norm solution of collinear ones does not
    depend on their units.
    """
    mean = np.average(x, axis=0, weights=weights)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    scale = np.where(deviation > 1e-12 * (np.abs(mean) + 1), deviation, np.inf)
    design = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    root = np.sqrt(weights)
    found = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
    slopes = found[1:] / scale
    return np.concatenate([[found[0] - slopes @ mean], slopes])


def held_out(
    pairs: Pairs, outcome: str, features: Sequence[str], left_out: str
) -> Float[ndarray, " rows"]:
    """Every row's outcome as predicted by a fit on the rows of the other targets, or sources.

    Args:
        pairs: The rows.
        outcome: "accuracy", which is kept in [0, 1], or "gain".
        features: Predictors.
        left_out: "target" or "source": what a row shares with none that it is predicted from.
    """
    x, y = pairs.predictors(features), pairs.outcome(outcome)
    groups = np.array(pairs.groups(left_out))
    predicted = np.empty(len(y))
    for group in np.unique(groups):
        held = groups == group
        coefficients = fit(x[~held], y[~held], pairs.weights[~held])
        predicted[held] = coefficients[0] + x[held] @ coefficients[1:]
    return np.clip(predicted, 0.0, 1.0) if outcome == "accuracy" else predicted


def smallest_error(pairs: Pairs, sets: Sequence[Features], left_out: str) -> Features:
    """The features whose held-out accuracies have the smallest mean absolute error over pairs.

    The first of them where there is nothing to leave out.
    """
    if len(set(pairs.groups(left_out))) < 2:
        return sets[0]
    actual = pairs.mean(pairs.outcome("accuracy"))

    def error(features: Features) -> float:
        predicted = held_out(pairs, "accuracy", features, left_out)
        return float(np.abs(pairs.mean(predicted) - actual).mean())

    return min(sets, key=error)


def chosen_anew(
    pairs: Pairs, outcome: str, sets: Sequence[Features], left_out: str
) -> Float[ndarray, " rows"]:
    """:func:`held_out` with the features chosen among the other targets, or sources, too.

    A set that is chosen on the errors it is reported with has chosen some of its luck; here what is
    left out takes no part in the choice.

    Args:
        pairs: The rows.
        outcome: As in :func:`held_out`.
        sets: What can be chosen.
        left_out: As in :func:`held_out`.
    """
    groups = np.array(pairs.groups(left_out))
    predicted = np.empty(len(groups))
    for group in np.unique(groups):
        held = groups == group
        others = Pairs([row for row, out in zip(pairs.rows, held, strict=True) if not out])
        features = smallest_error(others, sets, left_out)
        predicted[held] = held_out(pairs, outcome, features, left_out)[held]
    return predicted


def calibration_of(
    pairs: Pairs, features: Sequence[str], predicted: Float[ndarray, " rows"] | None = None
) -> Calibration:
    """The fit on all rows, with half a 95 % interval from the errors of leaving targets out.

    error = t(0.975, pairs - coefficients) * root mean square of the held-out errors of single runs,
    each pair counting alike.

    Args:
        pairs: The rows.
        features: Some of the parts of a forecast; the others weigh nothing.
        predicted: Held-out accuracies that the errors are of; None takes those of the features.
    """
    from scipy.special import stdtrit

    y = pairs.outcome("accuracy")
    coefficients = fit(pairs.predictors(features), y, pairs.weights)
    if predicted is None:
        predicted = held_out(pairs, "accuracy", features, "target")
    spread = math.sqrt(float(np.average((predicted - y) ** 2, weights=pairs.weights)))
    freedom = max(1, len(pairs.names) - len(coefficients))
    weights = dict.fromkeys(PARTS, 0.0)
    weights |= dict(zip(features, map(float, coefficients[1:]), strict=True))
    return Calibration(
        intercept=float(coefficients[0]), unprompted=weights["unprompted"], gain=weights["gain"],
        probe=weights["probe"], centroid=weights["centroid"],
        error=float(stdtrit(freedom, 0.975)) * spread, pairs=len(pairs.names),
    )  # fmt: skip
