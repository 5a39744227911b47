"""The experiment report's three image noises: Gaussian, blur, salt-and-pepper; uint8 in, uint8 out."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy.ndimage import gaussian_filter

__all__ = ["blur", "gaussian", "salt_and_pepper"]


def gaussian(
    pixels: UInt8[ndarray, "h w 3"], sigma: float, rng: np.random.Generator
) -> UInt8[ndarray, "h w 3"]:
    """Add N(0, sigma^2) to every value, clip and round.

    Args:
        pixels: An RGB image.
        sigma: Standard deviation, where 1 is the whole range of 255 grey levels.
        rng: Draws the noise.
    """
    return _to_uint8(pixels + 255 * sigma * rng.standard_normal(pixels.shape))


def blur(
    pixels: UInt8[ndarray, "h w 3"], width: float, rng: np.random.Generator
) -> UInt8[ndarray, "h w 3"]:
    """Convolve with a Gaussian; beyond the border the nearest pixel goes on.

    Args:
        pixels: An RGB image.
        width: Standard deviation as a share of the shorter side, so that a set's resolution does
            not change what a severity means.
        rng: Not used: a blur is no draw.
    """
    sigma = width * min(pixels.shape[:2])
    return _to_uint8(gaussian_filter(pixels.astype(float), (sigma, sigma, 0), mode="nearest"))


def salt_and_pepper(
    pixels: UInt8[ndarray, "h w 3"], share: float, rng: np.random.Generator
) -> UInt8[ndarray, "h w 3"]:
    """Replace pixels by black or white ones, each with half of the probability.

    Args:
        pixels: An RGB image.
        share: Probability that a pixel, all of its channels, is replaced.
        rng: Draws which.
    """
    draw = rng.random(pixels.shape[:2])
    out = pixels.copy()
    out[draw < share] = 255
    out[draw < share / 2] = 0
    return out


def _to_uint8(values: Float[ndarray, "h w 3"]) -> UInt8[ndarray, "h w 3"]:
    return values.round().clip(0, 255).astype(np.uint8)
