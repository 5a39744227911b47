"""Slow, readable oracles of spectra, training dynamics and transferability scores, in float64."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor


def kernel_of(J1: Tensor, J2: Tensor) -> Tensor:
    """(n1, k, n2, k): one inner product of gradients at a time."""
    n1, k, _ = J1.shape
    theta = torch.zeros(n1, k, len(J2), k, dtype=torch.float64)
    for i in range(n1):
        for c in range(k):
            for j in range(len(J2)):
                for d in range(k):
                    theta[i, c, j, d] = J1[i, c] @ J2[j, d]
    return theta


def alignment(kernel: np.ndarray, target: np.ndarray, centre: np.ndarray) -> float:
    """<CKC, C t t^T C> over the norms, with every matrix written out."""
    K, T = centre @ kernel @ centre, centre @ target @ target.T @ centre
    return float((K * T).sum() / (np.linalg.norm(K) * np.linalg.norm(T)))


def descend_mse(J: Tensor, J_test: Tensor, R: Tensor, rate: float, steps: int) -> Tensor:
    """Full-batch gradient descent on (1 / 2n) sum |J theta - R|^2; the change of the test logits."""
    theta = torch.zeros(J.shape[2], dtype=torch.float64)
    for _ in range(steps):
        error = J @ theta - R
        theta -= rate * torch.einsum("ikp,ik->p", J, error) / len(J)
    return J_test @ theta


def descend_cross_entropy(
    J: Tensor, J_test: Tensor, f0: Tensor, labels: Tensor, rate: float, steps: int
) -> Tensor:
    """The same for mean cross-entropy, by autograd."""
    theta = torch.zeros(J.shape[2], dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(f0 + J @ theta, labels)
        (gradient,) = torch.autograd.grad(loss, theta)
        with torch.no_grad():
            theta -= rate * gradient
    return (J_test @ theta).detach()


def left_out(theta: Tensor, R: Tensor, rho: float) -> Tensor:
    """Ridge regression on the other examples, refitted for each; what it adds to that example."""
    n, k = R.shape
    out = torch.zeros_like(R)
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        K = theta[rest][:, :, rest].reshape((n - 1) * k, -1)
        alpha = torch.linalg.solve(K + rho * torch.eye(len(K), dtype=K.dtype), R[rest].flatten())
        out[i] = theta[i][:, rest].reshape(k, -1) @ alpha
    return out


def hessian_blocks(p: np.ndarray) -> np.ndarray:
    """blockdiag(diag p - p p^T), written out."""
    return scipy.linalg.block_diag(*[np.diag(row) - np.outer(row, row) for row in p])


def gauss_newton_integral(
    theta: np.ndarray, H: np.ndarray, b: np.ndarray, end: float
) -> np.ndarray:
    """-Theta integral_0^end exp(-s H Theta) ds b, by the exponential of an augmented matrix."""
    A = np.zeros((len(b) + 1, len(b) + 1))
    A[:-1, :-1], A[:-1, -1] = -H @ theta, b
    return -theta @ scipy.linalg.expm(end * A)[:-1, -1]


def log_evidence(F: np.ndarray, y: np.ndarray) -> float:
    """max over alpha, beta of log N(y; 0, I / beta + F F^T / alpha)."""

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -25, 25))
        covariance = np.eye(len(y)) / beta + F @ F.T / alpha
        _, logdet = np.linalg.slogdet(covariance)
        return 0.5 * (len(y) * math.log(2 * math.pi) + logdet + y @ np.linalg.solve(covariance, y))

    starts = [(a, b) for a in (-2.0, 0.0, 3.0) for b in (-1.0, 1.0, 4.0)]
    found = (scipy.optimize.minimize(negative, s, method="Nelder-Mead") for s in starts)
    return -min(result.fun for result in found)


def leep(theta: np.ndarray, y: np.ndarray) -> float:
    """One example and one class at a time."""
    n, S = theta.shape
    joint = np.zeros((y.max() + 1, S))
    for i in range(n):
        joint[y[i]] += theta[i] / n
    total = 0.0
    for i in range(n):
        total += math.log(sum(joint[y[i], z] / joint[:, z].sum() * theta[i, z] for z in range(S)))
    return total / n


def nce(z: np.ndarray, y: np.ndarray) -> float:
    """-H(Y | Z): for each z the entropy of the labels of its examples."""
    total = 0.0
    for value in np.unique(z):
        labels = y[z == value]
        shares = np.array([np.mean(labels == t) for t in np.unique(labels)])
        total += len(labels) / len(y) * float((shares * np.log(shares)).sum())
    return total


def nearest_centroid(f: np.ndarray, y: np.ndarray) -> float:
    """Each example against means that leave it out."""
    hits = 0
    for i in range(len(f)):
        rest = np.arange(len(f)) != i
        distances = {
            t: np.linalg.norm(f[i] - f[rest & (y == t)].mean(0))
            for t in np.unique(y)
            if (rest & (y == t)).any()
        }
        hits += min(distances, key=distances.get) == y[i]
    return hits / len(f)
