"""Cells and how they are run: one, in a directory, or a grid of them."""

from reprogram.experiments.cell import Cell
from reprogram.experiments.directory import recorded_row, recorded_target, run_in_directory
from reprogram.experiments.grid import Rates, product
from reprogram.experiments.run import (
    DEFAULT_MAX_MEMORY,
    Result,
    run_cell,
    trial_images,
    with_test_pool,
)

__all__ = [
    "DEFAULT_MAX_MEMORY",
    "Cell",
    "Rates",
    "Result",
    "product",
    "recorded_row",
    "recorded_target",
    "run_cell",
    "run_in_directory",
    "trial_images",
    "with_test_pool",
]
