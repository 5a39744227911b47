"""What every input transformation is: target images in, source images out, before normalisation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from reprogram.errors import InputError

__all__ = ["InputTransform", "SharedPrompt", "at_least", "place_image"]


class InputTransform(nn.Module, ABC):
    """g: target images r(x) of side `image_size`, in [0, 1], to source images of side `canvas`.

    Args:
        canvas: H, side of the square images that the source takes, pixels.
        image_size: s, side of the square images r(x) that go in, pixels.

    Attributes:
        shared: Whether one prompt serves all images, z = place(x) + prompt (:class:`SharedPrompt`).
        units: Of :meth:`picture`: "pixel" ([0, 1] is black to white) or "normalised" (pixel values
            over the source's std; 0 changes nothing).
        idle: Parameter entries that never reach the output: those of a border prompt beneath the
            image. They get no gradient, and parameter counts leave them out.
    """

    shared: bool = False
    units: str = "pixel"
    idle: int = 0

    def __init__(self, canvas: int, image_size: int) -> None:
        super().__init__()
        self.canvas = at_least(1, "canvas", canvas)
        self.image_size = at_least(1, "image_size", image_size)

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        """The source's input for x, before normalisation; it may leave [0, 1], x is not changed."""

    @abstractmethod
    def picture(self) -> Float[Tensor, "3 H W"] | None:
        """The prompt alone in its own :attr:`units`, NaN where it does not act; None without one."""

    def check(self, x: Tensor) -> Tensor:
        """X itself.

        Raises:
            InputError: x is not a batch of RGB images of side `image_size`, or not floating point.
        """
        side = self.image_size
        if x.ndim != 4 or x.shape[1:] != (3, side, side):
            raise InputError(
                f"images must have shape (batch, 3, {side}, {side}), got {tuple(x.shape)}. "
                "Resize them to the prompt's image_size first."
            )
        if not x.is_floating_point():
            raise InputError(
                f"images must be numbers in [0, 1], got {x.dtype}. Divide them by 255."
            )
        return x

    def extra_repr(self) -> str:
        return f"canvas={self.canvas}, image_size={self.image_size}"


class SharedPrompt(InputTransform, ABC):
    """One prompt for all images: z = place(x) + prompt, two parts that engines use apart."""

    shared = True

    @abstractmethod
    def place(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 H W"]:
        """The image on the canvas, without the prompt; it holds no parameter."""

    @abstractmethod
    def prompt(self) -> Float[Tensor, "3 H W"]:
        """What is added to every placed image, in pixel units."""

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 3 H W"]:
        return self.place(self.check(x)) + self.prompt()


def place_image(
    x: Float[Tensor, "batch 3 h w"], canvas: int, top: int, left: int
) -> Float[Tensor, "batch 3 H W"]:
    """X with its corner at (top, left) of an otherwise black square canvas."""
    bottom, right = canvas - top - x.shape[2], canvas - left - x.shape[3]
    return nn.functional.pad(x, (left, right, top, bottom))


def at_least(low: int, name: str, value: int) -> int:
    """The value itself.

    Raises:
        InputError: It is below `low`.
    """
    if value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value}.")
    return value
