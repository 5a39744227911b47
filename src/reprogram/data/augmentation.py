"""Training augmentation of resident uint8 images: draws are made apart from the images.

A draw says what is done to each image of a batch (where it is cropped, whether it is flipped).
The training loop makes the draws, so every engine renders the same pictures from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, UInt8
from torch import Generator, Tensor

__all__ = ["Augmentation", "Draw"]


class Draw(NamedTuple):
    """What happens to each image of a batch: crop corner in pixels, then flip."""

    top: Int[Tensor, " batch"]
    left: Int[Tensor, " batch"]
    flip: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class Augmentation:
    """Random crop from an image that is `margin` pixels larger than the crop, and horizontal flip.

    Args:
        margin: Pixels by which the stored image exceeds the crop; 0 crops nothing.
        flip: Whether half of the images are mirrored left to right.
    """

    margin: int = 0
    flip: bool = False

    @property
    def is_identity(self) -> bool:
        return self.margin == 0 and not self.flip

    def draw(self, n: int, generator: Generator) -> Draw:
        """Draw for n images; three calls of the generator whatever the settings, so draws stay aligned."""
        corner = torch.randint(self.margin + 1, (2, n), generator=generator)
        flip = (torch.rand(n, generator=generator) < 0.5) & self.flip
        return Draw(corner[0], corner[1], flip)

    def render(
        self, images: UInt8[Tensor, "batch 3 h w"], draw: Draw
    ) -> UInt8[Tensor, "batch 3 s s2"]:
        """Crop and flip: (B, 3, h, w) to (B, 3, h - margin, w - margin); the input is not changed."""
        b, _, h, w = images.shape
        rows = draw.top[:, None] + torch.arange(h - self.margin)  # (B, s)
        columns = torch.arange(w - self.margin).expand(b, -1)
        columns = torch.where(draw.flip[:, None], columns.flip(1), columns) + draw.left[:, None]
        batch = torch.arange(b)[:, None, None]
        channels_last = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
        return channels_last.permute(0, 3, 1, 2)


def pad_reflect(images: UInt8[Tensor, "n 3 h w"], width: int) -> UInt8[Tensor, "n 3 h2 w2"]:
    """Mirror `width` pixels around every image, so that a random crop never shows black."""
    rows, columns = (
        F.pad(torch.arange(float(n))[None], (width, width), mode="reflect").long().flatten()
        for n in images.shape[-2:]
    )
    return images[..., rows, :][..., columns]  # by index: in float32 a large set would not fit
