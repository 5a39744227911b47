"""Proxy A-distance: how well a linear classifier tells two sets apart."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.seeds import seed_for

__all__ = ["proxy_a"]


def proxy_a(x: Float[ndarray, "n d"], y: Float[ndarray, "n d"]) -> float:
    """2 (1 - 2 error) of a logistic regression on images that it was not trained on.

    After Ben-David et al. 2007. 0: not to be told apart; 2: always. Two folds, so that every
    image is held out once; features are standardised by the training fold. An image k of both sets
    is in the same fold, so that a set is at 0 from itself.

    Args:
        x: Features of the first set.
        y: Features of the second set, as many.
    """
    order = np.random.default_rng(seed_for("folds", len(x))).permutation(len(x))
    folds = order[: len(x) // 2], order[len(x) // 2 :]
    wrong = sum(_errors(x, y, *pair) for pair in (folds, folds[::-1]))
    return 2 * (1 - 2 * wrong / (2 * len(x)))


def _errors(x: ndarray, y: ndarray, train: ndarray, test: ndarray) -> int:
    """Held-out images that are taken for the other set's."""
    from sklearn.linear_model import LogisticRegression

    seen = np.concatenate([x[train], y[train]])
    mean, scale = seen.mean(0), seen.std(0)
    scale[scale == 0] = 1  # a feature that never varies
    classifier = LogisticRegression(max_iter=10_000)
    classifier.fit((seen - mean) / scale, np.repeat([0, 1], len(train)))
    held_out = (np.concatenate([x[test], y[test]]) - mean) / scale
    return int((classifier.predict(held_out) != np.repeat([0, 1], len(test))).sum())
