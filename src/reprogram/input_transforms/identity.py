"""No prompt: the resized image goes into the source as it is (`none`)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from reprogram.input_transforms.base import InputTransform

__all__ = ["Identity"]


class Identity(InputTransform):
    """z = r(x), with s = H: what every prompt has to beat.

    Args:
        canvas: H, side of the source's images, pixels.
    """

    def __init__(self, canvas: int) -> None:
        super().__init__(canvas, image_size=canvas)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        return self.check(x)

    def picture(self) -> None:
        return None
