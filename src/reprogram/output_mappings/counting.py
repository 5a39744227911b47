"""How often the source predicts s for an image of target class t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.errors import InputError

__all__ = ["Array", "as_classes", "as_scores", "counts", "score_sums"]

# What the matrix functions take: shapes and kinds are checked here, so that an error names them.
Array = Tensor | np.ndarray | Sequence


def counts(
    predictions: Array, labels: Array, num_source_classes: int, num_target_classes: int
) -> Int[Tensor, "source target"]:
    """Number of images of label t that are predicted as source class s, at [s, t].

    Both numbers of classes are passed, so a class without images keeps its row or column.

    Args:
        predictions: (n,) source classes, 0 to S - 1.
        labels: (n,) target classes, 0 to T - 1.
        num_source_classes: S.
        num_target_classes: T.

    Returns:
        (S, T) whole numbers.

    Raises:
        InputError: Lengths, kinds or ranges do not fit.

    >>> counts([0, 2, 2], [1, 0, 0], 3, 2).tolist()
    [[0, 1], [0, 0], [2, 0]]
    """
    s = as_classes("predictions", predictions, num_source_classes)
    t = as_classes("labels", labels, num_target_classes)
    if len(s) != len(t):
        raise InputError(f"labels must be one per prediction, got {len(t)} for {len(s)}.")
    # A bincount of one number a pair: no (n, S) one-hot is ever made.
    pairs = torch.bincount(
        s * num_target_classes + t, minlength=num_source_classes * num_target_classes
    )
    return pairs.view(num_source_classes, num_target_classes)


def score_sums(
    scores: Array, labels: Array, num_source_classes: int, num_target_classes: int
) -> Float[Tensor, "source target"]:
    """Sum of the scores for source class s over the images of label t, at [s, t], in float64.

    For one-hot scores these are the :func:`counts`.

    Args:
        scores: (n, S), not negative.
        labels: (n,) target classes, 0 to T - 1.
        num_source_classes: S.
        num_target_classes: T.

    Raises:
        InputError: Lengths, kinds or ranges do not fit.
    """
    votes = as_scores(scores, num_source_classes)
    t = as_classes("labels", labels, num_target_classes)
    if len(votes) != len(t):
        raise InputError(f"labels must be one per row of scores, got {len(t)} for {len(votes)}.")
    sums = torch.zeros(num_target_classes, num_source_classes, dtype=torch.float64)
    return sums.index_add_(0, t, votes).T


def as_classes(name: str, values: Array, num_classes: int) -> Int[Tensor, " n"]:
    """Class numbers as int64 on the CPU.

    Raises:
        InputError: They are not (n,) whole numbers from 0 to num_classes - 1.
    """
    if num_classes < 1:
        raise InputError(f"the number of classes for {name} must be at least 1, got {num_classes}.")
    classes = torch.as_tensor(values).detach().cpu()
    if classes.ndim != 1:
        raise InputError(f"{name} must have shape (n,), got {tuple(classes.shape)}.")
    if len(classes) == 0:
        return classes.long()
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise InputError(f"{name} must be whole numbers, got {classes.dtype}.")
    classes = classes.long()
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{name} must lie in 0 to {num_classes - 1}, got {low if low < 0 else high}. "
            f"Pass the number of all classes, {num_classes} here, whichever occur."
        )
    return classes


def as_scores(scores: Array, num_source_classes: int) -> Float[Tensor, "n source"]:
    """Scores as float64 on the CPU.

    Raises:
        InputError: They are not (n, S), or one is negative or not finite.
    """
    votes = torch.as_tensor(scores).detach().cpu().double()
    if votes.ndim != 2 or votes.shape[1] != num_source_classes:
        raise InputError(
            f"scores must have shape (n, {num_source_classes}), one column a source class, got "
            f"{tuple(votes.shape)}."
        )
    if not (votes.isfinite() & (votes >= 0)).all():
        raise InputError(
            "scores must be finite and not negative, got some that are not. Pass one-hot "
            "predictions or softmax probabilities, not logits."
        )
    return votes
