"""What every score checks first."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.errors import InputError

__all__ = ["checked", "class_table"]


def checked(
    values: Float[Tensor, "n d"], labels: Int[Tensor, "m"]
) -> tuple[Float[Tensor, "n d"], Int[Tensor, "m"]]:
    """Features, logits or probabilities in float64 on the CPU, with their labels.

    Raises:
        InputError: Nothing to score, another number of labels, or entries that are not finite.
    """
    if not len(values) or len(values) != len(labels):
        raise InputError(
            f"a score needs as many labels as examples, at least one: got {len(values)} examples "
            f"and {len(labels)} labels."
        )
    if not torch.isfinite(values).all():
        raise InputError("features and probabilities must be finite, got NaN or infinity.")
    return values.detach().cpu().to(torch.float64), labels.detach().cpu().long()


def class_table(labels: Int[Tensor, " n"]) -> tuple[Float[Tensor, "n t"], Float[Tensor, " t"]]:
    """One-hot labels over the classes that occur, and how many examples each has."""
    classes, index = labels.unique(return_inverse=True)
    one_hot = torch.nn.functional.one_hot(index, len(classes)).double()
    return one_hot, one_hot.sum(0)
