"""A full-image prompt of low spatial frequencies."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.input_transforms.additive import AdditivePrompt
from reprogram.input_transforms.base import at_least

__all__ = ["Fourier"]


class Fourier(AdditivePrompt):
    """Delta as a sum of plane waves of at most F periods along each axis (`fourier`).

    One real coefficient a frequency (the Hartley form, so none is redundant), z = r(x) + std delta,

        delta[i, j] = 1 / (2F + 1) sum_{-F <= u, v <= F} c[u, v] cas(2 pi (u i + v j) / H),

    with cas = cos + sin. The factor makes an optimiser step of size lr in every coefficient a step
    of root mean square lr in delta, whatever F; so the rates of `full` apply, and with 2F + 1 = H
    delta is an orthonormal change of basis of `full`.

    Args:
        canvas: H, side of the source's images, pixels.
        std: Of the source's normalisation.
        frequencies: F, periods over the image, with 2F + 1 <= H; 0 is one colour.
        clamp: Whether z is clamped to [0, 1].

    Attributes:
        coefficients: (3, 2F + 1, 2F + 1) parameter c, 0 at the start; c[:, F, F] is the constant.
    """

    def __init__(
        self,
        canvas: int,
        *,
        std: Float[Tensor, "3 1 1"],
        frequencies: int = 8,
        clamp: bool = False,
    ) -> None:
        super().__init__(canvas, std=std, clamp=clamp)
        self.frequencies = at_least(0, "frequencies", frequencies)
        count = 2 * frequencies + 1
        if count > canvas:
            raise InputError(
                f"frequencies must be at most {(canvas - 1) // 2} on a source of {canvas} px, "
                f"got {frequencies}. The prompt full holds all of them."
            )
        self.coefficients = nn.Parameter(torch.zeros(3, count, count))

    def offset(self) -> Float[Tensor, "3 H W"]:
        f, c = self.frequencies, self.coefficients / (2 * self.frequencies + 1)
        # c cas = Re(X exp(i angle)) summed over all frequencies, X Hermitian.
        mirrored = c.flip(1, 2)  # c[-u, -v]
        spectrum = torch.complex(c + mirrored, mirrored - c)[:, :, f:] / 2  # v = 0..F is enough
        half = spectrum.new_zeros(3, self.canvas, self.canvas // 2 + 1)
        half[:, : f + 1, : f + 1] = spectrum[:, f:]  # u = 0..F
        if f:
            half[:, -f:, : f + 1] = spectrum[:, :f]  # u = -F..-1
        return torch.fft.irfft2(half, s=(self.canvas, self.canvas), norm="forward")
