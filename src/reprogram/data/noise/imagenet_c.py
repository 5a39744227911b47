"""The corruptions of ImageNet-C (Hendrycks and Dietterich 2019), each image seeded.

They come from the package imagecorruptions-imaug, the fork of imagecorruptions that runs with
today's NumPy. Their strengths were chosen for 224 px: on images of 32 px they do more harm than
those of CIFAR-10-C, which has its own.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from reprogram.errors import InputError

__all__ = ["CORRUPTIONS", "EXTRA_CORRUPTIONS", "MIN_SIDE", "corrupt", "library_version"]

MIN_SIDE = 32  # pixels; the library refuses smaller images

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip
# Meant for validation in ImageNet-C's protocol.
EXTRA_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")

# These two draw from generators of their own (scikit-image's, Numba's) that np.random.seed does
# not reach; they take a seed instead.
OWN_GENERATOR = frozenset({"impulse_noise", "glass_blur"})

# The other ones draw from NumPy's global generator, which all threads share.
_lock = threading.Lock()


def corrupt(
    name: str, pixels: UInt8[ndarray, "h w 3"], severity: float, rng: np.random.Generator
) -> UInt8[ndarray, "h w 3"]:
    """One corrupted image; the same generator state gives the same bits.

    Args:
        name: In CORRUPTIONS or EXTRA_CORRUPTIONS.
        pixels: An RGB image of at least 32 x 32 pixels.
        severity: 1 to 5.
        rng: Draws the seed.

    Raises:
        InputError: The extra is not installed.
    """
    apply = _library()
    seed = int(rng.integers(2**31))
    own = {"seed": seed} if name in OWN_GENERATOR else {}
    # The library prints where an image's side does not suit it, and copes.
    with _lock, _global_numpy_seed(seed), redirect_stdout(io.StringIO()):
        if name == "spatter":
            return _spatter(apply, pixels, int(severity))
        return apply(pixels, severity=int(severity), corruption_name=name, **own)


def _spatter(apply: Callable[..., ndarray], pixels: ndarray, severity: int) -> ndarray:
    """On a small image no drop may fall; the library then divides 0 by 0, and black comes out."""
    try:
        with np.errstate(invalid="raise"):
            return apply(pixels, severity=severity, corruption_name="spatter")
    except FloatingPointError:
        return pixels


def library_version() -> str:
    """What the pixels depend on beside the seed.

    Raises:
        InputError: The extra is not installed.
    """
    _library()
    names = ("imagecorruptions-imaug", "numpy", "scikit-image", "opencv-python")
    return " ".join(f"{name} {version(name)}" for name in names)


def _library() -> Callable[..., ndarray]:
    try:
        from imagecorruptions import corrupt as apply
    except ImportError as error:
        raise InputError(
            "the corruptions of ImageNet-C need a package that is not installed. "
            'Run: pip install "reprogram[corruptions]".'
        ) from error
    return apply


@contextmanager
def _global_numpy_seed(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded for a block, then as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
