"""DomainNet (Peng et al. 2019): 345 classes in six domains, with official lists of both splits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from reprogram.data.images import FileStore
from reprogram.data.task import Part, TargetTask
from reprogram.errors import InputError

__all__ = ["load_domainnet"]

Entry = tuple[str, str, int]  # (path, class name, label)


def load_domainnet(domain: str, *, root: Path, max_memory: int) -> TargetTask:
    """One domain: the folder `DOMAIN/` and two official lists in `root/domainnet`.

    The lists are `DOMAIN_train.txt` and `DOMAIN_test.txt`; a line of one is
    `real/aircraft_carrier/real_001.jpg 0`.

    Raises:
        InputError: For absent files (the folder is named), a line that cannot be read, or a label
            that stands for two classes.
    """
    folder = root / "domainnet"
    lists = {split: folder / f"{domain}_{split}.txt" for split in ("train", "test")}
    absent = [p for p in (folder / domain, *lists.values()) if not p.exists()]
    if absent:
        raise InputError(
            f"target 'domainnet-{domain}': {absent[0]} is not there. DomainNet cannot be fetched "
            f"from here: unpack {domain}.zip and both {domain} lists from its home page into "
            f"{folder}, or set --data-root."
        )
    entries = {split: _entries(path) for split, path in lists.items()}
    class_names = _class_names([entry for part in entries.values() for entry in part], folder)
    parts = {split: partial(_part, folder, part) for split, part in entries.items()}
    return TargetTask(f"domainnet-{domain}", class_names, parts, max_memory=max_memory)


def _entries(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        pieces = name.split("/")
        if len(pieces) != 3 or ".." in pieces or not label.isascii() or not label.isdigit():
            raise InputError(
                f"{path}, line {number}: expected 'domain/class/image.jpg label', got {line!r}."
            )
        entries.append((name, pieces[1], int(label)))
    if not entries:
        raise InputError(f"{path}: an empty list. Fetch it anew.")
    return entries


def _class_names(entries: list[Entry], folder: Path) -> list[str]:
    names: dict[int, str] = {}
    for path, name, label in entries:
        if names.setdefault(label, name) != name:
            raise InputError(
                f"{folder}: label {label} is {names[label]!r} and, for {path}, {name!r}."
            )
    if sorted(names) != list(range(len(names))):
        raise InputError(f"{folder}: the labels in its lists must be 0 to T - 1 without gaps.")
    return [names[label] for label in range(len(names))]


def _part(folder: Path, entries: list[Entry]) -> Part:
    paths = [folder / name for name, _, _ in entries]
    return Part(FileStore(paths, folder), np.array([label for _, _, label in entries]))
