"""What a command prints: its result on stdout, messages on stderr, one JSON document with --json."""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["error_line", "note", "result"]


def result(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a command's result: its text for people, or one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) if as_json else text)


def note(text: str, quiet: bool = False) -> None:
    """A message beside the result, on stderr."""
    if not quiet:
        print(text, file=sys.stderr)


def error_line(text: str, code: int) -> int:
    """One line, red only in a terminal; returns the exit code."""
    line = "error: " + " ".join(text.split())
    print(f"\033[31m{line}\033[0m" if sys.stderr.isatty() else line, file=sys.stderr)
    return code
