"""A padding prompt that learns how large the image is."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.input_transforms.base import InputTransform
from reprogram.input_transforms.padding import larger_margin

__all__ = ["LearnableScale"]


class LearnableScale(InputTransform):
    """The image at a learned side s in a sigmoid(delta) border (`scale`).

    AutoVP (2024). Parameterised as s = H sigmoid(logit), which keeps the image inside the canvas.
    R(s) is the (H, s0) matrix of a bilinear resize from side s0 to side s about the image's centre,
    0 outside the image; with the image's coverage a = (R 1)(R 1)^T, soft at its edge,

        z = R r(x) R^T + (1 - a) sigmoid(delta),

    differentiable in s and equal to `pad` at the start, where s = s0. The resize has no
    antialiasing: below s0 / 2 it skips pixels of the image.

    Args:
        canvas: H, side of the source's images, pixels.
        image_size: s0 < H, side of the images that go in and first value of s, pixels.

    Attributes:
        logit: () parameter.
        delta: (3, H, H) parameter, 0 (grey) at the start.
    """

    centres: Tensor

    def __init__(self, canvas: int, image_size: int) -> None:
        super().__init__(canvas, image_size)
        # The image stays where `pad` has it: its centre is (margin + s0 / 2) from the corner.
        centre = larger_margin(canvas, image_size) + image_size / 2
        self.logit = nn.Parameter(torch.tensor(math.log(image_size / (canvas - image_size))))
        self.delta = nn.Parameter(torch.zeros(3, canvas, canvas))
        self.register_buffer("centres", torch.arange(canvas) + 0.5 - centre, persistent=False)

    def side(self) -> Float[Tensor, ""]:
        """The learned side s of the image, pixels."""
        return self.canvas * self.logit.sigmoid()

    def resize_matrix(self) -> Float[Tensor, "H s"]:
        """R: weight of every image row in every canvas row, the same for columns."""
        # Image row, counted in pixels of r(x), that lies under the centre of a canvas row.
        rows = self.centres * self.image_size / self.side() + (self.image_size - 1) / 2
        own = torch.arange(self.image_size, device=rows.device, dtype=rows.dtype)
        return (1 - (rows[:, None] - own).abs()).relu()  # linear interpolation

    def border(self, resize: Float[Tensor, "H s"]) -> Float[Tensor, "3 H W"]:
        """The part of the prompt that the image leaves free."""
        reach = resize.sum(1)  # 1 inside the image, 0 outside
        return (1 - torch.outer(reach, reach)) * self.delta.sigmoid()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        resize = self.resize_matrix()
        return resize @ self.check(x) @ resize.T + self.border(resize)

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.border(self.resize_matrix()).detach()
