"""Padding prompts: the image in the middle of the canvas, a learned border around it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.input_transforms.base import SharedPrompt, place_image

__all__ = ["Padding", "PaddingRaw", "default_image_size"]


def default_image_size(canvas: int, native_size: int | None) -> int:
    """Side s of the image inside a padded canvas where the user names none, pixels.

    On 224 px, 32 for sets of at most 32 px and 128 for others (as published for ILM-VP); on another
    canvas seven eighths of it (28 in 32, as in the NTK paper).

    Args:
        canvas: H, side of the source's images, pixels.
        native_size: Side of the target's own images, pixels; None where it is not known.

    >>> default_image_size(224, 28), default_image_size(224, 500), default_image_size(32, 28)
    (32, 128, 28)
    """
    if canvas == 224:
        return 32 if native_size is not None and native_size <= 32 else 128
    return max(1, min(round(7 * canvas / 8), canvas - 1))


def larger_margin(canvas: int, image_size: int) -> int:
    """Pixels above and left of a centred image; below and right there may be one fewer.

    >>> larger_margin(224, 33)
    96

    Raises:
        InputError: The image leaves no border.
    """
    if image_size < canvas:
        return (canvas - image_size + 1) // 2
    raise InputError(
        f"size must be below the source's {canvas} px for a padding prompt, got {image_size}. "
        f"Use the prompt full, or size={default_image_size(canvas, None)}."
    )


class BorderPrompt(SharedPrompt, ABC):
    """r(x) centred in the canvas, border values learned around it.

    With an odd margin the larger half is first: 33 in 224 leaves 96 pixels left and above, 95 right
    and below.

    Args:
        canvas: H, side of the source's images, pixels.
        image_size: s < H, side of the image inside, pixels.

    Attributes:
        delta: (3, H, H) parameter, 0 at the start. Only its entries on the border are read, so only
            they get a gradient; under the image it stays 0.
        border: (H, H) bool, where the canvas holds no image.
        top: Rows above the image.
        left: Columns left of the image.
    """

    border: Tensor

    def __init__(self, canvas: int, image_size: int) -> None:
        super().__init__(canvas, image_size)
        self.top = self.left = larger_margin(canvas, image_size)
        self.delta = nn.Parameter(torch.zeros(3, canvas, canvas))
        border = torch.ones(canvas, canvas, dtype=torch.bool)
        border[self.top : self.top + image_size, self.left : self.left + image_size] = False
        self.register_buffer("border", border, persistent=False)
        self.idle = 3 * image_size**2

    def on_border(self, values: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
        """A copy of `values` for a picture: NaN where the image lies."""
        return values.detach().masked_fill(~self.border, torch.nan)

    def place(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 H W"]:
        return place_image(x, self.canvas, self.top, self.left)

    def prompt(self) -> Float[Tensor, "3 H W"]:
        return self.values() * self.border

    @abstractmethod
    def values(self) -> Float[Tensor, "3 H W"]:
        """Pixel values that delta stands for, the part under the image included."""


class Padding(BorderPrompt):
    """Border sigmoid(delta), in [0, 1] before normalisation (`pad`).

    Elsayed et al. 2019; the form of Chen et al. 2023 (ILM-VP) and of the NTK paper's VP:

        z = pad(r(x)) + m sigmoid(delta),   m = 1 on the border, 0 under the image.

    >>> pad = Padding(canvas=32, image_size=28)
    >>> 3 * int(pad.border.sum())  # values that reach the output
    720
    >>> Padding(canvas=32, image_size=40)
    Traceback (most recent call last):
    reprogram.errors.InputError: size must be below the source's 32 px for a padding prompt, \
got 40. Use the prompt full, or size=28.
    """

    def values(self) -> Float[Tensor, "3 H W"]:
        return self.delta.sigmoid()  # delta starts at 0 and sigmoid(0) = 0.5: a grey border

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.on_border(self.values())


class PaddingRaw(BorderPrompt):
    """Border mean + std delta: delta is the border after normalisation (`pad-raw`).

    The second published form adds delta to the normalised, zero-padded image. Written in pixels:

        z = pad(r(x)) + m (mean + std delta),

    so the border starts at the mean colour of the source's data and is not bounded.

    Args:
        canvas: H, side of the source's images, pixels.
        image_size: s < H, side of the image inside, pixels.
        mean: Of the source's normalisation.
        std: Of the source's normalisation.
    """

    units = "normalised"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        canvas: int,
        image_size: int,
        *,
        mean: Float[Tensor, "3 1 1"],
        std: Float[Tensor, "3 1 1"],
    ) -> None:
        super().__init__(canvas, image_size)
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.register_buffer("std", std.clone(), persistent=False)

    def values(self) -> Float[Tensor, "3 H W"]:
        return self.mean + self.std * self.delta

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.on_border(self.delta)
