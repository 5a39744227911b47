"""Distances of data sets on features of a frozen source, with intervals."""

from __future__ import annotations

from reprogram.analysis.distance.classifier import proxy_a
from reprogram.analysis.distance.gaussians import frechet, gaussian_kl
from reprogram.analysis.distance.grid import GridPair, distance_document, grid_pairs
from reprogram.analysis.distance.kernels import kid, median_bandwidth, mmd, unbiased_mmd
from reprogram.analysis.distance.measure import (
    DISTANCES,
    Distance,
    Measured,
    fid_against_n,
    fid_warning,
    measure,
)
from reprogram.analysis.distance.sample import Sample, sample_features, two_samples
from reprogram.analysis.distance.transport import otdd, require_pot, sliced_wasserstein

__all__ = [
    "DISTANCES",
    "Distance",
    "GridPair",
    "Measured",
    "Sample",
    "distance_document",
    "fid_against_n",
    "fid_warning",
    "frechet",
    "gaussian_kl",
    "grid_pairs",
    "kid",
    "measure",
    "median_bandwidth",
    "mmd",
    "otdd",
    "proxy_a",
    "require_pot",
    "sample_features",
    "sliced_wasserstein",
    "two_samples",
    "unbiased_mmd",
]
