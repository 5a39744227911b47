"""Where stored features lie: in memory, or in a directory that several processes share."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.engine.feature_file import file_size, read_matrix, write_matrix
from reprogram.errors import InputError
from reprogram.files import disk_full, is_leftover

__all__ = ["FeatureStore"]

logger = logging.getLogger(__name__)

# What the headers of a run's few files need at most.
_HEADERS = 1 << 14
_ABANDONED = 6 * 3600  # seconds after which nobody goes on with a half-written file
_FILE = re.compile(r"[0-9a-f]{64}\.safetensors")


class FeatureStore:
    """Outputs of frozen bodies by what they were made from, within a budget.

    What was used least recently goes first. With a directory every matrix is a memory-mapped
    file there; two processes that make the same one at once leave one whole file.

    Args:
        limit: Bytes to hold in memory at most; files are not counted.
        directory: Folder of the files; None keeps everything in memory.
        disk_limit: Bytes that the folder may hold at most.
        announce: Told the size of what is about to be made.
    """

    def __init__(
        self,
        limit: int = 2 << 30,
        directory: Path | None = None,
        disk_limit: int = 20 << 30,
        announce: Callable[[str], None] = logger.info,
    ) -> None:
        self.limit, self.directory, self.disk_limit = limit, directory, disk_limit
        self.announce = announce
        self._entries: OrderedDict[str, Tensor] = OrderedDict()

    def fits(self, size: int) -> bool:
        """Whether so many bytes can be kept at once."""
        if self.directory is None:
            return size <= self.limit
        return size + _HEADERS <= self.disk_limit

    def get(self, key: str) -> Float[Tensor, "n d"] | None:
        """What was made from `key`; not to be written to."""
        if key not in self._entries and self.directory is not None:
            path = self._path(key)
            found = read_matrix(path, key)
            if found is not None:
                _touch(path)
                self._entries[key] = found
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def make(
        self, key: str, shape: tuple[int, int], dtype: torch.dtype, blocks: Iterable[Tensor]
    ) -> Float[Tensor, "n d"]:
        """Keep the matrix whose rows `blocks` yields, in order.

        Raises:
            InputError: The directory cannot be written to.
            OSError: The disk is full: no other cache is better, and no other cell survives it.
        """
        size = shape[0] * shape[1] * dtype.itemsize
        where = f"in {self.directory}" if self.directory else "in memory"
        self.announce(f"storing features of {shape[0]:,} images: {size / 2**20:,.1f} MiB {where}")
        if self.directory is None:
            self._free_memory(size)
            return self._entries.setdefault(key, _stacked(blocks, shape))
        try:
            self._free_disk(self.directory, file_size(key, shape, dtype))
            write_matrix(self._path(key), key, shape, dtype, blocks)
        except OSError as error:
            if disk_full(error):
                raise
            raise InputError(
                f"feature cache {self.directory} cannot be written: {error.strerror or error}. "
                "Give another folder, or none to keep features in memory."
            ) from error
        made = self.get(key)
        if made is None:
            raise InputError(
                f"feature cache {self.directory} is too small for the processes that share it: one "
                "removed what another had just made. Raise --feature-cache-size."
            ) from FileNotFoundError(self._path(key))
        return made

    def _path(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def _free_memory(self, size: int) -> None:
        held = sum(t.numel() * t.element_size() for t in self._entries.values())
        while self._entries and held + size > self.limit:
            _, dropped = self._entries.popitem(last=False)
            held -= dropped.numel() * dropped.element_size()

    def _free_disk(self, directory: Path, size: int) -> None:
        """Remove the files read least recently; whoever maps one keeps what it maps.

        What a killed process left half written goes first.
        """
        directory.mkdir(parents=True, exist_ok=True)
        used, held = [], 0
        for path in directory.iterdir():
            if _FILE.fullmatch(path.name):
                try:
                    state = path.stat()
                except OSError:  # another process removed it
                    continue
                used.append((state.st_mtime_ns, path, state.st_size))
                held += state.st_size
            elif is_leftover(path) and _age(path) > _ABANDONED:
                path.unlink(missing_ok=True)
        for _, path, bytes_ in sorted(used):
            if held + size <= self.disk_limit:
                break
            path.unlink(missing_ok=True)
            held -= bytes_
        for key in [key for key in self._entries if not self._path(key).exists()]:
            del self._entries[key]  # a mapped file takes its space as long as it is mapped


def _age(path: Path) -> float:
    """Seconds since a file was written to; 0 for one that is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _stacked(blocks: Iterable[Tensor], shape: tuple[int, int]) -> Tensor:
    """The blocks as one matrix, which is never there twice."""
    parts = iter(blocks)
    first = next(parts)
    matrix = first.new_empty(shape)
    matrix[: len(first)] = first
    filled = len(first)
    for block in parts:
        matrix[filled : filled + len(block)] = block
        filled += len(block)
    return matrix


def _touch(path: Path) -> None:
    """Note that a file was used; a read-only folder has no order."""
    try:
        os.utime(path)
    except OSError:
        return
