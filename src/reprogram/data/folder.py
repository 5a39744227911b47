"""A folder of images: `train/`, `val/` and `test/`, or one folder of class folders."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from reprogram.data.images import FileStore
from reprogram.data.task import Part, TargetTask, with_test_split
from reprogram.errors import InputError

__all__ = ["class_folders", "load_folder"]

SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()
)
NO_IMAGES = frozenset(["", *".csv .db .html .ini .json .md .txt .xml .yaml .yml".split()])
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

Classes = dict[str, list[Path]]  # image files by class, both sorted

logger = logging.getLogger(__name__)


def load_folder(path: Path, *, max_memory: int) -> TargetTask:
    """The target in a folder: one folder a class, named after it, in alphabetical order.

    With `train/` or `test/` beneath (and `val`, `valid` or `validation`) the classes are those of
    all splits together, and an empty class folder keeps its column. Otherwise the folder holds the
    classes itself, and a fifth of the images is the test split. Images may lie in folders of any
    depth inside a class, behind symbolic links too; hidden files are passed over.

    Raises:
        InputError: For a folder without class folders or without images.
    """
    passed: Counter[str] = Counter()
    folders = _split_folders(path) or {"train": path}
    splits = {
        name: {inside.name: _images(inside, passed) for inside in class_folders(folder)}
        for name, folder in folders.items()
    }
    if passed:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in passed.most_common(5))
        logger.warning("%s: files that are no known images are passed over: %s", path, listed)
    return _task(path, splits, max_memory)


def _task(path: Path, splits: Mapping[str, Classes], max_memory: int) -> TargetTask:
    class_names = sorted(set().union(*splits.values()))
    if not class_names:
        flat = len(_images(path, Counter()))
        raise InputError(
            f"{path}: no class folders. Expected one folder of images for each class, such as "
            f"{path / 'cat' / '001.jpg'}"
            + (f"; it has {flat} images right beneath." if flat else ".")
        )
    filled = {name: classes for name, classes in splits.items() if any(classes.values())}
    if not {"train", "test"} & set(filled):
        raise InputError(
            f"{path}: no images in its class folders {', '.join(class_names[:5])}. "
            f"Expected files such as {class_names[0]}/001.png."
        )
    readers: dict[str, Callable[[], Part]] = {
        name: partial(_part, path, classes, class_names) for name, classes in filled.items()
    }
    if "test" not in readers:
        readers |= with_test_split(readers["train"])
    return TargetTask(path.resolve().name, class_names, readers, max_memory=max_memory)


def _part(root: Path, classes: Classes, class_names: list[str]) -> Part:
    files = [file for name in class_names for file in classes.get(name, [])]
    counts = [len(classes.get(name, [])) for name in class_names]
    return Part(FileStore(files, root), np.repeat(np.arange(len(class_names)), counts))


def _split_folders(path: Path) -> dict[str, Path]:
    """The folders of the splits; none for a folder that holds the classes itself."""
    found: dict[str, Path] = {}
    for folder in class_folders(path):
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None or not class_folders(folder):
            continue
        if split in found:
            raise InputError(
                f"{path}: {found[split].name}/ and {folder.name}/ are both its {split} split. "
                "Remove or rename one."
            )
        found[split] = folder
    if {"train", "test"} & set(found):
        return found
    names = [folder.name for folder in class_folders(path)]
    if names and all(name.lower() in SPLIT_FOLDERS for name in names):
        raise InputError(
            f"{path}: no class folders in {', '.join(f'{name}/' for name in names)}. Expected one "
            f"folder of images for each class, such as {path / names[-1] / 'cat' / '001.jpg'}"
        )
    return {}


def class_folders(path: Path) -> list[Path]:
    """The folders right beneath, sorted by name, without hidden ones."""
    try:
        inside = list(path.iterdir())
    except OSError as error:
        raise InputError(f"{path}: not a folder that can be read ({error.strerror}).") from error
    return sorted((p for p in inside if _visible(p.name) and p.is_dir()), key=lambda p: p.name)


def _images(folder: Path, passed: Counter[str]) -> list[Path]:
    """The image files beneath; `passed` counts the suffixes of the others."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        above = {here, *here.parents}  # a link to one of them has no end
        folders[:] = [n for n in folders if _visible(n) and (here / n).resolve() not in above]
        for name in filter(_visible, names):
            suffix = _suffix(name)
            if suffix in SUFFIXES:
                files.append(Path(place, name))
            elif suffix not in NO_IMAGES:
                passed[suffix] += 1
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
