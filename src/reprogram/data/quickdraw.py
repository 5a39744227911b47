"""Google's Quick, Draw! bitmaps: a folder with one `.npy` file of 28 x 28 drawings a class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from reprogram.data.images import BitmapStore, reason
from reprogram.data.task import Part, TargetTask, with_test_split
from reprogram.errors import InputError

__all__ = ["bitmap_files", "load_quickdraw"]

SIDE = 28
PREFIX = "full_numpy_bitmap_"  # how Google names its files


def bitmap_files(path: Path) -> list[Path]:
    """The `.npy` files right in a folder, sorted by class name."""
    files = [p for p in path.glob("*.npy") if not p.name.startswith(".")]
    return sorted(files, key=_class_name)


def load_quickdraw(path: Path, *, max_memory: int) -> TargetTask:
    """The drawings in a folder, white on black as Google stores them; a fifth is the test split.

    Each file is (n, 784) uint8 and is mapped, not read.

    Raises:
        InputError: For a folder without such files, or a file of another shape or type.
    """
    files = bitmap_files(path)
    if not files:
        raise InputError(
            f"{path}: no .npy files. Expected Quick, Draw! bitmaps, one NAME.npy for each class."
        )
    counts = [_count(file) for file in files]
    train = partial(_part, files, counts)
    names = [_class_name(file) for file in files]
    parts = with_test_split(train)
    return TargetTask(path.resolve().name, names, parts, native_size=SIDE, max_memory=max_memory)


def _class_name(file: Path) -> str:
    return file.stem.removeprefix(PREFIX)


def _count(file: Path) -> int:
    try:
        drawings = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header can raise whatever Python's parser raises
        raise InputError(
            f"{file}: not a readable .npy file ({reason(error)}). Fetch it anew or remove it."
        ) from error
    if drawings.dtype != np.uint8 or drawings.ndim != 2 or drawings.shape[1] != SIDE * SIDE:
        raise InputError(
            f"{file}: expected uint8 (n, {SIDE * SIDE}), got {drawings.dtype} {drawings.shape}."
        )
    return len(drawings)


def _part(files: list[Path], counts: list[int]) -> Part:
    return Part(BitmapStore(files, SIDE), np.repeat(np.arange(len(files)), counts))
