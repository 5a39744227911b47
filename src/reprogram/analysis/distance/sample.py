"""Some images of a split as features of a frozen source."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from reprogram.data import Split, stratified_subset
from reprogram.evaluation import in_batches
from reprogram.seeds import seed_for
from reprogram.sources import Source

__all__ = ["Sample", "sample_features", "two_samples"]


@final
class Sample(NamedTuple):
    """Features in double precision, and the classes of the images."""

    features: Float[ndarray, "n d"]
    labels: Int[ndarray, " n"]

    def take(self, index: Int[ndarray, " m"]) -> Sample:
        """The images at these positions."""
        return Sample(self.features[index], self.labels[index])


def two_samples(
    source: Source, first: Split, second: Split, n: int, seed: int = 0
) -> tuple[Sample, Sample]:
    """Features of n images of each of two splits, every class in proportion.

    Where both are the same images, two disjoint halves of them are compared, so that a set's
    distance from itself is what chance alone makes of it.

    Args:
        source: What makes the features; it computes where it is.
        first: The images of one set, resized to the source's canvas.
        second: The other set's.
        n: How many at most of each; all of the smaller set where it has fewer.
        seed: Of the choice; the same one takes the same images.

    Raises:
        InputError: The source has no features, or n is below 1.
    """
    n = min(n, len(first), len(second))
    if first.fingerprint != second.fingerprint:
        return sample_features(source, first, n, seed), sample_features(source, second, n, seed)
    n = min(n, len(first) // 2)
    both = sample_features(source, first, 2 * n, seed)
    half = stratified_subset(both.labels, n, seed=seed_for("distance from itself", seed))
    return both.take(half), both.take(np.setdiff1d(np.arange(2 * n), half))


def sample_features(source: Source, split: Split, n: int, seed: int = 0) -> Sample:
    """Penultimate features of n images of a split, every class in proportion.

    Args:
        source: What makes the features; it computes where it is.
        split: The images, resized to the source's canvas.
        n: How many; the same seed takes the same ones.
        seed: Of the choice.

    Raises:
        InputError: The source has no features, or the split fewer than n images.
    """
    index = stratified_subset(
        split.labels, n, seed=seed_for("distance", split.task.name, split.name, seed)
    )
    chosen = split.subset(index)
    with torch.no_grad():
        features = in_batches(source.features, chosen.images(source.image_size), source)
    return Sample(features.double().numpy(), chosen.labels)
