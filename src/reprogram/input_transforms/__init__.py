"""Input transformations: target images in, source images out, before normalisation.

Each is g in m(f(normalise(g(x)))), built from plain numbers and tensors; none knows the source.
"""

from __future__ import annotations

from reprogram.input_transforms.additive import AdditivePrompt, Border, Full, Patch, default_width
from reprogram.input_transforms.base import InputTransform, SharedPrompt
from reprogram.input_transforms.fourier import Fourier
from reprogram.input_transforms.identity import Identity
from reprogram.input_transforms.linear import FC, FCPad
from reprogram.input_transforms.lowrank import LowRank
from reprogram.input_transforms.padding import BorderPrompt, Padding, PaddingRaw, default_image_size
from reprogram.input_transforms.scale import LearnableScale
from reprogram.input_transforms.smm import SMM, MaskNetwork

__all__ = [
    "FC",
    "SMM",
    "AdditivePrompt",
    "Border",
    "BorderPrompt",
    "FCPad",
    "Fourier",
    "Full",
    "Identity",
    "InputTransform",
    "LearnableScale",
    "LowRank",
    "MaskNetwork",
    "Padding",
    "PaddingRaw",
    "Patch",
    "SharedPrompt",
    "default_image_size",
    "default_width",
]
