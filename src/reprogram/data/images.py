"""Where images come from: arrays, files, or anything that can be indexed; always RGB, 8 bits."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from PIL import Image, ImageOps
from torch import Tensor

from reprogram.errors import InputError

__all__ = [
    "ArrayStore",
    "BitmapStore",
    "DatasetStore",
    "FileStore",
    "ImageStore",
    "SubsetStore",
    "open_rgb",
    "reason",
    "square_pixels",
    "to_rgb",
]

# Up to here a digest reads the files themselves; beyond, their names and sizes.
SMALL = 64 * 2**20


def reason(error: Exception) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as 8-bit RGB: upright by its EXIF tag, first frame, alpha dropped, 16 bits to 8.

    Alpha is dropped as torchvision's loaders drop it, so that published sets give the same pixels.

    Raises:
        InputError: For floating-point pixels, whose range nobody knows.

    >>> to_rgb(Image.new("LA", (2, 1), (7, 0))).getpixel((0, 0))
    (7, 7, 7)
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise InputError("floating-point pixels: save the image with 8 or 16 bits a channel")
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        return _reduce_depth(upright).convert("RGB")
    if upright.mode == "P" and "transparency" in upright.info:
        return upright.convert("RGBA").convert("RGB")  # PIL warns about the direct way
    return upright.convert("RGB")


def _reduce_depth(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey: 65535 becomes 255."""
    values = np.asarray(image).astype(np.int64)
    deep = image.mode != "I" or values.max(initial=0) > 255
    return Image.fromarray((values.clip(0, 65535) // 257 if deep else values).astype(np.uint8))


def open_rgb(path: Path) -> Image.Image:
    """The image in a file as RGB.

    Raises:
        InputError: For a file that cannot be read to its end; the message names it.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # on a broken file PIL's plugins raise nearly anything
        if path.is_dir():
            raise InputError(f"{path}: a folder. Give image files, such as {path}/*.") from error
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: no such file.") from error
        raise InputError(
            f"{path}: not a readable image ({reason(error)}). Repair or remove the file."
        ) from error


def square_pixels(image: Image.Image, size: int) -> UInt8[Tensor, "3 size size"]:
    """An RGB image resized straight to size x size by PIL's bilinear filter.

    >>> square_pixels(Image.new("RGB", (5, 4)), 2).shape
    torch.Size([3, 2, 2])
    """
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class ImageStore(ABC):
    """Images by position."""

    parallel = True  # whether several threads may read at once

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, i: int) -> Image.Image:
        """Image i as RGB at its own size."""

    @cached_property
    @abstractmethod
    def digest(self) -> bytes:
        """A sha256 of the content, the same on every machine."""

    @property
    def version(self) -> str:
        """What must not change for files made from these images to be used again."""
        return ""

    def block(self, index: Int[ndarray, " n"], size: int) -> UInt8[ndarray, "n 3 size size"]:
        """Images resized straight to size x size by PIL's bilinear filter."""
        out = np.empty((len(index), 3, size, size), np.uint8)
        for row, i in enumerate(index):
            out[row] = square_pixels(self.image(int(i)), size).numpy()
        return out


def _pixels_to_rgb(pixels: UInt8[ndarray, "*shape"]) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as an image; alpha is dropped."""
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


@final
class ArrayStore(ImageStore):
    """Images of one size in memory.

    Args:
        images: (N, H, W) or (N, H, W, C) with C in {1, 3, 4}, uint8.
    """

    def __init__(self, images: UInt8[ndarray, "n h w *c"]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> Image.Image:
        return _pixels_to_rgb(self.images[i])

    @cached_property
    def digest(self) -> bytes:
        sha = hashlib.sha256(repr(self.images.shape).encode())
        for start in range(0, len(self), 4096):
            sha.update(self.images[start : start + 4096].tobytes())
        return sha.digest()

    def block(self, index: Int[ndarray, " n"], size: int) -> UInt8[ndarray, "n 3 size size"]:
        if self.images.shape[1:3] != (size, size):
            return super().block(index, size)
        pixels = self.images[index].reshape(len(index), size, size, -1)[..., :3]
        return np.broadcast_to(pixels.transpose(0, 3, 1, 2), (len(index), 3, size, size)).copy()


@final
class FileStore(ImageStore):
    """Image files.

    Args:
        paths: One image each.
        root: The folder that holds them; names in the digest are relative to it.
    """

    def __init__(self, paths: Sequence[Path], root: Path) -> None:
        self.paths = list(paths)
        self.root = root

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, i: int) -> Image.Image:
        return open_rgb(self.paths[i])

    @cached_property
    def digest(self) -> bytes:
        return digest_of_files(self.paths, self.root)

    @property
    def version(self) -> str:
        return str(max((path.stat().st_mtime_ns for path in self.paths), default=0))


@final
class BitmapStore(ImageStore):
    """Grey bitmaps of one size in several `.npy` files that stay on disk.

    Args:
        files: Arrays (n, side * side) uint8.
        side: Of a bitmap, pixels.
    """

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self.files = list(files)
        self.side = side
        self._arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        self._starts = np.cumsum([0, *(len(array) for array in self._arrays)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def image(self, i: int) -> Image.Image:
        k = int(np.searchsorted(self._starts, i, side="right")) - 1
        row = self._arrays[k][i - self._starts[k]]
        return _pixels_to_rgb(np.asarray(row).reshape(self.side, self.side))

    @cached_property
    def digest(self) -> bytes:
        return digest_of_files(self.files, self.files[0].parent)

    @property
    def version(self) -> str:
        return str(max(path.stat().st_mtime_ns for path in self.files))


@final
class DatasetStore(ImageStore):
    """Anything with a length and an index: a torchvision or Hub data set.

    Args:
        dataset: What is indexed.
        name: For messages.
        pick: The PIL image in what the index returns.
    """

    parallel = False  # nobody knows whether the data set may be read from several threads
    SAMPLES = 32

    def __init__(self, dataset: Any, name: str, pick: Callable[[Any], Any]) -> None:
        self.dataset, self.name, self.pick = dataset, name, pick

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, i: int) -> Image.Image:
        try:
            return to_rgb(self.pick(self.dataset[i]))
        except MemoryError:
            raise
        except Exception as error:  # it depends on the data set what an unreadable image raises
            raise InputError(
                f"{self.name}: image {i} is not readable ({reason(error)}). Fetch the set anew."
            ) from error

    @cached_property
    def digest(self) -> bytes:
        """Over the length and 32 evenly spaced images: reading all would decode the whole set."""
        sha = hashlib.sha256(str(len(self)).encode())
        for i in np.unique(np.linspace(0, len(self) - 1, self.SAMPLES, dtype=int)):
            image = self.image(int(i))
            sha.update(repr(image.size).encode() + image.tobytes())
        return sha.digest()

    @property
    def version(self) -> str:
        """The fingerprint that a Hub data set has of all its rows; "" for any other."""
        return str(getattr(self.dataset, "_fingerprint", ""))


@final
class SubsetStore(ImageStore):
    """Some images of a store, in a given order."""

    def __init__(self, store: ImageStore, index: Int[ndarray, " n"]) -> None:
        self.store, self.index = store, index
        self.parallel = store.parallel

    def __len__(self) -> int:
        return len(self.index)

    def image(self, i: int) -> Image.Image:
        return self.store.image(int(self.index[i]))

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(self.store.digest + self.index.astype("<i8").tobytes()).digest()

    @property
    def version(self) -> str:
        return self.store.version

    def block(self, index: Int[ndarray, " n"], size: int) -> UInt8[ndarray, "n 3 size size"]:
        return self.store.block(self.index[index], size)


def digest_of_files(paths: Sequence[Path], root: Path) -> bytes:
    """A sha256 over names relative to root and sizes, and over the content of small sets."""
    sizes = [path.stat().st_size for path in paths]
    small = sum(sizes) <= SMALL
    sha = hashlib.sha256()
    for path, size in zip(paths, sizes, strict=True):
        sha.update(f"{path.relative_to(root).as_posix()}\0{size}\0".encode())
        if small:
            sha.update(path.read_bytes())
    return sha.digest()
