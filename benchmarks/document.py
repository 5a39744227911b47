"""The JSON document of measured rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.rows import ROWS
from reprogram.errors import InputError
from reprogram.files import write_json

__all__ = ["Document"]


class Document:
    """A file of rows from one machine; rows measured later take the place of earlier ones.

    Args:
        path: The file; it may not exist yet.
        environment: Of this process. Its commit goes into the rows, since they may differ in it.

    Raises:
        InputError: The file holds rows of another machine, or of other versions or sizes.
    """

    def __init__(self, path: Path, environment: dict[str, Any]) -> None:
        self.path = path
        self.commit = environment["git_sha"]
        self.environment = {n: v for n, v in environment.items() if n != "git_sha"}
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
            there, self.rows = held["environment"], {row["name"]: row for row in held["rows"]}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} is no document of rows ({type(error).__name__}). Name another file."
            ) from error
        here = json.loads(json.dumps(self.environment))
        if other := [n for n in here.keys() | there.keys() if here.get(n) != there.get(n)]:
            raise InputError(
                f"{self.path} holds rows of another {', '.join(sorted(other))}: they cannot stand in "
                "one table. Name another file."
            )

    def put(self, entries: list[dict[str, Any]]) -> None:
        """Write the rows, in the order of the table."""
        self.rows |= {entry["name"]: entry | {"git_sha": self.commit} for entry in entries}
        ordered = [self.rows[name] for name in ROWS if name in self.rows]
        write_json(self.path, {"environment": self.environment, "rows": ordered})
