"""Image classification sets that torchvision knows, with their official splits."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from reprogram.data.images import ArrayStore, DatasetStore, FileStore, ImageStore, reason
from reprogram.data.task import Part, TargetTask, with_test_split
from reprogram.errors import InputError

__all__ = ["TorchvisionSet", "load_torchvision"]

Arguments = Mapping[str, Any]
TRAIN_FLAG: Mapping[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
TRAIN_TEST: Mapping[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "test"}}
TRAIN_VAL_TEST: Mapping[str, Arguments] = {**TRAIN_TEST, "val": {"split": "val"}}
ONE_PART: Mapping[str, Arguments] = {"train": {}}


@final
@dataclass(frozen=True)
class TorchvisionSet:
    """How a set is made.

    Args:
        maker: Name of the class in `torchvision.datasets`.
        folder: What must exist in the data root, relative to it.
        splits: Arguments of the class for each of our splits; a single "train" is split here.
        class_names: Where the class does not tell them.
        fetched: Whether torchvision can download it.
        base: The folder of the data root that torchvision takes as its root.
    """

    maker: str
    folder: str
    splits: Mapping[str, Arguments]
    class_names: tuple[str, ...] = ()
    fetched: bool = True
    base: str = "."


def load_torchvision(
    name: str, spec: TorchvisionSet, *, root: Path, download: bool, max_memory: int
) -> TargetTask:
    """A torchvision set by name; each split is read when it is asked for.

    Raises:
        InputError: For a set that is not under `root`; the message names the folder.
    """
    datasets = _Datasets(name, spec, root, download)
    # The smaller one, so that a missing set is an error here and not when an image is asked for.
    first = datasets.get("test" if "test" in spec.splits else "train")
    readers: dict[str, Callable[[], Part]] = {
        split: partial(_part, name, datasets, split) for split in spec.splits
    }
    if "test" not in readers:
        readers |= with_test_split(readers["train"])
    return TargetTask(name, spec.class_names or _class_names(first), readers, max_memory=max_memory)


class _Datasets:
    """torchvision's objects by split, each made once."""

    def __init__(self, name: str, spec: TorchvisionSet, root: Path, download: bool) -> None:
        self.name, self.spec, self.root, self.download = name, spec, root, download
        self._made: dict[str, Any] = {}

    def get(self, split: str) -> Any:
        if split not in self._made:
            self._made[split] = self._make(self.spec.splits[split])
        return self._made[split]

    def _make(self, arguments: Arguments) -> Any:
        from torchvision import datasets

        if self.download and not self.spec.fetched:
            raise InputError(f"target {self.name!r} cannot be downloaded. {self._where()}")
        # Asked before torchvision is, which makes folders even for sets that are not there.
        if not self.download and not (self.root / self.spec.folder).exists():
            raise InputError(f"target {self.name!r} is not there. {self._where()}")
        options = {"download": self.download} if self.spec.fetched else {}
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                return getattr(datasets, self.spec.maker)(
                    self.root / self.spec.base, **arguments, **options
                )
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, ImportError) as error:
            said = reason(error).partition(". ")[0]
            raise InputError(
                f"target {self.name!r} cannot be read: {said.rstrip('.')}. {self._where()}"
            ) from error

    def _where(self) -> str:
        fetch = ""
        if self.spec.fetched and not self.download:
            fetch = "fetch it with --download (in Python: download=True), or "
        return f"Expected {self.root / self.spec.folder}: {fetch}put it there or set --data-root."


def _class_names(dataset: Any) -> list[str]:
    names = dataset.classes if hasattr(dataset, "classes") else dataset.categories
    # ImageNet's classes are tuples of synonyms.
    return [name if isinstance(name, str) else name[0] for name in names]


def _part(name: str, datasets: _Datasets, split: str) -> Part:
    dataset = datasets.get(split)
    if (files := _files(dataset)) is not None:
        # Sorted, since torchvision lists SUN397 as the file system happens to.
        pairs = sorted(files, key=lambda pair: pair[0].as_posix())
        paths = [path for path, _ in pairs]
        labels = np.array([label for _, label in pairs], dtype=np.int64)
        groups = _tracks(paths) if name == "gtsrb" and split == "train" else None
        return Part(FileStore(paths, datasets.root), labels, groups)
    return Part(_store(name, dataset), _labels(dataset))


def _files(dataset: Any) -> list[tuple[Path, int]] | None:
    """(path, label) of every image of a set that keeps image files."""
    for attribute in ("_samples", "samples"):
        if hasattr(dataset, attribute):
            return [(Path(path), int(label)) for path, label in getattr(dataset, attribute)]
    for attribute in ("_image_files", "_images"):
        if hasattr(dataset, attribute):
            paths = map(Path, getattr(dataset, attribute))
            return list(zip(paths, map(int, dataset._labels), strict=True))
    if hasattr(dataset, "categories"):  # Caltech, which numbers the images of a class
        folder = next(Path(dataset.root).glob("*_ObjectCategories"))
        return [
            (folder / dataset.categories[label] / _caltech_name(folder, label, i), label)
            for i, label in zip(dataset.index, dataset.y, strict=True)
        ]
    return None


def _caltech_name(folder: Path, label: int, i: int) -> str:
    if folder.name.startswith("256"):
        return f"{label + 1:03d}_{i:04d}.jpg"
    return f"image_{i:04d}.jpg"


def _store(name: str, dataset: Any) -> ImageStore:
    if not hasattr(dataset, "data"):
        return DatasetStore(dataset, name, lambda item: item[0])
    images = np.asarray(dataset.data)
    if images.ndim == 4 and images.shape[1] == 3 and images.shape[3] != 3:
        images = images.transpose(0, 2, 3, 1)  # SVHN and STL-10 keep channels first
    return ArrayStore(images)


def _labels(dataset: Any) -> Int[ndarray, " n"]:
    for attribute in ("targets", "labels"):
        if hasattr(dataset, attribute):
            return np.asarray(getattr(dataset, attribute)).astype(np.int64)
    # PCAM: its labels lie in a file of their own, so that no image is decoded for them.
    file = dataset._base_folder / dataset._FILES[dataset._split]["targets"][0]
    with dataset.h5py.File(file) as content:
        return np.asarray(content["y"]).reshape(-1).astype(np.int64)


def _tracks(paths: list[Path]) -> ndarray:
    """GTSRB names a frame CLASS/TRACK_FRAME.ppm; frames of a track show one sign."""
    return np.array([f"{path.parent.name}/{path.stem.partition('_')[0]}" for path in paths])
