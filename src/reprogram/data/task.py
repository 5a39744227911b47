"""A target task: named classes and up to three splits, each read when it is first asked for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from reprogram.data.images import ImageStore, SubsetStore
from reprogram.data.resized import DEFAULT_MAX_MEMORY, Progress, ResizedImages
from reprogram.data.selection import class_indices, compact
from reprogram.data.splits import holdout_test
from reprogram.errors import InputError, unknown

__all__ = ["SPLITS", "Part", "Split", "TargetTask", "with_test_split"]

SPLITS = ("train", "val", "test")

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """What a loader reads of one split."""

    store: ImageStore
    labels: Int[ndarray, " n"]
    groups: ndarray | None = None

    def take(self, index: Int[ndarray, " m"]) -> Part:
        """The images at these positions, in this order."""
        groups = None if self.groups is None else self.groups[index]
        return Part(SubsetStore(self.store, index), self.labels[index], groups)


@final
class Split:
    """Labelled images of one task.

    Args:
        task: The task that they belong to.
        name: "train", "val" or "test".
        part: Images, labels in 0 to T - 1, groups.
        parent: The split and the positions in it that these images are; what it has resized
            already is used again.
    """

    def __init__(
        self,
        task: TargetTask,
        name: str,
        part: Part,
        parent: tuple[Split, Int[ndarray, " n"]] | None = None,
    ) -> None:
        self.task, self.name = task, name
        self.labels = part.labels.astype(np.int64)
        self.groups = part.groups
        self._part, self._parent = part, parent
        self._resized = ResizedImages(part.store, task.max_memory)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({self.task.name!r}, {self.name!r}, {len(self)} images)"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.task.class_names

    @property
    def num_classes(self) -> int:
        return self.task.num_classes

    def image(self, i: int) -> Image.Image:
        """Image i as RGB at its own size."""
        return self._part.store.image(i)

    def images(self, size: int, progress: Progress | None = None) -> UInt8[Tensor, "n 3 size size"]:
        """All images, decoded and resized once to size x size by PIL's bilinear filter.

        Args:
            size: Side in pixels; the aspect ratio is not kept.
            progress: Called with (images done, images in all).

        Returns:
            uint8 (N, 3, size, size), a memory-mapped file where it would exceed the task's
            `max_memory`; shared by all callers, so never to be changed.

        Raises:
            InputError: For an image that cannot be read; the file is named.
        """
        if self._resized.kept(size) is None and self._parent is not None:
            parent, index = self._parent
            there = parent._resized.kept(size)
            if there is not None and self._resized.fits(size):
                return self._resized.keep(size, there[index])
        return self._resized.get(size, progress)

    def subset(self, indices: Int[ndarray, " m"] | Sequence[int]) -> Split:
        """The images at these positions, in this order."""
        index = np.asarray(indices, dtype=np.int64)
        return Split(self.task, self.name, self._part.take(index), parent=(self, index))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over labels and images: pixels in memory, or files as `digest_of_files` reads."""
        labels = self.labels.astype("<i8").tobytes()
        return hashlib.sha256(labels + self._part.store.digest).hexdigest()


@final
class TargetTask:
    """A classification task by images.

    Args:
        name: Short and the same wherever the data lie: it enters the seeds of the splits.
        class_names: In the order of the labels.
        parts: A reader for each split that there is.
        native_size: Largest side of a typical image in pixels; None to look at some images.
        max_memory: Bytes that one split may hold at one size before it goes to a mapped file.

    Raises:
        InputError: For fewer than two classes.
    """

    def __init__(
        self,
        name: str,
        class_names: Iterable[str],
        parts: Mapping[str, Callable[[], Part]],
        *,
        native_size: int | None = None,
        max_memory: int = DEFAULT_MAX_MEMORY,
    ) -> None:
        self.name = name
        self.class_names = tuple(class_names)
        self.max_memory = max_memory
        self._parts = dict(parts)
        self._native_size = native_size
        self._splits: dict[str, Split] = {}
        self._warned: set[str] = set()
        if self.num_classes < 2:
            raise InputError(
                f"target {name!r} has {self.num_classes} class(es): a classifier needs two."
            )

    def __repr__(self) -> str:
        splits = ", ".join(self.split_names)
        return f"TargetTask({self.name!r}, {self.num_classes} classes, splits: {splits})"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(name for name in SPLITS if name in self._parts)

    def has(self, name: str) -> bool:
        """Whether the task has this split."""
        return name in self._parts

    @property
    def train(self) -> Split:
        return self.split("train")

    @property
    def val(self) -> Split:
        """The set's own validation split, for sets that have one."""
        return self.split("val")

    @property
    def test(self) -> Split:
        return self.split("test")

    def split(self, name: str) -> Split:
        """One split; the others are not read.

        Raises:
            InputError: For an unknown or absent split, one without images, or bad labels.
        """
        split = self._read(name)
        if len(split) == 0:
            remedy = "Choose another split or other classes."
            if name == "test":
                remedy = (
                    "A set without a test split holds out a fifth: give more images a class, or "
                    "make train/ and test/ folders."
                )
            raise InputError(f"target {self.name!r} has no {name} images. {remedy}")
        self._warn_missing(split)
        return split

    def _read(self, name: str) -> Split:
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        if name not in self._parts:
            raise InputError(
                f"target {self.name!r} has no {name} split. It has: {', '.join(self.split_names)}."
            )
        if name not in self._splits:
            self._splits[name] = Split(self, name, self._checked(name, self._parts[name]()))
        return self._splits[name]

    def _checked(self, name: str, part: Part) -> Part:
        labels = part.labels
        if len(labels) != len(part.store):
            raise InputError(
                f"target {self.name!r}: {len(part.store)} {name} images but {len(labels)} labels."
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise InputError(
                f"target {self.name!r}: {name} labels must be 0 to {self.num_classes - 1}, "
                f"got {labels.min()} to {labels.max()}."
            )
        return part

    def _warn_missing(self, split: Split) -> None:
        """Say once which classes have no image; they keep their columns."""
        if split.name in self._warned:
            return
        self._warned.add(split.name)
        counts = np.bincount(split.labels, minlength=self.num_classes)
        missing = [self.class_names[c] for c in np.flatnonzero(counts == 0)]
        if missing:
            shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            log.warning(
                "target %s: %d of %d classes have no %s images and keep their columns: %s",
                *(self.name, len(missing), self.num_classes, split.name, shown),
            )

    def images(self, size: int, split: str = "train") -> UInt8[Tensor, "n 3 size size"]:
        """The images of a split, decoded and resized once: :meth:`Split.images`."""
        return self.split(split).images(size)

    def select(self, classes: str | Iterable[int | str]) -> TargetTask:
        """The task with these classes only, relabelled 0 to T - 1 in the order given.

        Args:
            classes: "0-4,dog", or a list of indices and names.

        Raises:
            InputError: For a class that is unknown, repeated or the only one.
        """
        chosen = class_indices(classes, self.class_names, self.name)
        new_label = np.full(self.num_classes, -1)
        new_label[chosen] = np.arange(len(chosen))

        def part(name: str) -> Part:
            whole = self._read(name)
            labels = new_label[whole.labels]
            index = np.flatnonzero(labels >= 0)
            return whole._part._replace(labels=labels).take(index)

        return TargetTask(
            f"{self.name}[{compact(chosen)}]",
            [self.class_names[c] for c in chosen],
            {name: (lambda name=name: part(name)) for name in self._parts},  # type: ignore[misc]
            native_size=self._native_size,
            max_memory=self.max_memory,
        )

    def part(self, name: str) -> Part:
        """What one split is made of, for a task that changes it."""
        return self._read(name)._part

    def replacing(self, parts: Mapping[str, Callable[[], Part]]) -> TargetTask:
        """The task with other images or labels in some splits; it keeps its name."""
        readers = {name: partial(self.part, name) for name in self.split_names}
        return TargetTask(
            self.name, self.class_names, readers | dict(parts), native_size=self.native_size,
            max_memory=self.max_memory,
        )  # fmt: skip

    @cached_property
    def native_size(self) -> int | None:
        """Largest side of a typical image in pixels, by the median of eight, evenly spaced."""
        if self._native_size is not None:
            return self._native_size
        for name in ("train", "test", "val"):
            if self.has(name) and len(split := self._read(name)):
                some = np.unique(np.linspace(0, len(split) - 1, 8, dtype=int))
                return int(np.median([max(split.image(int(i)).size) for i in some]))
        return None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over class names and every split's fingerprint; reads all splits."""
        sha = hashlib.sha256("\0".join(self.class_names).encode())
        for name in self.split_names:
            sha.update(f"\0{name}\0{self._read(name).fingerprint}".encode())
        return sha.hexdigest()


def with_test_split(train: Callable[[], Part]) -> dict[str, Callable[[], Part]]:
    """Readers of the training and test splits of a set that has one part only."""
    whole = cache(train)

    def side(k: int) -> Part:
        part = whole()
        return part.take(holdout_test(part.labels, part.groups)[k])

    return {"train": lambda: side(0), "test": lambda: side(1)}
