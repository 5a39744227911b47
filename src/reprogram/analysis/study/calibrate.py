"""Linear fits of what training reached, made without the targets, or sources, they are tried on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.analysis.forecast import PARTS, Calibration
from reprogram.analysis.study.rows import Pairs

__all__ = ["calibration_of", "fit", "held_out"]


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


def calibration_of(pairs: Pairs, features: Sequence[str]) -> Calibration:
    """The fit on all rows, with half a 95 % interval from the errors of leaving targets out.

    error = t(0.975, pairs - coefficients) * root mean square of the held-out errors of single runs,
    each pair counting alike.

    Args:
        pairs: The rows.
        features: Some of the parts of a forecast; the others weigh nothing.
    """
    from scipy.special import stdtrit

    y = pairs.outcome("accuracy")
    coefficients = fit(pairs.predictors(features), y, pairs.weights)
    errors = held_out(pairs, "accuracy", features, "target") - y
    spread = math.sqrt(float(np.average(errors**2, weights=pairs.weights)))
    freedom = max(1, len(pairs.names) - len(coefficients))
    weights = dict.fromkeys(PARTS, 0.0)
    weights |= dict(zip(features, map(float, coefficients[1:]), strict=True))
    return Calibration(
        intercept=float(coefficients[0]), error=float(stdtrit(freedom, 0.975)) * spread,
        pairs=len(pairs.names), **weights,
    )  # fmt: skip
