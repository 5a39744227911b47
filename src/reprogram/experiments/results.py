"""The results store: one directory a cell, complete or not there, and one writer at a time.

DIR/grid.json                 the cells that belong to DIR, with their keys
DIR/cells/KEY/result.json     a cell's row; put in place as a whole
DIR/fits/KEY/                 what was trained: artefact and row, resumed where it stopped
DIR/cache/                    stored features and noisy images, made again where they are gone
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.work import with_training_seconds
from reprogram.files import refuse_foreign, sync, write_json, write_text

__all__ = ["Entry", "ResultStore"]

logger = logging.getLogger(__name__)

_IGNORED = "# What can be made again; grid.json, rates.json, cells/ and report/ are the results.\n"
_IGNORED += "\n".join(["/fits/", "/cache/", "/progress.json", "/.lock", "*.tmp", "*.damaged", ""])


@dataclass(frozen=True)
class Entry:
    """A cell of a grid.

    Attributes:
        key: Hash of everything that determines its result, data and weights included.
        fit: Key of what is trained for it; cells that differ in test noise alone share one.
        cell: What is run.
        target: Name of the target that the cell's path or name stands for.
        origin: The config or command that asked for it.
    """

    key: str
    fit: str
    cell: Cell
    target: str
    origin: str

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"cell": self.cell.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Entry:
        return cls(**(values | {"cell": Cell.from_dict(values["cell"])}))

    @property
    def missing_row(self) -> dict[str, Any]:
        """What stands in the tables for a cell without a result."""
        return self.cell.to_dict() | {"target": self.target, "status": "missing"}


class ResultStore:
    """Rows of cells under a directory.

    Args:
        directory: Where; nothing is made before something is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def existing(cls, directory: Path) -> ResultStore:
        """The store in a directory that holds a grid.

        Raises:
            InputError: It holds none.
        """
        if not (directory / "grid.json").is_file():
            raise InputError(f"{directory} holds no grid. Give the --out of `reprogram bench run`.")
        return cls(directory)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory against another writer; the lock goes with the process.

        `progress` holds it for a moment to see whether it is free, so this waits that out.

        Raises:
            InputError: Somebody else holds it.
        """
        self._make()
        # An open file of this process: programs that it starts do not inherit it.
        lock = FileLock(self.directory / ".lock", timeout=1)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"another run is working on {self.directory}. Follow it with `reprogram bench status "
                f"{self.directory}`, or give another --out."
            ) from error
        try:
            (self.directory / "progress.json").unlink(missing_ok=True)  # of an earlier run
            yield
        finally:
            lock.release()

    def _make(self) -> None:
        refuse_foreign(
            self.directory, ("grid.json", "cells", "rates.json", "tune/grid.json", ".lock"), "grid"
        )
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / ".gitignore").exists():
            write_text(self.directory / ".gitignore", _IGNORED)

    def fit_directory(self, fit: str) -> Path:
        """Where a fit is trained and kept."""
        return self.directory / "fits" / fit

    def has_fit(self, fit: str) -> bool:
        """Whether a fit is there, finished."""
        return (self.fit_directory(fit) / "result.json").exists()

    @property
    def tuning(self) -> ResultStore:
        """The cells that `bench tune` runs; their fits are trained in this store."""
        return ResultStore(self.directory / "tune")

    @property
    def cache(self) -> Path:
        """Where stored features and noisy images lie."""
        return self.directory / "cache"

    def write(self, key: str, row: dict[str, Any]) -> None:
        """Put a cell's row in place, as a whole."""
        place = self.directory / "cells" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f"{key}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            (temporary / "result.json").write_text(text + "\n", encoding="utf-8")
            sync(temporary / "result.json")
            shutil.rmtree(place, ignore_errors=True)  # a failed or damaged one
            os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def read(self, key: str) -> dict[str, Any] | None:
        """A cell's row; None where it has none, or a damaged one, which is then set aside.

        Raises:
            OSError: It is there and cannot be read now.
        """
        path = self.directory / "cells" / key / "result.json"
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(row, dict) and row.get("status") in ("done", "failed", "skipped"):
                return with_training_seconds(row)
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.debug("%s: %s", path, error)
        logger.warning("%s is damaged: it is set aside, and its cell counts as missing", path)
        os.replace(path, path.with_name("result.json.damaged"))
        return None

    def discard(self, key: str) -> None:
        """Take a row away, so that its cell is run again."""
        shutil.rmtree(self.directory / "cells" / key, ignore_errors=True)

    def discard_broken(self, entries: Iterable[Entry]) -> None:
        """Take the rows away that are not done, so that their cells are run again."""
        for entry in entries:
            row = self.read(entry.key)
            if row is not None and row["status"] != "done":
                self.discard(entry.key)

    def add(self, entries: Iterable[Entry], command: str) -> list[Entry]:
        """Take a grid in: it replaces an earlier one of the same origin, and the same cells.

        Returns:
            The entries that are new here, with the message logged where a cell's data, weights or
            settings have changed since its row was made.
        """
        before = self.entries()
        new = list(entries)
        origins = {entry.origin for entry in new if entry.origin != COMMAND_LINE}
        cells = {entry.cell for entry in new}
        keys = {entry.key for entry in new}
        kept = [e for e in before if e.origin not in origins and e.cell not in cells]
        kept = [e for e in kept if e.key not in keys]
        changed = [e for e in before if e.cell in cells and e.key not in keys]
        stale = sum(self.has(entry.key) for entry in changed)
        if stale:
            logger.warning(
                "%d results were made from other data or weights than are there now: they stay in "
                "%s and are not counted; their cells run again",
                stale,
                self.directory / "cells",
            )
        document = {"command": command, "entries": [e.to_dict() for e in [*kept, *new]]}
        self._make()
        write_text(self.directory / "grid.json", json.dumps(document, separators=(",", ":")) + "\n")
        return new

    def has(self, key: str) -> bool:
        """Whether a cell has a row, without reading it."""
        return (self.directory / "cells" / key / "result.json").exists()

    def entries(self) -> list[Entry]:
        """The cells that belong here, in the order they were asked for."""
        return [Entry.from_dict(e) for e in self._grid()["entries"]]

    @property
    def command(self) -> str:
        """The command that last asked for cells."""
        return str(self._grid()["command"])

    def _grid(self) -> dict[str, Any]:
        path = self.directory / "grid.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"command": "", "entries": []}
        except ValueError as error:
            raise InputError(
                f"{path} is damaged. Remove it and run the same grid again: results are kept."
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """A row for every cell that belongs here; one without a result says status missing."""
        return [self.read(e.key) or e.missing_row for e in self.entries()]

    def write_progress(self, progress: dict[str, Any]) -> None:
        """What `bench status` shows while a run works."""
        write_json(self.directory / "progress.json", progress | {"time": time.time()})

    def progress(self) -> dict[str, Any] | None:
        """What the running grid last said; None where none runs."""
        path = self.directory / ".lock"
        if not path.exists():
            return None
        try:
            with FileLock(path, timeout=0.1):  # longer than another reader holds it
                return None  # nobody holds it
        except Timeout:
            pass
        try:
            return json.loads((self.directory / "progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


COMMAND_LINE = "command line"
