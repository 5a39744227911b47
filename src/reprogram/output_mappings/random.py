"""Random label mapping."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from reprogram.output_mappings.base import MatrixMapping
from reprogram.output_mappings.frequency import check_one_to_one

__all__ = ["RandomMapping", "random_matrix"]


def random_matrix(
    num_source_classes: int, num_target_classes: int, generator: Generator
) -> Float[Tensor, "source target"]:
    """A one-to-one W drawn uniformly: target classes read different, random source classes.

    Args:
        num_source_classes: S.
        num_target_classes: T, at most S.
        generator: Draws the source classes.

    Returns:
        (S, T) of zeros with a single 1 in every column.

    Raises:
        InputError: T > S.
    """
    check_one_to_one(num_source_classes, num_target_classes)
    sources = torch.randperm(num_source_classes, generator=generator)[:num_target_classes]
    weight = torch.zeros(num_source_classes, num_target_classes)
    weight[sources, torch.arange(num_target_classes)] = 1
    return weight


class RandomMapping(MatrixMapping):
    """RLM (Elsayed et al. 2019): :func:`random_matrix`, drawn once.

    Args:
        num_source_classes: S.
        num_target_classes: T, at most S.
        generator: Draws the source classes.
    """

    def __init__(
        self, num_source_classes: int, num_target_classes: int, generator: Generator
    ) -> None:
        super().__init__(num_source_classes, num_target_classes)
        self.weight.copy_(random_matrix(num_source_classes, num_target_classes, generator))
