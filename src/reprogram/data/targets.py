"""The table of target tasks by name, and the way from a spec to a task."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from reprogram.data.digits import load_digits
from reprogram.data.domainnet import load_domainnet
from reprogram.data.folder import class_folders, load_folder
from reprogram.data.hub import load_hub
from reprogram.data.npz import load_npz
from reprogram.data.quickdraw import bitmap_files, load_quickdraw
from reprogram.data.resized import DEFAULT_MAX_MEMORY
from reprogram.data.roots import data_root as find_root
from reprogram.data.selection import split_selection
from reprogram.data.task import TargetTask
from reprogram.data.torchvision_sets import (
    ONE_PART,
    TRAIN_FLAG,
    TRAIN_TEST,
    TRAIN_VAL_TEST,
    TorchvisionSet,
    load_torchvision,
)
from reprogram.errors import InputError, unknown

__all__ = ["TARGETS", "Target", "load_target"]


@final
@dataclass(frozen=True)
class Target:
    """A line of the table.

    Args:
        num_classes: T.
        image_size: Side in pixels; None where it varies from image to image.
        get: How one comes by it.
        reference: Where it was published.
        torchvision: How torchvision makes it, for those that it knows.
    """

    num_classes: int
    image_size: int | None
    get: str
    reference: str
    torchvision: TorchvisionSet | None = None


def _torchvision(
    num_classes: int, image_size: int | None, reference: str, how: TorchvisionSet
) -> Target:
    get = "--download" if how.fetched else f"by hand: {how.folder}/ in the data root"
    return Target(num_classes, image_size, get, reference, how)


def _domainnet() -> Target:
    return Target(345, None, "by hand: domainnet/ in the data root", "Peng et al. 2019")


DIGITS = tuple("0123456789")
STL10_NAMES = tuple("airplane bird car cat deer dog horse monkey ship truck".split())
GTSRB_NAMES = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70",
    "speed limit 80", "end of speed limit 80", "speed limit 100", "speed limit 120", "no passing",
    "no passing for trucks", "right of way at next crossing", "priority road", "yield", "stop",
    "no vehicles", "no trucks", "no entry", "danger", "curve left", "curve right", "double curve",
    "bumpy road", "slippery road", "road narrows right", "road works", "traffic signals",
    "pedestrians", "children", "bicycles", "snow or ice", "wild animals", "end of all limits",
    "turn right", "turn left", "ahead only", "ahead or right", "ahead or left", "keep right",
    "keep left", "roundabout", "end of no passing", "end of no passing for trucks",
)  # fmt: skip

TARGETS: dict[str, Target] = {
    "digits": Target(10, 8, "ships with the package", "Alpaydin and Kaynak 1998"),
    "cifar10": _torchvision(10, 32, "Krizhevsky 2009",
        TorchvisionSet("CIFAR10", "cifar-10-batches-py", TRAIN_FLAG)),
    "cifar100": _torchvision(100, 32, "Krizhevsky 2009",
        TorchvisionSet("CIFAR100", "cifar-100-python", TRAIN_FLAG)),
    "svhn": _torchvision(10, 32, "Netzer et al. 2011",
        TorchvisionSet("SVHN", "test_32x32.mat", TRAIN_TEST, DIGITS)),
    "gtsrb": _torchvision(43, None, "Stallkamp et al. 2012",
        TorchvisionSet("GTSRB", "gtsrb", TRAIN_TEST, GTSRB_NAMES)),
    "stl10": _torchvision(10, 96, "Coates et al. 2011",
        TorchvisionSet("STL10", "stl10_binary", TRAIN_TEST, STL10_NAMES)),
    "flowers102": _torchvision(102, None, "Nilsback and Zisserman 2008",
        TorchvisionSet("Flowers102", "flowers-102", TRAIN_VAL_TEST)),
    "dtd": _torchvision(47, None, "Cimpoi et al. 2014",
        TorchvisionSet("DTD", "dtd", TRAIN_VAL_TEST)),
    "food101": _torchvision(101, None, "Bossard et al. 2014",
        TorchvisionSet("Food101", "food-101", TRAIN_TEST)),
    "eurosat": _torchvision(10, 64, "Helber et al. 2019",
        TorchvisionSet("EuroSAT", "eurosat", ONE_PART)),
    "pets": _torchvision(37, None, "Parkhi et al. 2012",
        TorchvisionSet("OxfordIIITPet", "oxford-iiit-pet",
            {"train": {"split": "trainval"}, "test": {"split": "test"}})),
    "sun397": _torchvision(397, None, "Xiao et al. 2010",
        TorchvisionSet("SUN397", "SUN397", ONE_PART)),
    "aircraft": _torchvision(100, None, "Maji et al. 2013",
        TorchvisionSet("FGVCAircraft", "fgvc-aircraft-2013b", TRAIN_VAL_TEST)),
    "cars": _torchvision(196, None, "Krause et al. 2013",
        TorchvisionSet("StanfordCars", "stanford_cars", TRAIN_TEST, fetched=False)),
    "caltech101": _torchvision(101, None, "Fei-Fei et al. 2004",
        TorchvisionSet("Caltech101", "caltech101", ONE_PART)),
    "caltech256": _torchvision(257, None, "Griffin et al. 2007",
        TorchvisionSet("Caltech256", "caltech256", ONE_PART)),
    "country211": _torchvision(211, None, "Radford et al. 2021",
        TorchvisionSet("Country211", "country211", {**TRAIN_TEST, "val": {"split": "valid"}})),
    "rendered-sst2": _torchvision(2, 448, "Radford et al. 2021",
        TorchvisionSet("RenderedSST2", "rendered-sst2", TRAIN_VAL_TEST)),
    "pcam": _torchvision(2, 96, "Veeling et al. 2018",
        TorchvisionSet("PCAM", "pcam", TRAIN_VAL_TEST, ("no tumour", "tumour"))),
    "mnist": _torchvision(10, 28, "LeCun et al. 1998",
        TorchvisionSet("MNIST", "MNIST", TRAIN_FLAG, DIGITS)),
    "fashionmnist": _torchvision(10, 28, "Xiao et al. 2017",
        TorchvisionSet("FashionMNIST", "FashionMNIST", TRAIN_FLAG)),
    "kmnist": _torchvision(10, 28, "Clanuwat et al. 2018",
        TorchvisionSet("KMNIST", "KMNIST", TRAIN_FLAG)),
    "usps": _torchvision(10, 16, "Hull 1994",
        TorchvisionSet("USPS", "usps.t.bz2", TRAIN_FLAG, DIGITS)),
    "semeion": _torchvision(10, 16, "Buscema 1998",
        TorchvisionSet("SEMEION", "semeion.data", ONE_PART, DIGITS)),
    "imagenette": _torchvision(10, None, "Howard 2019",
        TorchvisionSet("Imagenette", "imagenette2",
            {"train": {"split": "train"}, "test": {"split": "val"}})),
    "imagenet": _torchvision(1000, None, "Russakovsky et al. 2015",
        TorchvisionSet("ImageNet", "imagenet",
            {"train": {"split": "train"}, "test": {"split": "val"}},
            fetched=False, base="imagenet")),
    "quickdraw": Target(345, 28, "by hand: quickdraw/*.npy in the data root; or quickdraw:DIR",
        "Ha and Eck 2018"),
    "domainnet-clipart": _domainnet(),
    "domainnet-infograph": _domainnet(),
    "domainnet-painting": _domainnet(),
    "domainnet-quickdraw": _domainnet(),
    "domainnet-real": _domainnet(),
    "domainnet-sketch": _domainnet(),
}  # fmt: skip


def load_target(
    spec: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    download: bool = False,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> TargetTask:
    """The target that a spec names; images are read when they are asked for.

    Args:
        spec: A name in TARGETS, a folder of images or of Quick, Draw! bitmaps, a `.npz` file,
            `hf/NAME` or `quickdraw:DIR`; each with `[0-4]` or `[dog,horse]` for some classes only.
        data_root: Where sets by name lie, and relative paths that are not here; see
            :func:`reprogram.data.roots.data_root`.
        download: Whether a set may be fetched.
        max_memory: Bytes that the images of a split may take at one size; beyond, they go to a
            memory-mapped file in the cache.

    Raises:
        InputError: For a spec that names nothing, or data that cannot be used.

    >>> load_target("digits[0-4]").num_classes
    5
    """
    text = os.fspath(spec)
    if _exists(text):
        name, classes = text, None  # a folder may have brackets in its name
    else:
        name, classes = split_selection(text)
    task = _load(name, data_root, download, max_memory)
    return task if classes is None else task.select(classes)


def _load(
    name: str, root: str | os.PathLike[str] | None, download: bool, max_memory: int
) -> TargetTask:
    if name == "digits":
        return load_digits(max_memory=max_memory)
    if name == "quickdraw":
        return load_quickdraw(_quickdraw_folder(find_root(root)), max_memory=max_memory)
    if name in TARGETS:
        known, place = TARGETS[name].torchvision, find_root(root)
        if known is None:
            domain = name.removeprefix("domainnet-")
            return load_domainnet(domain, root=place, max_memory=max_memory)
        return load_torchvision(name, known, root=place, download=download, max_memory=max_memory)
    if name.startswith("hf/"):
        return load_hub(name.removeprefix("hf/"), download=download, max_memory=max_memory)
    if name.startswith("quickdraw:"):
        folder = _existing(name.removeprefix("quickdraw:"))
        return load_quickdraw(folder, max_memory=max_memory)
    return _load_path(_in_root(name, root), max_memory)


def _in_root(name: str, root: str | os.PathLike[str] | None) -> str:
    """A relative path that is not here, in the data root where it is there."""
    if _exists(name) or not _looks_like_path(name):
        return name
    there = str(find_root(root) / name)
    return there if _exists(there) else name


def _load_path(name: str, max_memory: int) -> TargetTask:
    if not _exists(name) and not _looks_like_path(name):
        hint = (
            "No folder is called so either. Give a folder, a .npz file or hf/NAME; "
            "`reprogram list targets` shows all names."
        )
        raise unknown("target", name, TARGETS, hint)
    path = _existing(name)
    if path.is_dir():
        if bitmap_files(path) and not class_folders(path):
            return load_quickdraw(path, max_memory=max_memory)
        return load_folder(path, max_memory=max_memory)
    if path.suffix.lower() == ".npz":
        return load_npz(path, max_memory=max_memory)
    raise InputError(f"{path}: not a target. Expected a folder of images or a .npz file.")


def _quickdraw_folder(root: Path) -> Path:
    folder = root / "quickdraw"
    if not folder.is_dir():
        raise InputError(
            f"target 'quickdraw' is not there. Expected {folder} with one NAME.npy for each class: "
            "put the numpy bitmaps there, set --data-root, or name a folder with quickdraw:DIR."
        )
    return folder


def _looks_like_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.startswith(("~", ".")) or name.endswith(".npz")


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long a name, a null byte, an unknown ~user
        return False


def _existing(name: str) -> Path:
    if not _exists(name):
        raise InputError(f"{name}: no such file or folder. Check the path.")
    return Path(name).expanduser()
