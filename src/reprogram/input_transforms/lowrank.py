"""A full-image prompt of low rank."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from reprogram.errors import InputError
from reprogram.input_transforms.additive import AdditivePrompt
from reprogram.input_transforms.base import at_least

__all__ = ["LowRank"]


class LowRank(AdditivePrompt):
    """Delta = B A in every channel (`lowrank`): 6 r H parameters instead of 3 H^2.

    LoR-VP (2025): z = r(x) + std B A, with B = 0 and A ~ N(0, 1) at the start.

    Args:
        canvas: H, side of the source's images, pixels.
        std: Of the source's normalisation.
        generator: Draws A.
        rank: r, at most H.
        clamp: Whether z is clamped to [0, 1].

    Attributes:
        B: (3, H, r) parameter, 0 at the start, so A's first gradient is 0.
        A: (3, r, H) parameter.
    """

    def __init__(
        self,
        canvas: int,
        *,
        std: Float[Tensor, "3 1 1"],
        generator: Generator,
        rank: int = 4,
        clamp: bool = False,
    ) -> None:
        super().__init__(canvas, std=std, clamp=clamp)
        if at_least(1, "rank", rank) > canvas:
            raise InputError(
                f"rank must be at most the source's {canvas} px, got {rank}. "
                "The prompt full has no limit on the rank."
            )
        self.B = nn.Parameter(torch.zeros(3, canvas, rank))
        self.A = nn.Parameter(torch.randn(3, rank, canvas, generator=generator))

    def offset(self) -> Float[Tensor, "3 H W"]:
        return self.B @ self.A
