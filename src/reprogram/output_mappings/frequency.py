"""Mappings by frequency: a target class reads the source classes its images are taken for."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.errors import InputError
from reprogram.output_mappings.base import MatrixMapping
from reprogram.output_mappings.counting import Array, counts

__all__ = [
    "FrequencyMapping",
    "ManyToOneMapping",
    "check_one_to_one",
    "frequency_matrix",
    "many_to_one_matrix",
]


def frequency_matrix(
    predictions: Array, labels: Array, num_source_classes: int, num_target_classes: int
) -> Float[Tensor, "source target"]:
    """The greedy one-to-one W: the most frequent pair of source and target class first.

    Chen et al. 2023, CVPR (ILM-VP). The largest count fixes s -> t and strikes its row and column;
    ties go to the lowest s, then the lowest t. After the positive counts the remaining targets, in
    order, take the lowest free sources.

    Args:
        predictions: (n,) source classes, 0 to S - 1, of un-augmented training images. (The code
            released with the paper counts on augmented ones.)
        labels: (n,) target classes, 0 to T - 1.
        num_source_classes: S.
        num_target_classes: T, at most S.

    Returns:
        (S, T) of zeros with a single 1 in every column; target logits = source logits @ W.

    Raises:
        InputError: T > S, or predictions and labels do not fit.

    >>> frequency_matrix([2, 2, 0, 0], [0, 0, 0, 1], 3, 2).tolist()
    [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    """
    check_one_to_one(num_source_classes, num_target_classes)
    return greedy_matrix(counts(predictions, labels, num_source_classes, num_target_classes), k=1)


def many_to_one_matrix(
    predictions: Array, labels: Array, num_source_classes: int, num_target_classes: int, k: int
) -> Float[Tensor, "source target"]:
    """The greedy pass of :func:`frequency_matrix` with k disjoint source classes for every target.

    A taken source row is struck, a target column once it holds k. After the positive counts the
    targets that hold fewer, in order, fill up with the lowest free sources.

    Args:
        predictions: (n,) source classes, 0 to S - 1, of un-augmented training images.
        labels: (n,) target classes, 0 to T - 1.
        num_source_classes: S.
        num_target_classes: T.
        k: Source classes a target, with k T <= S.

    Returns:
        (S, T) with k entries 1 / k in every column: a target logit is the mean of its k.

    Raises:
        InputError: k T > S, or predictions and labels do not fit.
    """
    check_many_to_one(num_source_classes, num_target_classes, k)
    return greedy_matrix(counts(predictions, labels, num_source_classes, num_target_classes), k)


class FrequencyMapping(MatrixMapping):
    """:func:`frequency_matrix` of the source's predictions.

    With refit "start" it is FLM, fitted once with the initial prompt; with "epoch" it is ILM
    (Chen et al. 2023), fitted again with the current prompt before every epoch.

    Args:
        num_source_classes: S.
        num_target_classes: T, at most S.
        refit: "start" or "epoch".
    """

    def __init__(
        self,
        num_source_classes: int,
        num_target_classes: int,
        refit: Literal["start", "epoch"] = "epoch",
    ) -> None:
        super().__init__(num_source_classes, num_target_classes)
        check_one_to_one(num_source_classes, num_target_classes)
        self.refit = refit

    @torch.no_grad()
    def fit(self, outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> None:
        predictions = self.checked(outputs).argmax(1)
        self.weight.copy_(frequency_matrix(predictions, labels, *self.weight.shape))


class ManyToOneMapping(MatrixMapping):
    """:func:`many_to_one_matrix` of the source's predictions (`many`).

    Args:
        num_source_classes: S.
        num_target_classes: T.
        k: Source classes a target, with k T <= S.
        refit: "start", or "epoch" for every epoch's current prompt.
    """

    def __init__(
        self,
        num_source_classes: int,
        num_target_classes: int,
        k: int,
        refit: Literal["start", "epoch"] = "epoch",
    ) -> None:
        super().__init__(num_source_classes, num_target_classes)
        check_many_to_one(num_source_classes, num_target_classes, k)
        self.k, self.refit = k, refit

    @torch.no_grad()
    def fit(self, outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> None:
        predictions = self.checked(outputs).argmax(1)
        table = counts(predictions, labels, *self.weight.shape)
        self.weight.copy_(greedy_matrix(table, self.k))


def greedy_matrix(table: Int[Tensor, "source target"], k: int) -> Float[Tensor, "source target"]:
    """W of the greedy pass over a table of counts, k source classes a target, k T <= S."""
    num_source_classes, num_target_classes = table.shape
    flat = table.flatten()  # s-major: a stable sort leaves ties at the lowest s, then the lowest t
    order = flat.argsort(descending=True, stable=True)[: int((flat > 0).sum())]
    target_of: dict[int, int] = {}
    room = [k] * num_target_classes
    for s, t in (divmod(pair, num_target_classes) for pair in order.tolist()):
        if s not in target_of and room[t]:
            target_of[s] = t
            room[t] -= 1
    free = (s for s in range(num_source_classes) if s not in target_of)
    rest = [t for t, places in enumerate(room) for _ in range(places)]
    target_of |= dict(zip([next(free) for _ in rest], rest, strict=True))
    weight = torch.zeros(num_source_classes, num_target_classes)
    weight[list(target_of), list(target_of.values())] = 1 / k
    return weight


def check_one_to_one(num_source_classes: int, num_target_classes: int) -> None:
    """Refuse more target than source classes."""
    if num_target_classes > num_source_classes:
        raise InputError(
            "a one-to-one mapping needs a source class for each target class, got "
            f"{num_target_classes} target and {num_source_classes} source classes. "
            "Use the mapping blm, blm+ or linear: PROMPT+blm."
        )


def check_many_to_one(num_source_classes: int, num_target_classes: int, k: int) -> None:
    """Refuse more source classes than there are."""
    check_one_to_one(num_source_classes, num_target_classes)
    most = num_source_classes // num_target_classes
    if not 1 <= k <= most:
        raise InputError(
            f"sources_per_target must be in 1 to {most} for {num_target_classes} target and "
            f"{num_source_classes} source classes, got {k}. Use {most}, blm, blm+ or linear."
        )
