"""Mappings counted by `bincount` are those of the one-hot definition, on 10,000 random cases."""

from __future__ import annotations

import numpy as np
import reference_mappings as reference
import torch

from reprogram.output_mappings import counts, frequency_matrix

CASES = 10_000


def test_counting_equals_the_one_hot_definition() -> None:
    """Few images of few classes, so that ties and classes without images are common."""
    rng = np.random.default_rng(0)
    ties = empty = 0
    for _ in range(CASES):
        S = int(rng.integers(2, 8))
        T, n = int(rng.integers(2, S + 1)), int(rng.integers(0, 25))
        predictions, labels = rng.integers(S, size=n), rng.integers(T, size=n)
        # (n, S)^T (n, T): what the published training loops build.
        table = np.eye(S)[predictions].T @ np.eye(T)[labels]
        case = (torch.from_numpy(predictions), torch.from_numpy(labels), S, T)
        assert np.array_equal(counts(*case).numpy(), table)
        assert np.array_equal(frequency_matrix(*case).numpy(), reference.greedy(table, k=1))
        ties += len(np.unique(table)) < table.size
        empty += bool((table.sum(0) == 0).any())
    assert min(ties, empty) > CASES / 10
