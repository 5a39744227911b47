"""The handwritten digits that scikit-learn ships: no download, 8 x 8 pixels."""

from __future__ import annotations

import numpy as np

from reprogram.data.images import ArrayStore
from reprogram.data.task import Part, TargetTask, with_test_split

__all__ = ["load_digits"]


def load_digits(*, max_memory: int) -> TargetTask:
    """1,797 digits of 43 writers; a fifth is the test split.

    scikit-learn's copy is the test set of UCI's "Optical Recognition of Handwritten Digits"
    (Alpaydin and Kaynak 1998). Values 0 to 16 become 0 to 255.
    """
    names = [str(digit) for digit in range(10)]
    return TargetTask("digits", names, with_test_split(_read), native_size=8, max_memory=max_memory)


def _read() -> Part:
    from sklearn import datasets  # takes a second to import

    digits = datasets.load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return Part(ArrayStore(pixels), digits.target.astype(np.int64))
