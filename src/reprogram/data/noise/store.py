"""Noisy images: made once from an image's own seed, kept in a file, read like any other images."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray
from PIL import Image

from reprogram.data.images import ArrayStore, ImageStore
from reprogram.data.mapped import mapped_images
from reprogram.data.noise.kinds import ImageNoise
from reprogram.seeds import seed_for

__all__ = ["NoisyStore", "enlarged"]

SCHEMA = 1  # a change of what is drawn from a seed changes it

log = logging.getLogger(__name__)


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """An image whose shorter side has at least `side` pixels, resized by PIL's bilinear filter.

    >>> enlarged(Image.new("RGB", (16, 24)), 32).size, enlarged(Image.new("RGB", (40, 50)), 32).size
    ((32, 48), (40, 50))
    """
    shorter = min(image.size)
    if shorter >= side:
        return image
    width, height = (round(length * side / shorter) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


@final
class NoisyStore(ImageStore):
    """The images of a store with noise.

    Image i has a generator of its own, so that neither the order of reading nor a subset changes
    it. Where all images have one size they are written once, whatever processes ask for them, to a
    file that every later run maps; images of several sizes are made when they are read.

    Args:
        store: Clean images.
        kind: What is done to them.
        strength: How strongly.
        draw: What the draw may depend on: target, kind, severity, seed, split.
        folder: Where the file lies.
        max_memory: Bytes above which no file is written.
    """

    def __init__(
        self,
        store: ImageStore,
        kind: ImageNoise,
        strength: float,
        draw: tuple[object, ...],
        folder: Path,
        max_memory: int,
    ) -> None:
        self.store, self.kind, self.strength, self.draw = store, kind, strength, draw
        self.folder, self.max_memory = folder, max_memory
        self.parallel = store.parallel
        self._made: ArrayStore | None = None
        self._tried = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.store)

    def image(self, i: int) -> Image.Image:
        return self._made.image(i) if self._made else Image.fromarray(self._corrupted(i))

    def _corrupted(self, i: int) -> UInt8[ndarray, "h w 3"]:
        pixels = np.array(enlarged(self.store.image(i), self.kind.min_side))
        rng = np.random.default_rng(seed_for("noise", *self.draw, i))
        return self.kind.corrupt(pixels, self.strength, rng)

    @cached_property
    def digest(self) -> bytes:
        noise = repr((SCHEMA, self.strength, *self.draw))
        return hashlib.sha256(self.store.digest + noise.encode()).digest()

    @property
    def version(self) -> str:
        return f"{self.store.version} {self.kind.version()}"

    def block(self, index: Int[ndarray, " n"], size: int) -> UInt8[ndarray, "n 3 size size"]:
        with self._lock:
            if not self._tried:
                self._made, self._tried = self._make(), True
        return self._made.block(index, size) if self._made else super().block(index, size)

    def _make(self) -> ArrayStore | None:
        """All images from the file, which is written if need be; None where there can be none."""
        first = self._corrupted(0)
        shape = (len(self), *first.shape)
        if np.prod(shape, dtype=np.int64) > self.max_memory:
            return None
        key = hashlib.sha256(self.digest + self.version.encode()).hexdigest()[:32]
        try:
            images = mapped_images(
                self.folder / f"{key}.npy", shape, lambda: self._images(first.shape)
            )
        except _SeveralSizes:
            return None
        return ArrayStore(images)

    def _images(self, shape: tuple[int, ...]) -> Iterator[UInt8[ndarray, "h w 3"]]:
        """Every image, corrupted."""
        log.info("making %d noisy images: %s", len(self), self.draw)
        for i in range(len(self)):
            image = self._corrupted(i)
            if image.shape != shape:
                raise _SeveralSizes
            yield image


class _SeveralSizes(Exception):
    """Images of several sizes make no array."""
