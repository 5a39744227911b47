"""Images of a store decoded and resized once, kept in memory or in a memory-mapped file."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from reprogram.data.images import ImageStore
from reprogram.data.mapped import mapped_images
from reprogram.data.roots import cache_dir
from reprogram.errors import InputError

__all__ = ["DEFAULT_MAX_MEMORY", "Progress", "ResizedImages"]

DEFAULT_MAX_MEMORY = 2 * 2**30  # bytes of one split at one size
BLOCK = 64  # images a task of the thread pool
KEPT_SIZES = 3  # an image size with and without its crop margin, and one of another method

Progress = Callable[[int, int], None]  # (images done, images in all)


@final
class ResizedImages:
    """The images of a store as uint8 tensors, one for each size asked for lately.

    Args:
        store: Where the images come from.
        max_memory: Bytes; a larger tensor is a memory-mapped file in the cache folder.
    """

    def __init__(self, store: ImageStore, max_memory: int) -> None:
        self.store, self.max_memory = store, max_memory
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def kept(self, size: int) -> UInt8[Tensor, "n 3 size size"] | None:
        """The tensor of this size if it is there already."""
        if size in self._kept:
            self._kept.move_to_end(size)
        return self._kept.get(size)

    def keep(
        self, size: int, images: UInt8[Tensor, "n 3 size size"]
    ) -> UInt8[Tensor, "n 3 size size"]:
        """Remember a tensor, forgetting the one that was not asked for longest."""
        self._kept[size] = images
        if len(self._kept) > KEPT_SIZES:
            self._kept.popitem(last=False)
        return images

    def fits(self, size: int) -> bool:
        return len(self.store) * 3 * size * size <= self.max_memory

    def get(self, size: int, progress: Progress | None = None) -> UInt8[Tensor, "n 3 size size"]:
        """The images at size x size, made if need be."""
        if size < 1:
            raise InputError(f"image size must be at least 1 pixel, got {size}.")
        images = self.kept(size)
        if images is None:
            make = self._in_memory if self.fits(size) else self._on_disk
            images = self.keep(size, make(size, progress))
        return images

    def _in_memory(self, size: int, progress: Progress | None) -> Tensor:
        out = np.empty((len(self.store), 3, size, size), np.uint8)
        done = 0
        for block in _blocks(self.store, size, progress):
            out[done : done + len(block)] = block
            done += len(block)
        return torch.from_numpy(out)

    def _on_disk(self, size: int, progress: Progress | None) -> Tensor:
        shape = (len(self.store), 3, size, size)
        key = hashlib.sha256(self.store.digest + self.store.version.encode()).hexdigest()[:32]
        path = cache_dir() / "images" / f"{key}-{size}.npy"
        images = mapped_images(path, shape, lambda: _blocks(self.store, size, progress))
        with warnings.catch_warnings():
            # Read-only on purpose. A writable private mapping would count as memory.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(images)


def _blocks(
    store: ImageStore, size: int, progress: Progress | None
) -> Iterator[UInt8[ndarray, "n 3 size size"]]:
    """All images in order, a block at a time; decoded by threads, since PIL releases the GIL."""
    index = np.arange(len(store))
    todo = deque(index[start : start + BLOCK] for start in range(0, len(store), BLOCK))
    workers = min(8, os.cpu_count() or 1) if store.parallel else 1
    done = 0
    pool = ThreadPoolExecutor(workers)
    try:
        running: deque[Future[ndarray]] = deque()
        while todo or running:
            while todo and len(running) < 2 * workers:  # bounds the memory of finished blocks
                running.append(pool.submit(store.block, todo.popleft(), size))
            block = running.popleft().result()
            yield block
            done += len(block)
            if progress is not None:
                progress(done, len(store))
    finally:
        pool.shutdown(cancel_futures=True)
