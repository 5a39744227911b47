"""Images in a memory-mapped file, written once whatever processes ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8
from numpy import ndarray

from reprogram.files import replacing

__all__ = ["mapped_images"]


def mapped_images(
    path: Path, shape: tuple[int, ...], blocks: Callable[[], Iterable[UInt8[ndarray, "..."]]]
) -> UInt8[ndarray, "..."]:
    """The images in a .npy file, which is made where there is none or it is not whole.

    Args:
        path: The file. It appears when it is whole; processes that need it meanwhile wait.
        shape: Of all images together.
        blocks: Makes them, in order and in pieces of any length.

    Returns:
        A read-only map of the file.
    """
    images = _mapped(path, shape)
    if images is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # goes with the process that holds it
            images = _mapped(path, shape)
            if images is None:
                _write(path, shape, blocks())
                images = _mapped(path, shape)
    if images is None:
        raise OSError(f"{path}: written, but not readable.")
    return images


def _mapped(path: Path, shape: tuple[int, ...]) -> UInt8[ndarray, "..."] | None:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _write(path: Path, shape: tuple[int, ...], blocks: Iterable[UInt8[ndarray, "..."]]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        # Written, not mapped: a full disk is then an error and not a bus error.
        for block in blocks:
            file.write(block.tobytes())
