"""Slow, readable output mappings: one image, one pair of classes at a time, in float64."""

from __future__ import annotations

import numpy as np


def counts(predictions: list[int], labels: list[int], S: int, T: int) -> np.ndarray:
    """The one-hot definition: sum over images of e_s e_t^T."""
    table = np.zeros((S, T))
    for s, t in zip(predictions, labels, strict=True):
        table += np.outer(np.eye(S)[s], np.eye(T)[t])
    return table


def greedy(table: np.ndarray, k: int) -> np.ndarray:
    """Search the whole table for the largest free entry, again and again."""
    S, T = table.shape
    held: dict[int, list[int]] = {t: [] for t in range(T)}
    taken: set[int] = set()
    while True:
        best = None
        for s in range(S):
            for t in range(T):
                if s in taken or len(held[t]) == k or table[s, t] == 0:
                    continue
                if best is None or table[s, t] > table[best]:  # a tie keeps the earlier pair
                    best = (s, t)
        if best is None:
            break
        taken.add(best[0])
        held[best[1]].append(best[0])
    for t in range(T):
        while len(held[t]) < k:
            s = min(set(range(S)) - taken)
            taken.add(s)
            held[t].append(s)
    W = np.zeros((S, T))
    for t, sources in held.items():
        for s in sources:
            W[s, t] = 1 / k
    return W


def bayesian(scores: np.ndarray, labels: list[int], T: int, smoothing: float) -> np.ndarray:
    n, S = scores.shape
    table = np.zeros((S, T))
    for i in range(n):
        for s in range(S):
            table[s, labels[i]] += scores[i, s]
    W = np.zeros((S, T))
    for s in range(S):
        total = sum(table[s]) + smoothing
        for t in range(T):
            W[s, t] = table[s, t] / total if total > 0 else 0
    for t in range(T):
        total = sum(W[:, t])
        for s in range(S):
            W[s, t] = W[s, t] / total if total > 0 else 1 / S
    return W


def top_k_probabilities(logits: np.ndarray, k: int) -> np.ndarray:
    out = np.zeros_like(logits)
    for i, row in enumerate(logits):
        p = np.exp(row - row.max())
        p /= p.sum()
        ranked = sorted(range(len(row)), key=lambda s: (-row[s], s))
        for s in ranked[:k]:
            out[i, s] = p[s]
    return out
