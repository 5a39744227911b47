"""Scores of how well a source will serve a target, taken before any training.

Each is a pure function of what the source makes of the target's training images, and of their
labels. Higher is better in all of them; only accuracies are in the units of an accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from reprogram.analysis.transferability.conditional import leep, nce
from reprogram.analysis.transferability.evidence import logme
from reprogram.analysis.transferability.hscore import h_score, h_score_shrunk
from reprogram.analysis.transferability.probes import (
    linear_probe,
    minus_unprompted,
    nearest_centroid,
    ridge_leave_one_out,
)

__all__ = [
    "SCORES",
    "Score",
    "h_score",
    "h_score_shrunk",
    "leep",
    "linear_probe",
    "logme",
    "minus_unprompted",
    "nce",
    "nearest_centroid",
    "ridge_leave_one_out",
]


@dataclass(frozen=True)
class Score:
    """One score.

    Attributes:
        function: Of what it reads, (n, columns), and the labels.
        reads: "features" of the source, its "probabilities", or "target_logits" before any prompt.
        reference: Paper and year.
    """

    function: Callable[[Float[Tensor, "n d"], Int[Tensor, " n"]], float]
    reads: str
    reference: str


SCORES: dict[str, Score] = {
    "logme": Score(logme, "features", "You et al. 2021 (ICML)"),
    "leep": Score(leep, "probabilities", "Nguyen et al. 2020 (ICML)"),
    "nce": Score(nce, "probabilities", "Tran et al. 2019 (ICCV)"),
    "h-score": Score(h_score, "features", "Bao et al. 2019 (ICIP)"),
    "h-score-shrunk": Score(h_score_shrunk, "features", "Ibrahim et al. 2022 (ECML PKDD)"),
    "nearest-centroid": Score(nearest_centroid, "features", "-"),
    "linear-probe": Score(linear_probe, "features", "-"),
    "ridge-loo": Score(ridge_leave_one_out, "features", "-"),
    "minus-unprompted": Score(minus_unprompted, "target_logits", "-"),
}
