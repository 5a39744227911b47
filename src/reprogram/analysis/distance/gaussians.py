"""Distances of the Gaussians that have the means and covariances of two feature sets."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.errors import InputError

__all__ = ["frechet", "gaussian_kl"]

RIDGE = 0.01  # of the mean feature variance; without it a set of n <= d images has no density


def frechet(x: Float[ndarray, "n d"], y: Float[ndarray, "m d"]) -> float:
    """Squared Fréchet distance, the FID of Heusel et al. 2017, eq. 6, on any features.

    |mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)). With centred rows X^T X = C_x and
    Y^T Y = C_y, the last trace is the sum of the singular values of X Y^T: no covariance is
    squared, and fewer images than features are no special case.

    Estimated from samples it is too large, the more so the fewer images: values are comparable at
    equal n only.

    Args:
        x: Features of the first set.
        y: Features of the second set.

    >>> round(frechet(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])), 9)
    9.0
    """
    shift = x.mean(0) - y.mean(0)
    root_x, root_y = _covariance_root(x), _covariance_root(y)
    cross = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    value = shift @ shift + np.square(root_x).sum() + np.square(root_y).sum() - 2 * cross
    return max(0.0, float(value))


def _covariance_root(x: Float[ndarray, "n d"]) -> Float[ndarray, "k d"]:
    """R with R^T R the covariance of x, of min(n, d) rows."""
    return np.asarray(np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r"))


def gaussian_kl(x: Float[ndarray, "n d"], y: Float[ndarray, "m d"], ridge: float = RIDGE) -> float:
    """Kullback-Leibler divergence KL(N_x || N_y) in nats; it has a direction.

    1/2 [tr(C_y^-1 C_x) + (mu_y - mu_x)^T C_y^-1 (mu_y - mu_x) - d + ln det C_y - ln det C_x].

    Args:
        x: Features of the first set.
        y: Features of the second set.
        ridge: Added to both diagonals, as a share of the mean feature variance of the two sets.

    Raises:
        InputError: Without a ridge, for features whose covariance is singular.
    """
    c_x, c_y = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    d = len(c_x)
    c_x, c_y = (c + ridge * np.trace(c_x + c_y) / (2 * d) * np.eye(d) for c in (c_x, c_y))
    try:
        root = np.linalg.cholesky(c_y)
        log_det = 2 * np.log([np.linalg.cholesky(c_x).diagonal(), root.diagonal()]).sum(1)
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"gaussian-kl: a covariance of the {d} features is singular. Use more images, features "
            "that vary, or a ridge above 0."
        ) from error
    # tr(C_y^-1 C_x) and the squared shift in units of C_y, by the Cholesky factor of C_y.
    white = np.linalg.solve(root, c_x)
    trace = np.trace(np.linalg.solve(root, white.T))
    shift = np.linalg.solve(root, y.mean(0) - x.mean(0))
    return float(trace + shift @ shift - d + log_det[1] - log_det[0]) / 2
