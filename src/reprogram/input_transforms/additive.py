"""Additive prompts ("watermarks"): the image fills the canvas, delta is added to it.

Bahng et al. 2022, "Exploring visual prompts for adapting large-scale models". There delta is added
to the *normalised* image, so delta and its published learning rate are in normalised units; here,
before normalisation, z = r(x) + std delta.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from reprogram.errors import InputError
from reprogram.input_transforms.base import SharedPrompt, at_least

__all__ = ["AdditivePrompt", "Border", "Full", "Patch", "default_width"]


def default_width(canvas: int) -> int:
    """Width of a frame or side of a patch: the published 30 of 224 px, scaled, pixels.

    >>> default_width(224), default_width(32)
    (30, 4)
    """
    return max(1, round(30 * canvas / 224))


class AdditivePrompt(SharedPrompt, ABC):
    """z = r(x) + std offset, with s = H; the subclasses say how the offset is parameterised.

    Args:
        canvas: H, side of the source's images, pixels.
        std: Of the source's normalisation.
        clamp: Whether z is clamped to [0, 1]; published prompts are not. A clamped prompt is no
            longer a sum, so it is not `shared`.
    """

    units = "normalised"
    std: Tensor

    def __init__(self, canvas: int, *, std: Float[Tensor, "3 1 1"], clamp: bool = False) -> None:
        super().__init__(canvas, image_size=canvas)
        self.clamp = clamp
        self.shared = not clamp
        self.register_buffer("std", std.clone(), persistent=False)

    @abstractmethod
    def offset(self) -> Float[Tensor, "3 H W"]:
        """What is added to the normalised image."""

    def place(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 H W"]:
        return x

    def prompt(self) -> Float[Tensor, "3 H W"]:
        return self.std * self.offset()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        z = super().forward(x)
        return z.clamp(0, 1) if self.clamp else z

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.offset().detach().clone()


class Full(AdditivePrompt):
    """Delta on the full image (`full`): 3 H^2 parameters, 0 at the start.

    Args:
        canvas: H, side of the source's images, pixels.
        std: Of the source's normalisation.
        clamp: Whether z is clamped to [0, 1].
    """

    def __init__(self, canvas: int, *, std: Float[Tensor, "3 1 1"], clamp: bool = False) -> None:
        super().__init__(canvas, std=std, clamp=clamp)
        self.delta = nn.Parameter(torch.zeros(3, canvas, canvas))

    def offset(self) -> Float[Tensor, "3 H W"]:
        return self.delta


class Border(AdditivePrompt):
    """Delta on a frame of the full-size image (`border`).

    Args:
        canvas: H, side of the source's images, pixels.
        std: Of the source's normalisation.
        width: p, width of the frame, pixels; None is the published 30 of 224, scaled.
        clamp: Whether z is clamped to [0, 1].

    Attributes:
        delta: (3, H, H) parameter, 0 at the start; only its entries on the frame get a gradient.
        frame: (H, H) bool, where delta is added.

    >>> border = Border(canvas=224, std=torch.ones(3, 1, 1))
    >>> 3 * int(border.frame.sum())  # the published parameter count
    69840
    """

    frame: Tensor

    def __init__(
        self,
        canvas: int,
        *,
        std: Float[Tensor, "3 1 1"],
        width: int | None = None,
        clamp: bool = False,
    ) -> None:
        super().__init__(canvas, std=std, clamp=clamp)
        self.width = default_width(canvas) if width is None else at_least(1, "width", width)
        if 2 * self.width >= canvas:
            raise InputError(
                f"width must leave some of the {canvas} px image free, got {self.width}. "
                f"Use the prompt full, or width={default_width(canvas)}."
            )
        self.delta = nn.Parameter(torch.zeros(3, canvas, canvas))
        frame = torch.ones(canvas, canvas, dtype=torch.bool)
        frame[self.width : -self.width, self.width : -self.width] = False
        self.register_buffer("frame", frame, persistent=False)
        self.idle = 3 * (canvas - 2 * self.width) ** 2

    def offset(self) -> Float[Tensor, "3 H W"]:
        return self.delta * self.frame

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.delta.detach().masked_fill(~self.frame, torch.nan)


class Patch(AdditivePrompt):
    """Delta on a square patch of the full-size image (`patch`).

    A fixed patch lies where the generator put it. A random one lies elsewhere on every training
    image, drawn from PyTorch's global generator (as dropout is); in eval mode it lies where a fixed
    one would, so that predictions are repeatable.

    Args:
        canvas: H, side of the source's images, pixels.
        std: Of the source's normalisation.
        generator: Draws the fixed corner.
        side: p, of the patch, pixels; None is the published 30 of 224, scaled.
        position: "fixed", or "random" for a new one on every training image.
        clamp: Whether z is clamped to [0, 1].

    Attributes:
        delta: (3, p, p) parameter, 0 at the start.
        corner: (2,) top and left of the fixed patch, pixels; stored with the prompt.
    """

    corner: Tensor

    def __init__(
        self,
        canvas: int,
        *,
        std: Float[Tensor, "3 1 1"],
        generator: Generator,
        side: int | None = None,
        position: Literal["fixed", "random"] = "fixed",
        clamp: bool = False,
    ) -> None:
        super().__init__(canvas, std=std, clamp=clamp)
        self.side = default_width(canvas) if side is None else at_least(1, "patch", side)
        if self.side > canvas:
            raise InputError(
                f"patch must be at most the source's {canvas} px, got {self.side}. "
                f"Use the prompt full, or patch={default_width(canvas)}."
            )
        if position not in ("fixed", "random"):
            raise InputError(f"position must be fixed or random, got {position!r}.")
        self.position = position
        self.shared = position == "fixed" and not clamp
        self.delta = nn.Parameter(torch.zeros(3, self.side, self.side))
        corner = torch.randint(canvas - self.side + 1, (2,), generator=generator)
        self.register_buffer("corner", corner)

    def offset(self) -> Float[Tensor, "3 H W"]:
        return self.offsets(self.corner[:, None])[0]

    def offsets(self, corners: Int[Tensor, "2 n"]) -> Float[Tensor, "n 3 H W"]:
        """The offset with its patch at each of n corners (top, left), in pixels."""
        side = torch.arange(self.side, device=corners.device)
        rows, columns = corners[:, :, None] + side  # (n, p) each
        image = torch.arange(corners.shape[1], device=corners.device)[:, None, None]
        offsets = self.delta.new_zeros(corners.shape[1], self.canvas, self.canvas, 3)
        offsets[image, rows[:, :, None], columns[:, None, :]] = self.delta.permute(1, 2, 0)
        return offsets.permute(0, 3, 1, 2)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        if self.position == "fixed" or not self.training:
            return super().forward(x)
        # Drawn on the CPU, so that every device sees the same corners.
        corners = torch.randint(self.canvas - self.side + 1, (2, len(x))).to(x.device)
        z = self.check(x) + self.std * self.offsets(corners)
        return z.clamp(0, 1) if self.clamp else z
