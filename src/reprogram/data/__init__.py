"""Target tasks: where their images come from and how they are split."""

from __future__ import annotations

from reprogram.data.images import open_rgb, square_pixels
from reprogram.data.splits import plan_split, stratified_subset
from reprogram.data.targets import TARGETS, load_target
from reprogram.data.task import Split, TargetTask

__all__ = [
    "TARGETS",
    "Split",
    "TargetTask",
    "load_target",
    "open_rgb",
    "plan_split",
    "square_pixels",
    "stratified_subset",
]
