"""Fully connected input transformations: the NTK paper's FC and MIX."""

from __future__ import annotations

from jaxtyping import Float
from torch import Generator, Tensor, nn

from reprogram.initial import drawn
from reprogram.input_transforms.base import InputTransform
from reprogram.input_transforms.padding import Padding

__all__ = ["FC", "FCPad"]


def image_map(side: int, generator: Generator) -> nn.Linear:
    """A dense map of flattened RGB images of one side to themselves."""
    # The paper's starting values are not known here; these are PyTorch's defaults for the layer.
    return drawn(nn.Linear(3 * side**2, 3 * side**2, device="meta"), generator)


def image_map_parameters(side: int) -> int:
    """Weights and biases of :func:`image_map`."""
    return (3 * side**2 + 1) * 3 * side**2


class FC(InputTransform):
    """z = W x + b on the flattened image (`fc`): the NTK paper's FC, s = H.

    Args:
        canvas: H, side of the source's images, pixels.
        generator: Draws W and b.

    Attributes:
        linear: Linear(3 H^2, 3 H^2).
    """

    def __init__(self, canvas: int, *, generator: Generator) -> None:
        super().__init__(canvas, image_size=canvas)
        self.linear = image_map(canvas, generator)

    @classmethod
    def parameter_count(cls, canvas: int) -> int:
        """Trainable entries, told before they take memory.

        >>> FC.parameter_count(32), FC.parameter_count(112)
        (9440256, 1416205056)
        """
        return image_map_parameters(canvas)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        return self.linear(self.check(x).flatten(1)).view(x.shape)

    def picture(self) -> None:
        return None


class FCPad(InputTransform):
    """A dense map of the image, then padding (`fc-pad`): the NTK paper's MIX.

        z = pad(W x + b) + m sigmoid(delta),   m = 1 on the border.

    Args:
        canvas: H, side of the source's images, pixels.
        image_size: s < H, side of the image inside, pixels.
        generator: Draws W and b.

    Attributes:
        linear: Linear(3 s^2, 3 s^2).
        padding: The :class:`Padding` around it.
    """

    def __init__(self, canvas: int, image_size: int, *, generator: Generator) -> None:
        super().__init__(canvas, image_size)
        self.padding = Padding(canvas, image_size)  # first: it refuses a size that does not fit
        self.linear = image_map(image_size, generator)
        self.idle = self.padding.idle

    @classmethod
    def parameter_count(cls, canvas: int, image_size: int) -> int:
        """Trainable entries, delta's under the image included, told before they take memory.

        >>> FCPad.parameter_count(32, 28)
        5537328
        """
        return image_map_parameters(image_size) + 3 * canvas**2

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        return self.padding(self.linear(self.check(x).flatten(1)).view(x.shape))

    def picture(self) -> Float[Tensor, "3 H W"]:
        return self.padding.picture()
