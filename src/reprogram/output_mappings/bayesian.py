"""Bayesian mappings: every target class reads all source classes, weighted by their posterior."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.errors import InputError
from reprogram.output_mappings.base import MatrixMapping
from reprogram.output_mappings.counting import Array, counts, score_sums

__all__ = [
    "BayesianMapping",
    "BayesianPlusMapping",
    "bayesian_matrix",
    "default_top_k",
    "top_k_probabilities",
]


def bayesian_matrix(
    scores: Array,
    labels: Array,
    num_source_classes: int,
    num_target_classes: int,
    smoothing: float = 1.0,
) -> Float[Tensor, "source target"]:
    """W from how often (or how strongly) each source class is seen with each target class.

    Cai et al. 2024, NeurIPS, "Bayesian-guided label mapping for visual reprogramming":

        P[s, t] = counts[s, t] / (sum_t' counts[s, t'] + lambda),
        W[s, t] = P[s, t] / sum_s' P[s', t].

    Args:
        scores: (n, S), not negative: one-hot predictions for BLM, :func:`top_k_probabilities` for
            BLM+; of un-augmented training images.
        labels: (n,) target classes, 0 to T - 1.
        num_source_classes: S.
        num_target_classes: T; it may exceed S.
        smoothing: lambda, at least 0.

    Returns:
        (S, T); columns sum to 1, that of a class without images is 1 / S everywhere. In the scores'
        float type (PyTorch's default one for whole numbers); computed in float64.

    Raises:
        InputError: The arguments do not fit each other.

    >>> bayesian_matrix([[1, 0], [1, 0], [0, 1]], [0, 1, 1], 2, 3, smoothing=0.0).tolist()
    [[1.0, 0.3333333432674408, 0.5], [0.0, 0.6666666865348816, 0.5]]
    """
    table = score_sums(scores, labels, num_source_classes, num_target_classes)
    given = torch.as_tensor(scores).dtype
    dtype = given if given.is_floating_point else torch.get_default_dtype()
    return posterior(table, smoothing).to(dtype)


def posterior(
    table: Float[Tensor, "source target"], smoothing: float
) -> Float[Tensor, "source target"]:
    """W of a float64 table of (soft) counts."""
    rows = table.sum(1, keepdim=True) + check_smoothing(smoothing)
    p = torch.where(rows > 0, table / rows, 0.0)  # P[s, t]; a row 0 / 0 is 0
    columns = p.sum(0)
    return torch.where(columns > 0, p / columns, 1 / len(table))


def default_top_k(num_source_classes: int, num_target_classes: int) -> int:
    """Source classes an image votes for in BLM+: min(S, max(1, floor(0.15 T))).

    >>> default_top_k(1000, 10), default_top_k(1000, 100), default_top_k(10, 100)
    (1, 15, 10)
    """
    return min(num_source_classes, max(1, 15 * num_target_classes // 100))


def top_k_probabilities(logits: Float[Tensor, "n source"], k: int) -> Float[Tensor, "n source"]:
    """Softmax over all source classes, kept for each image's k largest and not renormalised.

    Where logits tie at the k-th place, the lowest classes are kept.

    Args:
        logits: Of the source.
        k: Classes kept, 1 to S.

    Returns:
        (n, S) scores in float64, zero but for k entries a row.

    Raises:
        InputError: k is out of range.

    >>> top_k_probabilities(torch.zeros(1, 4), k=2).tolist()
    [[0.25, 0.25, 0.0, 0.0]]
    """
    last = logits.topk(check_top_k(k, logits.shape[1]), dim=1).values[:, -1:]  # the k-th largest
    above, level = logits > last, logits == last
    places = k - above.sum(1, keepdim=True)  # left for the ties
    keep = above | (level & (level.cumsum(1) <= places))
    return torch.where(keep, logits.double().softmax(1), 0.0)


class BayesianMapping(MatrixMapping):
    """BLM: :func:`bayesian_matrix` of the source's predictions, before every epoch.

    Args:
        num_source_classes: S.
        num_target_classes: T; it may exceed S.
        smoothing: lambda, at least 0.
    """

    refit = "epoch"

    def __init__(
        self, num_source_classes: int, num_target_classes: int, smoothing: float = 1.0
    ) -> None:
        super().__init__(num_source_classes, num_target_classes)
        self.smoothing = check_smoothing(smoothing)

    @torch.no_grad()
    def fit(self, outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> None:
        table = counts(self.checked(outputs).argmax(1), labels, *self.weight.shape)
        self.weight.copy_(posterior(table.double(), self.smoothing))


class BayesianPlusMapping(MatrixMapping):
    """BLM+: :func:`bayesian_matrix` of :func:`top_k_probabilities`, before every epoch.

    Args:
        num_source_classes: S.
        num_target_classes: T; it may exceed S.
        smoothing: lambda, at least 0.
        top_k: Source classes an image votes for; None is :func:`default_top_k`.
    """

    refit = "epoch"

    def __init__(
        self,
        num_source_classes: int,
        num_target_classes: int,
        smoothing: float = 1.0,
        top_k: int | None = None,
    ) -> None:
        super().__init__(num_source_classes, num_target_classes)
        self.smoothing = check_smoothing(smoothing)
        k = default_top_k(num_source_classes, num_target_classes) if top_k is None else top_k
        self.top_k = check_top_k(k, num_source_classes)

    @torch.no_grad()
    def fit(self, outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> None:
        logits = self.checked(outputs)
        table = torch.zeros(*self.weight.shape, dtype=torch.float64)
        # In pieces: float64 probabilities of all images at once would be twice the logits' memory.
        for part, t in zip(logits.split(4096), labels.cpu().split(4096), strict=True):
            table += score_sums(top_k_probabilities(part, self.top_k), t, *self.weight.shape)
        self.weight.copy_(posterior(table, self.smoothing))


def check_smoothing(smoothing: float) -> float:
    """Lambda itself, or an error that says what it may be."""
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise InputError(
            f"smoothing must be a number of at least 0, got {smoothing}. Published: 1."
        )
    return smoothing


def check_top_k(k: int, num_source_classes: int) -> int:
    """The number k itself, or an error that says what it may be."""
    if not 1 <= k <= num_source_classes:
        raise InputError(
            f"top_k must be in 1 to {num_source_classes}, the source's classes, got {k}."
        )
    return k
