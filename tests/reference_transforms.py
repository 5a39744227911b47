"""Slow, readable input transformations: pixel by pixel, in float64."""

from __future__ import annotations

import math

import numpy as np


def pad(x: np.ndarray, canvas: int, border: np.ndarray) -> np.ndarray:
    """One image (3, s, s) in the middle of a border (3, H, H), larger margin above and left."""
    s = x.shape[1]
    margin = math.ceil((canvas - s) / 2)
    z = border.astype(np.float64).copy()
    for c in range(3):
        for i in range(s):
            for j in range(s):
                z[c, margin + i, margin + j] = x[c, i, j]
    return z


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def frame(delta: np.ndarray, width: int) -> np.ndarray:
    """Delta where a pixel is nearer than `width` to an edge, 0 elsewhere."""
    out, side = np.zeros_like(delta), delta.shape[1]
    for i in range(side):
        for j in range(side):
            if min(i, j, side - 1 - i, side - 1 - j) < width:
                out[:, i, j] = delta[:, i, j]
    return out


def patch(delta: np.ndarray, canvas: int, top: int, left: int) -> np.ndarray:
    out = np.zeros((3, canvas, canvas))
    for i in range(delta.shape[1]):
        for j in range(delta.shape[2]):
            out[:, top + i, left + j] = delta[:, i, j]
    return out


def low_rank(b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Channel by channel, the sum of r outer products."""
    out = np.zeros((3, b.shape[1], a.shape[2]))
    for c in range(3):
        for r in range(a.shape[1]):
            out[c] += np.outer(b[c, :, r], a[c, r])
    return out


def waves(coefficients: np.ndarray, canvas: int) -> np.ndarray:
    """Sum of cas waves, frequency by frequency."""
    count = coefficients.shape[1]
    f = (count - 1) // 2
    i, j = np.meshgrid(np.arange(canvas), np.arange(canvas), indexing="ij")
    out = np.zeros((3, canvas, canvas))
    for c in range(3):
        for u in range(-f, f + 1):
            for v in range(-f, f + 1):
                angle = 2 * np.pi * (u * i + v * j) / canvas
                out[c] += coefficients[c, f + u, f + v] * (np.cos(angle) + np.sin(angle)) / count
    return out


def scaled(x: np.ndarray, canvas: int, side: float, border: np.ndarray) -> np.ndarray:
    """One image resized bilinearly to `side`, 0 outside, blended into the border by coverage."""
    s = x.shape[1]
    centre = math.ceil((canvas - s) / 2) + s / 2
    z = np.zeros((3, canvas, canvas))

    def neighbours(position: int) -> list[tuple[int, float]]:
        at = (position + 0.5 - centre) * s / side + (s - 1) / 2
        low = math.floor(at)
        pairs = [(low, 1 - (at - low)), (low + 1, at - low)]
        return [(index, weight) for index, weight in pairs if 0 <= index < s]

    for i in range(canvas):
        for j in range(canvas):
            covered = 0.0
            for a, wa in neighbours(i):
                for b, wb in neighbours(j):
                    z[:, i, j] += wa * wb * x[:, a, b]
                    covered += wa * wb
            z[:, i, j] += (1 - covered) * border[:, i, j]
    return z


def masked(delta: np.ndarray, mask: np.ndarray, patch_side: int) -> np.ndarray:
    """Delta times the mask value of the patch that each pixel lies in."""
    out = np.zeros_like(delta)
    for c in range(3):
        for i in range(delta.shape[1]):
            for j in range(delta.shape[2]):
                out[c, i, j] = delta[c, i, j] * mask[c, i // patch_side, j // patch_side]
    return out


def dense(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """W x + b on the flattened image, output by output."""
    flat = x.reshape(-1)
    out = [sum(w * v for w, v in zip(row, flat, strict=True)) for row in weight]
    return (np.array(out) + bias).reshape(x.shape)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3 x 3 convolution with zero padding of one map (C, h, w)."""
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), h, w))
    for k in range(len(weight)):
        for i in range(h):
            for j in range(w):
                out[k, i, j] = (weight[k] * padded[:, i : i + 3, j : j + 3]).sum() + bias[k]
    return out


def max_pool(x: np.ndarray) -> np.ndarray:
    """Largest of every 2 x 2 block; blocks at the edge may be smaller."""
    channels, h, w = x.shape
    out = np.zeros((channels, math.ceil(h / 2), math.ceil(w / 2)))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2))
    return out
