"""Sample-specific masks: a small network says how strong the prompt is, patch by patch."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from reprogram.errors import InputError
from reprogram.initial import drawn
from reprogram.input_transforms.base import InputTransform

__all__ = ["SMM", "MaskNetwork"]

# Channels of the 3 x 3 convolutions and how many of them a max-pool follows; each pool doubles the
# patch: 8 x 8 pixels for convolutional sources, 16 x 16 for ViTs.
FORMS: dict[str, tuple[tuple[int, ...], int]] = {
    "cnn": ((3, 8, 16, 32, 64, 3), 3),
    "vit": ((3, 8, 16, 32, 64, 128, 3), 4),
}


class MaskNetwork(nn.Sequential):
    """3 x 3 convolutions, BatchNorm and ReLU after all but the last, max-pools after the first.

    Args:
        channels: Of the image, of every hidden map, and of the mask.
        pools: Number of max-pools; a mask value stands for a patch of 2^pools pixels.
        generator: Draws the convolutions (PyTorch's default initialisation).

    >>> channels, pools = FORMS["cnn"]
    >>> sum(p.numel() for p in MaskNetwork(channels, pools, torch.Generator()).parameters())
    26499
    """

    def __init__(self, channels: tuple[int, ...], pools: int, generator: Generator) -> None:
        layers: list[nn.Module] = []
        last = len(channels) - 2
        for i, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            layers.append(drawn(nn.Conv2d(before, after, 3, padding=1, device="meta"), generator))
            if i < last:
                layers += [nn.BatchNorm2d(after), nn.ReLU()]
            if i < pools:
                # ceil_mode: a side that is no multiple of the patch gets one more, cropped patch.
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
        super().__init__(*layers)


class SMM(InputTransform):
    """One shared delta, weighted per image, channel and patch (`smm`).

    Cai et al. 2024, ICML, "Sample-specific masks for visual reprogramming-based prompting":

        z = r(x) + std delta o upsample(mask((r(x) - mean) / std)).

    Each mask value is repeated over its patch; where the canvas is no multiple of the patch, the
    patches at the right and the bottom are cropped. The mask network's BatchNorm trains with it and
    follows this module's train or eval mode.

    Args:
        canvas: H, side of the source's images, pixels.
        mean: Of the source's normalisation.
        std: Of the source's normalisation.
        generator: Draws the mask network.
        form: "cnn" (8 x 8 patches, 26,499 parameters) or "vit" (16 x 16, 102,339).

    Attributes:
        delta: (3, H, H) parameter.
        mask: The mask network.
        patch: Side of the patch that one mask value stands for, pixels.
    """

    units = "normalised"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        canvas: int,
        *,
        mean: Float[Tensor, "3 1 1"],
        std: Float[Tensor, "3 1 1"],
        generator: Generator,
        form: Literal["cnn", "vit"] = "cnn",
    ) -> None:
        super().__init__(canvas, image_size=canvas)
        if form not in FORMS:
            raise InputError(f"mask must be cnn or vit, got {form!r}.")
        channels, pools = FORMS[form]
        self.patch = 2**pools
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.register_buffer("std", std.clone(), persistent=False)
        # Zero as published, so the mask network's first gradient is zero: it learns from step 2 on.
        self.delta = nn.Parameter(torch.zeros(3, canvas, canvas))
        self.mask = MaskNetwork(channels, pools, generator)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        return self.check(x) + self.std * self.delta * self.mask_of(x)

    def mask_of(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 H W"]:
        """The mask of each image at full size; values are not bounded."""
        values = self.mask((x - self.mean) / self.std)  # (B, 3, ceil(H / patch), ...)
        mask = values.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return mask[:, :, : self.canvas, : self.canvas]

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.delta.detach().clone()
