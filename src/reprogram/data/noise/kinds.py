"""The table of noises: what each changes and how strong its five severities are.

=================  =====================================  =====  =====  =====  =====  =====
kind               strength                                   1      2      3      4      5
=================  =====================================  =====  =====  =====  =====  =====
gaussian           standard deviation, range 0 to 1        0.04   0.08   0.12   0.18   0.26
blur               standard deviation / shorter side      0.015  0.025  0.035   0.05   0.07
salt-and-pepper    share of pixels                         0.02   0.05    0.1    0.2    0.3
ImageNet-C's 19    its own severities                         1      2      3      4      5
symmetric          share of wrong labels                    0.1    0.2    0.3    0.4    0.5
pair               share of wrong labels                    0.1    0.2    0.3    0.4   0.45
class-dependent    mean share of wrong labels              0.05    0.1    0.2    0.3    0.4
=================  =====================================  =====  =====  =====  =====  =====

The experiment report names no strengths; those of its three noises were chosen here, before any result, from
hardly visible to hardly legible. ImageNet-C's kinds have its names, with hyphens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
from numpy import ndarray

from reprogram.data.noise import imagenet_c, labels, pixels

__all__ = ["NOISES", "SEVERITIES", "ImageNoise", "LabelNoise"]

SEVERITIES = (1, 2, 3, 4, 5)
Levels = tuple[float, float, float, float, float]


@final
@dataclass(frozen=True)
class ImageNoise:
    """A noise of pixels, applied to every image in its own resolution.

    Attributes:
        corrupt: (pixels (h, w, 3), strength, generator) to pixels (h, w, 3).
        levels: Strength of severities 1 to 5.
        unit: What the strength measures.
        reference: Where it was published.
        min_side: Smaller images are first enlarged to this shorter side, pixels.
        version: What the pixels depend on beside the seed; InputError where it cannot run here.
    """

    corrupt: Callable[[ndarray, float, np.random.Generator], ndarray]
    levels: Levels
    unit: str
    reference: str
    min_side: int = 1
    version: Callable[[], str] = lambda: f"numpy {np.__version__}"


@final
@dataclass(frozen=True)
class LabelNoise:
    """A noise of training labels.

    Attributes:
        matrix: (number of classes T, rate, generator) to P(new label | label), (T, T).
        levels: Rate of severities 1 to 5.
        unit: What the rate measures.
        reference: Where it was published.
    """

    matrix: Callable[[int, float, np.random.Generator], ndarray]
    levels: Levels
    unit: str
    reference: str


def _imagenet_c(name: str) -> ImageNoise:
    return ImageNoise(
        partial(imagenet_c.corrupt, name), (1, 2, 3, 4, 5), "severity of ImageNet-C",
        "Hendrycks and Dietterich 2019", imagenet_c.MIN_SIDE, imagenet_c.library_version,
    )  # fmt: skip


NOISES: dict[str, ImageNoise | LabelNoise] = {
    "gaussian": ImageNoise(pixels.gaussian, (0.04, 0.08, 0.12, 0.18, 0.26),
        "standard deviation, range 0 to 1", "experiment report"),
    "blur": ImageNoise(pixels.blur, (0.015, 0.025, 0.035, 0.05, 0.07),
        "standard deviation / shorter side", "experiment report"),
    "salt-and-pepper": ImageNoise(pixels.salt_and_pepper, (0.02, 0.05, 0.1, 0.2, 0.3),
        "share of pixels", "experiment report"),
    **{
        name.replace("_", "-"): _imagenet_c(name)
        for name in imagenet_c.CORRUPTIONS + imagenet_c.EXTRA_CORRUPTIONS
    },
    "symmetric": LabelNoise(labels.symmetric, (0.1, 0.2, 0.3, 0.4, 0.5),
        "share of wrong labels", "Angluin and Laird 1988"),
    "pair": LabelNoise(labels.pair, (0.1, 0.2, 0.3, 0.4, 0.45),
        "share of wrong labels", "Han et al. 2018"),
    "class-dependent": LabelNoise(labels.class_dependent, (0.05, 0.1, 0.2, 0.3, 0.4),
        "mean share of wrong labels", "Patrini et al. 2017"),
}  # fmt: skip
