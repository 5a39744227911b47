"""Data sets of the Hugging Face Hub: `hf/NAME` or `hf/NAME:CONFIG` (extra `[data]`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import huggingface_hub.constants
import numpy as np
from jaxtyping import Int
from numpy import ndarray

from reprogram.data.images import DatasetStore, reason
from reprogram.data.task import Part, TargetTask, with_test_split
from reprogram.errors import InputError

__all__ = ["load_hub", "task_from_datasets"]

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
# Of several label columns, the finest.
LABEL_COLUMNS = ("label", "labels", "fine_label")


def load_hub(spec: str, *, download: bool, max_memory: int) -> TargetTask:
    """A data set of the Hub, from the local cache unless `download` is set.

    Args:
        spec: `NAME`, `OWNER/NAME`, or either with `:CONFIG`.
        download: Whether the Hub may be asked.
        max_memory: See :class:`TargetTask`.

    Raises:
        InputError: Without the extra, for a set that cannot be had or is no image classification.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"target 'hf/{spec}' needs the datasets package: pip install reprogram[data]"
        ) from error
    path, _, config = spec.partition(":")
    try:
        with _offline(datasets, not download):
            sets = datasets.load_dataset(path, config or None)
    except Exception as error:  # the Hub, the file system and the set's own files all have theirs
        said = reason(error).partition(". ")[0]
        remedy = "" if download else " Fetch it with --download (in Python: download=True)."
        raise InputError(
            f"target 'hf/{spec}' cannot be loaded: {said.rstrip('.')}.{remedy}"
        ) from error
    return task_from_datasets(f"hf/{spec}", sets, max_memory=max_memory)


@contextmanager
def _offline(datasets: Any, wanted: bool) -> Iterator[None]:
    """Both libraries in their offline mode, which they read from the environment at import only."""
    switches = [datasets.config, huggingface_hub.constants] if wanted else []
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def task_from_datasets(name: str, sets: Mapping[str, Any], *, max_memory: int) -> TargetTask:
    """The task in a `DatasetDict`: its Image column and its ClassLabel column.

    Splits are taken by name; one whose labels are all -1 (unpublished) is passed over.

    Raises:
        InputError: Without an Image or a ClassLabel column, or with several and no usual name.
    """
    found = {
        ours: sets[theirs]
        for ours, names in SPLIT_NAMES.items()
        for theirs in names
        if theirs in sets
    }
    if not found:
        raise InputError(f"target {name!r} has splits {', '.join(sets)}: none is train or test.")
    features = next(iter(found.values())).features
    image = _column(name, features, "Image", ("image", "img"))
    label = _column(name, features, "ClassLabel", LABEL_COLUMNS)
    labels = {split: _labels(rows, label) for split, rows in found.items()}
    readers: dict[str, Callable[[], Part]] = {
        split: partial(_part, name, found[split], image, values)
        for split, values in labels.items()
        if (values >= 0).any()
    }
    if "test" not in readers and "train" in readers:
        readers |= with_test_split(readers["train"])
    if "test" not in readers:
        raise InputError(f"target {name!r} has no labelled train or test images.")
    return TargetTask(name, features[label].names, readers, max_memory=max_memory)


def _column(name: str, features: Mapping[str, Any], kind: str, usual: tuple[str, ...]) -> str:
    """The one column of a kind, or the first with a usual name."""
    columns = [column for column, feature in features.items() if type(feature).__name__ == kind]
    preferred = [column for column in usual if column in columns]
    if len(columns) == 1 or preferred:
        return (preferred or columns)[0]
    raise InputError(
        f"target {name!r}: expected one {kind} column, found {', '.join(columns) or 'none'} "
        f"among {', '.join(features)}. Only sets for image classification can be used."
    )


def _labels(rows: Any, column: str) -> Int[ndarray, " n"]:
    """The labels, without decoding an image; a missing one is -1."""
    values = rows.select_columns([column]).with_format("arrow")[:].column(column)
    return np.array([-1 if v is None else v for v in values.to_pylist()], dtype=np.int64)


def _part(name: str, rows: Any, image: str, labels: Int[ndarray, " n"]) -> Part:
    store = DatasetStore(rows.select_columns([image]), name, lambda row: row[image])
    return Part(store, labels)
