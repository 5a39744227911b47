"""A target in one `.npz` file, laid out as MedMNIST lays out its files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from reprogram.data.images import ArrayStore, reason
from reprogram.data.task import SPLITS, Part, TargetTask, with_test_split
from reprogram.errors import InputError

__all__ = ["load_npz"]

MAX_CLASSES = 100_000  # a larger label is a mistake, not a class
LAYOUT = (
    "Expected: train_images, train_labels, test_images, test_labels, and as you like val_images, "
    "val_labels, class_names, train_groups."
)


def load_npz(path: Path, *, max_memory: int) -> TargetTask:
    """The target in a `.npz` file; images are read when their split is asked for.

    Keys are `{train,val,test}_images` uint8 (N, H, W) or (N, H, W, C) with C in {1, 3, 4},
    `{train,val,test}_labels` whole numbers (N,) or (N, 1), and optionally `class_names` (C,) and
    `{train,val,test}_groups` (N,). A split may be absent or empty.

    Raises:
        InputError: For anything else, with the key and what was expected.
    """
    file = _Npz(path)
    present = [split for split in SPLITS if file.has_split(split)]
    if not {"train", "test"} & set(present):
        raise InputError(f"{path}: no training and no test images. {LAYOUT}")
    labels = {split: file.labels(split) for split in present}
    class_names = file.class_names(labels)
    readers: dict[str, Callable[[], Part]] = {
        split: partial(file.part, split, labels[split]) for split in present
    }
    if "test" not in readers:
        readers |= with_test_split(readers["train"])
    side = max(file.shape(f"{present[0]}_images")[1:3])
    return TargetTask(path.stem, class_names, readers, native_size=side, max_memory=max_memory)


class _Npz:
    """A checked reader of one file, which is opened anew for every array."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._headers: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        with self._damage(), zipfile.ZipFile(path) as archive:
            self.keys = [name.removesuffix(".npy") for name in archive.namelist()]

    @contextmanager
    def _damage(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # a damaged header can raise whatever Python's parser raises
            what = f"{key} is not readable" if key else "not a readable .npz file"
            raise InputError(
                f"{self.path}: {what} ({reason(error)}). Write it anew with numpy.savez."
            ) from (error)

    def has_split(self, split: str) -> bool:
        """Whether the file holds images of this split; checks that they can be used."""
        images, labels = f"{split}_images", f"{split}_labels"
        there = {key for key in (images, labels) if key in self.keys}
        if len(there) == 1:
            absent = labels if images in there else images
            raise InputError(f"{self.path}: {there.pop()} without {absent}. {LAYOUT}")
        if there:
            self._check_images(images)
        return bool(there) and self.shape(images)[0] > 0

    def shape(self, key: str) -> tuple[int, ...]:
        return self._header(key)[0]

    def _header(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of an array that is not read for it."""
        if key not in self._headers:
            with self._damage(key), zipfile.ZipFile(self.path) as archive:
                with archive.open(f"{key}.npy") as member:
                    version = np.lib.format.read_magic(member)
                    if version == (1, 0):
                        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                    else:
                        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
            self._headers[key] = (shape, dtype)
        return self._headers[key]

    def read(self, key: str) -> ndarray:
        if self._header(key)[1].hasobject:
            raise InputError(
                f"{self.path}: {key} holds Python objects, which are never unpickled. "
                "Store plain numbers or strings."
            )
        with self._damage(key), np.load(self.path, allow_pickle=False) as file:
            return file[key]

    def _check_images(self, key: str) -> None:
        shape, dtype = self._header(key)
        if dtype != np.uint8:
            remedy = "Store 8-bit images."
            if dtype.kind == "f":
                remedy = "From [0, 1]: (255 * images).round().astype('uint8')."
            raise InputError(f"{self.path}: {key} must be uint8 in 0 to 255, got {dtype}. {remedy}")
        if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
            raise InputError(
                f"{self.path}: {key} has channels first, {shape}. "
                "Expected (N, H, W, C): images.transpose(0, 2, 3, 1)."
            )
        grey, colour = len(shape) == 3, len(shape) == 4 and shape[3] in (1, 3, 4)
        if not (grey or colour) or 0 in shape[1:3]:
            raise InputError(
                f"{self.path}: {key} must be (N, H, W) or (N, H, W, C) with 1, 3 or 4 channels, "
                f"got {shape}."
            )

    def labels(self, split: str) -> Int[ndarray, " n"]:
        key = f"{split}_labels"
        values, n = self.read(key), self.shape(f"{split}_images")[0]
        if values.dtype.kind not in "iu":
            raise InputError(
                f"{self.path}: {key} must be whole numbers, got {values.dtype}. "
                "Store classes 0 to T - 1 as int64."
            )
        if values.ndim == 2 and values.shape[1] > 1:
            raise InputError(
                f"{self.path}: {key} has {values.shape[1]} labels an image. "
                "Only one label an image is supported: (N,) or (N, 1)."
            )
        if values.shape not in ((n,), (n, 1)):
            raise InputError(
                f"{self.path}: {key} must be ({n},) or ({n}, 1), one for each of {split}_images, "
                f"got {values.shape}."
            )
        if not 0 <= int(values.min()) <= int(values.max()) < MAX_CLASSES:
            raise InputError(
                f"{self.path}: {key} must be 0 to T - 1, got {values.min()} to {values.max()}."
            )
        return values.reshape(n).astype(np.int64)

    def class_names(self, labels: Mapping[str, ndarray]) -> list[str]:
        """The names in the file, or `class_0`, ... up to the largest label of any split."""
        highest = max(int(values.max()) for values in labels.values())
        if "class_names" not in self.keys:
            return [f"class_{c}" for c in range(highest + 1)]
        names = self.read("class_names")
        if names.ndim != 1 or names.dtype.kind not in "US":
            raise InputError(
                f"{self.path}: class_names must be a list of strings, "
                f"got {names.dtype} of shape {names.shape}."
            )
        if len(names) > MAX_CLASSES:
            raise InputError(
                f"{self.path}: class_names has {len(names)} names; expected {MAX_CLASSES} at most."
            )
        if highest >= len(names):
            raise InputError(
                f"{self.path}: labels go up to {highest}, but class_names has {len(names)} names."
            )
        if names.dtype.kind == "S":
            return [name.decode("utf-8", errors="replace") for name in names.tolist()]
        return [str(name) for name in names]

    def part(self, split: str, labels: Int[ndarray, " n"]) -> Part:
        images: UInt8[ndarray, "n h w *c"] = self.read(f"{split}_images")
        return Part(ArrayStore(images), labels, self._groups(f"{split}_groups", len(labels)))

    def _groups(self, key: str, n: int) -> ndarray | None:
        if key not in self.keys:
            return None
        groups = self.read(key)
        if groups.shape != (n,) or groups.dtype.kind not in "USiu":
            raise InputError(
                f"{self.path}: {key} must be {n} whole numbers or strings, one an image, "
                f"got {groups.dtype} of shape {groups.shape}."
            )
        return groups
