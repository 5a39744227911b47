"""The identity mapping of class numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.output_mappings.base import MatrixMapping
from reprogram.output_mappings.frequency import check_one_to_one

__all__ = ["FirstMapping", "first_matrix"]


def first_matrix(
    num_source_classes: int, num_target_classes: int
) -> Float[Tensor, "source target"]:
    """W with which target class t reads source class t.

    Args:
        num_source_classes: S.
        num_target_classes: T, at most S.

    Raises:
        InputError: T > S.

    >>> first_matrix(3, 2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    check_one_to_one(num_source_classes, num_target_classes)
    return torch.eye(num_source_classes, num_target_classes)


class FirstMapping(MatrixMapping):
    """:func:`first_matrix`, the NTK paper's mapping (`first`).

    Args:
        num_source_classes: S.
        num_target_classes: T, at most S.
    """

    def __init__(self, num_source_classes: int, num_target_classes: int) -> None:
        super().__init__(num_source_classes, num_target_classes)
        self.weight.copy_(first_matrix(num_source_classes, num_target_classes))
