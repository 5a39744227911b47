"""Noise of images and of training labels: made once, the same for every method, cached."""

from __future__ import annotations

from reprogram.data.noise.apply import noise_note, noisy
from reprogram.data.noise.kinds import NOISES, SEVERITIES, ImageNoise, LabelNoise
from reprogram.data.noise.spec import CLEAN, Noise

__all__ = [
    "CLEAN",
    "NOISES",
    "SEVERITIES",
    "ImageNoise",
    "LabelNoise",
    "Noise",
    "noise_note",
    "noisy",
]
