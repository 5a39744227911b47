"""A source trained from scratch: `loop` trains a network, `directory` makes it a source directory."""

from reprogram.source_training.directory import evaluate_source, pixel_statistics, train_source
from reprogram.source_training.loop import (
    LabelledImages,
    Progress,
    Recipe,
    one_cycle,
    recipe_for,
    train_network,
)

__all__ = [
    "LabelledImages", "Progress", "Recipe", "evaluate_source", "one_cycle", "pixel_statistics",
    "recipe_for", "train_network", "train_source",
]  # fmt: skip
