"""Result rows grouped into panels, one a (source, target, pool, noise): methods down, sizes across."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reprogram.data.noise import CLEAN, Noise
from reprogram.errors import InputError
from reprogram.figures import Point
from reprogram.statistics import Summary, summarise

__all__ = ["CONTROL", "Entry", "Panel", "Row", "check_rows", "clean_panels", "describe", "noise_of"]
__all__ += ["panels", "pool_of", "run_key", "run_of"]

Row = Mapping[str, Any]

CONTROL = "@steps"  # a method with as many optimiser steps at every size: no contender of its own

_REQUIRED = ("source", "target", "method", "data_fraction", "seed", "status")


@dataclass(frozen=True)
class Entry:
    """The runs of one method at one data size."""

    rows: tuple[Row, ...]

    @cached_property
    def done(self) -> list[Row]:
        """The runs that have an accuracy."""
        return [row for row in self.rows if row["status"] == "done"]

    @property
    def status(self) -> str:
        """Whether it is done, or why there is no number: failed, skipped, missing."""
        states = {row["status"] for row in self.rows}
        return next((s for s in ("done", "failed", "skipped") if s in states), "missing")

    @cached_property
    def summary(self) -> Summary | None:
        """Mean accuracy and interval over the finished runs."""
        values = [float(row["accuracy"]) for row in self.done]
        return summarise(values) if values else None

    @cached_property
    def by_seed(self) -> dict[Any, float]:
        """Accuracy for each seed; a source that was trained per seed counts as part of it."""
        return {run_of(row): float(row["accuracy"]) for row in self.done}

    def typical(self, key: str) -> float | None:
        """The median of a number over the finished runs, None where no row has it."""
        values = sorted(float(row[key]) for row in self.done if row.get(key) is not None)
        return values[len(values) // 2] if values else None

    @cached_property
    def validation(self) -> float | None:
        """Mean validation accuracy over the finished runs, where they have one."""
        values = [float(v) for row in self.done if (v := row.get("val_accuracy")) is not None]
        return sum(values) / len(values) if values else None

    @property
    def per_class(self) -> float | None:
        """Training images a class, where the rows say how many classes there are."""
        n_train, classes = self.typical("n_train"), self.typical("num_classes")
        return n_train / classes if n_train and classes else None


@dataclass(frozen=True)
class Panel:
    """All results of one source on one target under one noise.

    Attributes:
        source: What the source is called; of a path its last part.
        target: Name of the target.
        noise: What was done to the images.
        methods: The contenders, in one order everywhere.
        fractions: Data sizes, rising.
        entries: The runs of a method at a data size.
        controls: The same for runs with as many steps at every size, by the method they control.
        pool: What the training images were taken from, where a pair was run on several pools.
    """

    source: str
    target: str
    noise: Noise
    methods: tuple[str, ...]
    fractions: tuple[float, ...]
    entries: Mapping[tuple[str, float], Entry]
    controls: Mapping[tuple[str, float], Entry] = field(default_factory=dict)
    pool: str = ""

    @property
    def pair(self) -> str:
        """Source and target in words, with the pool where there are several."""
        return f"{self.source} → {self.place}"

    @property
    def place(self) -> str:
        """The target, with the pool where there are several."""
        return self.target + (f", {self.pool}" if self.pool else "")

    @property
    def title(self) -> str:
        """The pair in words, and the noise where there is one."""
        return self.pair + ("" if self.noise.kind == "clean" else f", {self.noise}")

    def entry(self, method: str, fraction: float) -> Entry:
        """The runs of a cell, empty where it is missing."""
        return self.entries.get((method, fraction), Entry(()))

    def control(self, method: str, fraction: float) -> Entry:
        """The runs of a method's equal-steps control, empty where there is none."""
        return self.controls.get((method, fraction), Entry(()))

    def cost(self, method: str, key: str) -> float | None:
        """The largest typical value of ``key`` over the sizes: parameters, bytes or seconds."""
        values = [self.entry(method, fraction).typical(key) for fraction in self.fractions]
        return max((value for value in values if value is not None), default=None)

    @cached_property
    def per_class(self) -> dict[float, float]:
        """Training images a class at each data fraction, where known."""
        found: dict[float, float] = {}
        for (_, fraction), entry in self.entries.items():
            if entry.per_class is not None:
                found.setdefault(fraction, entry.per_class)
        return found

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing among equally frequent classes."""
        for entry in self.entries.values():
            if classes := entry.typical("num_classes"):
                return 1.0 / classes
        return None

    @cached_property
    def known(self) -> dict[Any, Any]:
        """Verdicts that were worked out already, by data size and methods."""
        return {}

    @cached_property
    def images(self) -> float | None:
        """The smallest number of test images behind an accuracy."""
        found = [
            row["n_test"] for e in self.entries.values() for row in e.done if row.get("n_test")
        ]
        return float(min(found)) if found else None

    @cached_property
    def counts(self) -> tuple[int, int]:
        """The smallest and largest number of runs among the cells that have any."""
        n = [len(entry.done) for entry in self.entries.values() if entry.done]
        return (min(n), max(n)) if n else (0, 0)

    @cached_property
    def curves(self) -> dict[str, list[Point]]:
        """What :func:`reprogram.figures.accuracy_curve` draws."""
        curves: dict[str, list[Point]] = {}
        for method in self.methods:
            for fraction in self.fractions:
                entry = self.entry(method, fraction)
                if (s := entry.summary) is not None:
                    runs = tuple(entry.by_seed.values())
                    point = Point(fraction, s.mean, s.half_width, runs)
                    curves.setdefault(method, []).append(point)
        return curves


def run_of(row: Row) -> tuple[Any, Any]:
    """What pairs runs of different methods: the seed, and the source's own where it has one."""
    return row["seed"], row.get("source_seed")


def noise_of(row: Row) -> Noise:
    """The noise of a row; clean where it names none.

    >>> str(noise_of({"noise": "blur:3"})), str(noise_of({}))
    ('blur:3@test', 'clean')
    """
    return Noise.parse(str(row.get("noise") or CLEAN))


def pool_of(row: Row) -> float:
    """How many training images the sizes are fractions of; infinity for all of them."""
    return math.inf if row.get("train_pool") is None else float(row["train_pool"])


def check_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows in one fixed order, whatever order they came in.

    Raises:
        InputError: For a row without a required field, a finished one without an accuracy in
            [0, 1], or two rows for the same run.
    """
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        lacking = [key for key in _REQUIRED if key not in row]
        if lacking:
            raise InputError(f"result row lacks {', '.join(lacking)}; expected {_REQUIRED}.")
        if row["status"] == "done" and not 0.0 <= float(row.get("accuracy", -1.0)) <= 1.0:
            raise InputError(f"{describe(row)}: accuracy {row.get('accuracy')!r} is not in [0, 1].")
        key = run_key(row)
        if key in seen:
            raise InputError(
                f"two rows for {describe(row)}. A report compares runs of equal settings: run the "
                "other settings with another --out, which has a report of its own."
            )
        seen.add(key)
    return sorted(rows, key=lambda row: tuple(map(_sortable, run_key(row))))


def run_key(row: Row) -> tuple[Any, ...]:
    """What tells one run from all others."""
    place = (row["source"], row["target"], noise_of(row), row["method"])
    return (*place, float(row["data_fraction"]), *run_of(row), row.get("train_pool"))


def describe(row: Row) -> str:
    """A run in words, for messages."""
    where = f"{row['source']} -> {row['target']} ({noise_of(row)})"
    return f"{where}, {row['method']}, {100 * float(row['data_fraction']):g}%, seed {row['seed']}"


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers before words, nothing first."""
    if value is None:
        return (0, 0.0, "")
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))


def panels(rows: Sequence[Row]) -> list[Panel]:
    """All panels; methods and sizes are the same in each of a pool, so that a missing cell shows.

    Methods are in one order everywhere: by mean accuracy at the largest size that each has. The
    equal-steps control of a method that is there stands beside it and is no method of its own.
    """
    rows = check_rows(rows)
    names = {str(row["method"]) for row in rows}
    controls = {m for m in names if m.endswith(CONTROL) and m.removesuffix(CONTROL) in names}
    order = _method_order([row for row in rows if row["method"] not in controls])
    grouped: dict[tuple[str, str, float, Noise], dict[tuple[str, float], list[Row]]] = {}
    for row in rows:
        place = (str(row["source"]), str(row["target"]), pool_of(row), noise_of(row))
        cell = (str(row["method"]), float(row["data_fraction"]))
        grouped.setdefault(place, {}).setdefault(cell, []).append(row)
    expected: dict[tuple[bool, float], set[tuple[str, float]]] = {}  # by clean or not, and pool
    for (_, _, pool, noise), cells in grouped.items():
        asked = {cell for cell in cells if cell[0] not in controls}
        expected.setdefault((noise.kind == "clean", pool), set()).update(asked)
    result = []
    called = source_names({place[0] for place in grouped})
    pools: dict[tuple[str, str], set[float]] = {}
    for source, target, pool, _ in grouped:
        pools.setdefault((source, target), set()).add(pool)
    for (source, target, pool, noise), cells in sorted(grouped.items(), key=lambda item: item[0]):
        wanted = expected[noise.kind == "clean", pool]
        methods = {method for method, _ in wanted}
        fractions = tuple(sorted({fraction for _, fraction in wanted}))
        entries = {c: Entry(tuple(found)) for c, found in cells.items() if c[0] not in controls}
        beside = {
            (method.removesuffix(CONTROL), fraction): Entry(tuple(found))
            for (method, fraction), found in cells.items()
            if method in controls
        }
        shown = tuple(m for m in order if m in methods)
        words = _pool_words(pool) if len(pools[source, target]) > 1 else ""
        where = (called[source], target, noise)
        result.append(Panel(*where, shown, fractions, entries, beside, words))
    return result


def _pool_words(pool: float) -> str:
    """What the training images were taken from."""
    return "all training images" if pool == math.inf else f"pool of {pool:,.0f} training images"


def source_names(sources: Iterable[str]) -> dict[str, str]:
    """What each source is called: of a path as many of its last parts as tell it from the others.

    >>> source_names(["a/b/photo", "a/c/photo", "a/sketch"])
    {'a/b/photo': 'b/photo', 'a/c/photo': 'c/photo', 'a/sketch': 'sketch'}
    """
    split = {source: [part for part in re.split(r"[/\\]", source) if part] for source in sources}
    called = {}
    for source, parts in split.items():
        others = [other for name, other in split.items() if name != source]
        lengths = (n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others))
        length = next(lengths, None)
        called[source] = "/".join(parts[-length:]) if length else source
    return called


def clean_panels(rows: Sequence[Row]) -> list[Panel]:
    """The panels without noise."""
    return [panel for panel in panels(rows) if panel.noise.kind == "clean"]


def _method_order(rows: Sequence[Row]) -> list[str]:
    """Methods by mean accuracy at their largest size, the best first; ties by name."""
    done: dict[str, dict[float, list[float]]] = {str(row["method"]): {} for row in rows}
    for row in rows:
        if row["status"] == "done" and noise_of(row).kind == "clean":
            sizes = done[str(row["method"])]
            sizes.setdefault(float(row["data_fraction"]), []).append(float(row["accuracy"]))
    means = {m: summarise(sizes[max(sizes)]).mean if sizes else -1.0 for m, sizes in done.items()}
    return sorted(means, key=lambda method: (-means[method], method))
