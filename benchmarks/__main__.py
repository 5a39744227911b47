"""`python -m benchmarks`: measure the rows, print the table, write the JSON document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.document import Document
from benchmarks.machine import machine
from benchmarks.registry import Row
from benchmarks.rows import ROWS
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.table import table
from reprogram.errors import InputError, unknown
from reprogram.files import write_json

__all__ = ["main"]

GROWTH = {"growth": "cost grows", "ntk_growth": "the cost of a tangent kernel grows"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code, 2 for bad input."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(1)
    scale = QUICK if options.quick else FULL
    try:
        chosen = choose(options.only, options.slow)
        document = Document(options.json, machine(scale)) if options.json else None
        entries = measure(chosen, scale)
        for name in GROWTH:
            if folder := getattr(options, name):
                grow(name, scale, folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if entries:
        Console(width=None if sys.stdout.isatty() else 140).print(table(chosen, entries))
    if document:
        document.put(entries)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    result.add_argument("--json", type=Path, metavar="FILE", help="put the rows into FILE")
    result.add_argument("--only", nargs="*", metavar="NAME", help="measure these rows, slow or not")
    result.add_argument("--slow", action="store_true", help="measure the slow rows too")
    result.add_argument(
        "--quick", action="store_true", help="small batches: a first look, no result"
    )
    for name, what in GROWTH.items():
        result.add_argument(
            f"--{name.replace('_', '-')}", type=Path, metavar="DIR",
            help=f"measure how {what}: DIR/{name}.json and .png",
        )  # fmt: skip
    return result


def choose(only: Sequence[str] | None, slow: bool) -> dict[str, Row]:
    """The rows to measure: those named, else all that are not slow."""
    for name in only or ():
        if name not in ROWS:
            raise unknown("row", name, ROWS)
    if only is not None:
        return {name: row for name, row in ROWS.items() if name in only}
    return {name: row for name, row in ROWS.items() if slow or not row.slow}


def measure(rows: dict[str, Row], scale: Scale) -> list[dict[str, Any]]:
    """One entry a row, in order; what runs is shown on stderr."""
    entries = []
    console = Console(stderr=True)
    with console.status("") as status:
        for name, row in rows.items():
            status.update(f"{name}: {row.what}")
            try:
                entries.append(row.to_dict(name, row.measure(scale)))
            except InputError as error:
                console.print(f"{name} is left out: {error}")
    return entries


def grow(name: str, scale: Scale, folder: Path) -> None:
    """Measure and draw how cost grows."""
    from reprogram.figures import save

    module = import_module(f"benchmarks.{name}")
    numbers = module.measure_growth(scale)
    write_json(folder / f"{name}.json", {"environment": machine(scale), **numbers})
    save(module.draw(numbers), folder / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
