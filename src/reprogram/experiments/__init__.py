"""Cells and how they are run."""

from reprogram.experiments.cell import Cell
from reprogram.experiments.directory import recorded_row, recorded_target, run_in_directory
from reprogram.experiments.run import DEFAULT_MAX_MEMORY, Result, run_cell, trial_images

__all__ = [
    "DEFAULT_MAX_MEMORY",
    "Cell",
    "Result",
    "recorded_row",
    "recorded_target",
    "run_cell",
    "run_in_directory",
    "trial_images",
]
