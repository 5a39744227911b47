"""The table of distances, and their values with intervals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.analysis.distance.classifier import proxy_a
from reprogram.analysis.distance.gaussians import frechet, gaussian_kl
from reprogram.analysis.distance.kernels import kid, mmd
from reprogram.analysis.distance.sample import Sample
from reprogram.analysis.distance.transport import otdd, sliced_wasserstein
from reprogram.errors import InputError, unknown
from reprogram.seeds import seed_for

__all__ = ["DISTANCES", "Distance", "Measured", "fid_against_n", "fid_warning", "measure"]

MIN_IMAGES = 20
LEVEL = 0.95

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Distance:
    """A line of the table.

    Attributes:
        compute: Two samples of one size to the distance of their sets.
        does: What it is.
        reference: Where it was published.
        symmetric: Whether the order of the sets does not matter.
    """

    compute: Callable[[Sample, Sample], float]
    does: str
    reference: str
    symmetric: bool = True


@final
@dataclass(frozen=True)
class Measured:
    """A distance at n images a set, with its 95% interval; None where none was asked for."""

    value: float
    low: float | None
    high: float | None
    n: int


def _of_features(
    distance: Callable[[ndarray, ndarray], float],
) -> Callable[[Sample, Sample], float]:
    return lambda first, second: distance(first.features, second.features)


DISTANCES: dict[str, Distance] = {
    "fid": Distance(_of_features(frechet),
        "squared Fréchet distance of Gaussians", "Heusel et al. 2017"),
    "kid": Distance(_of_features(kid),
        "squared MMD, cubic kernel, unbiased", "Binkowski et al. 2018"),
    "mmd": Distance(_of_features(mmd),
        "squared MMD, RBF of median width, unbiased", "Gretton et al. 2012"),
    "sliced-wasserstein": Distance(_of_features(sliced_wasserstein),
        "W2 over 128 random directions", "Bonneel et al. 2015"),
    "gaussian-kl": Distance(_of_features(gaussian_kl),
        "KL(first || second), ridge 0.01 of the variance", "Kullback and Leibler 1951", symmetric=False),
    "otdd": Distance(lambda first, second: otdd(*first, *second),
        "optimal transport of images and labels", "Alvarez-Melis and Fusi 2020"),
    "proxy-a": Distance(_of_features(proxy_a),
        "2 (1 - 2 error) of a linear classifier, about 0 to 2", "Ben-David et al. 2007"),
}  # fmt: skip


def measure(
    first: Sample,
    second: Sample,
    names: Sequence[str] = tuple(DISTANCES),
    *,
    replicates: int = 50,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[str, Measured]:
    """Distances of two samples of one size, with intervals by half-sampling.

    Every replicate takes half of each sample without replacement: with replacement an image would
    meet its own copy, and FID, KID and MMD would come out too large. The deviations of the
    replicates from their mean spread about as the value itself does (delete-half jackknife, Shao
    and Wu 1989), and are put around the value. Where two sets are nearly the same, the interval of
    KID and MMD is too wide rather than too narrow: their spread then falls as 1/n.

    An interval is about the choice of n images. KID, MMD and proxy-a aim at the distance of the
    populations; the other four come out larger at smaller n, even for one population.

    Args:
        first: One set.
        second: The other, with as many images.
        names: In DISTANCES.
        replicates: Half-samples; 0 gives no intervals.
        seed: Of the half-samples, which all distances share.
        on_step: Called with the name of a distance after every value.

    Raises:
        InputError: For an unknown distance, unequal or too small samples.
    """
    n = _common_size(first, second)
    for name in names:
        if name not in DISTANCES:
            raise unknown("distance", name, DISTANCES)
    if replicates < 0 or replicates == 1:
        raise InputError(f"replicates must be 0 (no interval) or at least 2, got {replicates}.")
    if "fid" in names and (text := fid_warning(n, first.features.shape[1])):
        _warn(text)
    rng = np.random.default_rng(seed_for("half-samples", seed, n))
    halves = [
        (rng.permutation(n)[: n // 2], rng.permutation(n)[: n // 2]) for _ in range(replicates)
    ]
    found = {}
    for name in names:
        compute = DISTANCES[name].compute
        value = compute(first, second)
        on_step(name)
        replicated = []
        for i, j in halves:
            replicated.append(compute(first.take(i), second.take(j)))
            on_step(name)
        low, high = _interval(value, np.array(replicated))
        found[name] = Measured(value, low, high, n)
    return found


@cache
def _warn(text: str) -> None:
    """A warning that many pairs of sets share is given once."""
    log.warning("%s", text)


def _interval(
    value: float, replicated: Float[ndarray, " replicates"]
) -> tuple[float, float] | tuple[None, None]:
    """The value minus the outer quantiles of the replicates' deviations from their mean.

    >>> _interval(5.0, np.array([1.0, 2.0, 3.0, 2.0]))
    (4.075, 5.925)
    """
    if not len(replicated):
        return None, None
    tail = (1 - LEVEL) / 2
    below, above = np.quantile(replicated - replicated.mean(), [tail, 1 - tail])
    return float(value - above), float(value - below)


def _common_size(first: Sample, second: Sample) -> int:
    n, m = len(first.labels), len(second.labels)
    if n != m or n < MIN_IMAGES:
        raise InputError(
            f"distances need two sets of one size, at least {MIN_IMAGES} images, got {n} and {m}. "
            "Take as many images of both."
        )
    if first.features.shape[1] != second.features.shape[1]:
        raise InputError(
            f"distances need features of one source, got {first.features.shape[1]} and "
            f"{second.features.shape[1]} of them. Use one source for both sets."
        )
    return n


def fid_against_n(first: Sample, second: Sample, *, seed: int = 0) -> dict[int, float]:
    """FID at a quarter, half and all of the images: how far from its limit it still is.

    Args:
        first: One set.
        second: The other, with as many images.
        seed: Of the random subsets; a smaller one is part of a larger one.
    """
    n = _common_size(first, second)
    rng = np.random.default_rng(seed_for("fid against n", seed, n))
    i, j = rng.permutation(n), rng.permutation(n)
    fid = DISTANCES["fid"].compute
    return {m: fid(first.take(i[:m]), second.take(j[:m])) for m in (n // 4, n // 2, n)}


def fid_warning(n: int, d: int) -> str:
    """Why a FID of n images a set in d dimensions should not be trusted; "" where it may be.

    >>> fid_warning(640, 64)
    ''
    """
    if n >= 10 * d:
        return ""
    return (
        f"FID of {n} images a set on {d} features: below 10 d = {10 * d} images its bias is large. "
        "Compare it at this n only, or use KID."
    )
