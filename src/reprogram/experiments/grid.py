"""Grids: lists of cells from a config file or from flags, and the keys of their results."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprogram.data.noise import CLEAN, Noise
from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.experiments.results import COMMAND_LINE, Entry
from reprogram.experiments.run import identity_of
from reprogram.methods import get_method
from reprogram.settings import Settings

__all__ = [
    "Rates",
    "entries_of",
    "product",
    "read_config",
    "refreshed",
    "settings_with",
    "warn_of_published_rates",
]

logger = logging.getLogger(__name__)


def read_config(path: Path) -> list[Cell]:
    """The cells of a config: a Python file with `grid() -> list[Cell]`.

    Raises:
        InputError: The file is none, breaks, or its grid is not a list of different cells.
    """
    if not path.is_file():
        raise InputError(f"config {path} is no file. Give one such as configs/data_size.py.")
    spec = importlib.util.spec_from_file_location(f"reprogram_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"config {path} is no Python file. It needs grid() -> list[Cell].")
    module = importlib.util.module_from_spec(spec)
    _published.clear()
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "grid", None)):
            raise InputError(f"config {path} has no grid(). It needs grid() -> list[Cell].")
        cells = module.grid()
    except InputError:
        raise
    except Exception as error:  # the config is the user's
        raise InputError(f"config {path}: {type(error).__name__}: {error}") from error
    if not isinstance(cells, list) or not cells or not all(isinstance(c, Cell) for c in cells):
        raise InputError(f"config {path}: grid() must return a list of Cells, got {cells!r:.80}.")
    return cells


def product(
    *,
    sources: Sequence[str],
    targets: Sequence[str],
    methods: Sequence[str],
    fractions: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0,),
    noises: Sequence[Noise] = (CLEAN,),
    source_seeds: Sequence[int | None] = (None,),
    settings: Mapping[str, Any] | None = None,
    rates: Rates | None = None,
    **common: Any,
) -> list[Cell]:
    """Every combination, seed after seed, so that an interrupted grid holds whole tables first.

    Args:
        sources: As for `load_source`.
        targets: As for `load_target`.
        methods: Names in METHODS.
        fractions: Shares of every class's training images.
        seeds: Trials; where a source was trained per seed, `source_seeds` goes along with them.
        noises: What is done to the images.
        source_seeds: Trainings of the source; one for all trials, or one a trial.
        settings: Changes to every method's published settings, where the method reads them.
        rates: Learning rates chosen on validation.
        common: Other fields of every cell, such as `train_pool`.

    Raises:
        InputError: Seeds and source seeds do not pair up.
    """
    if len(source_seeds) == 1:
        source_seeds = list(source_seeds) * len(seeds)
    if len(source_seeds) != len(seeds):
        raise InputError(
            f"source_seeds has {len(source_seeds)} entries for {len(seeds)} seeds: give one for all "
            "or one a seed."
        )
    cells = []
    trials = list(zip(seeds, source_seeds, strict=True))
    places = itertools.product(trials, sources, targets, noises, methods, fractions)
    for (seed, source_seed), source, target, noise, method, fraction in places:
        chosen = settings_with(method, settings or {})
        if rates is not None:
            chosen = rates.apply(chosen, source, target, method)
        cells.append(
            Cell(
                source, target, method, fraction, seed, settings=chosen, noise=noise,
                source_seed=source_seed, **common,
            )
        )  # fmt: skip
    return cells


def settings_with(method: str, changes: Mapping[str, Any]) -> Settings:
    """A method's published settings with those changes that it reads."""
    known = get_method(method)
    return known.settings.updated(known.settings_read(dict(changes)))


RATE_FIELDS = ("lr", "lr_mask", "lr_linear", "lr_mapping")


class Rates:
    """Learning rates chosen on validation, as `bench tune` writes them into rates.json.

    Args:
        path: The file; where it is missing, the published rates hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._factors: dict[tuple[str, str, str], float] = {}
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            for row in document["rates"]:
                place = (row["source"], row["target"], row["method"])
                self._factors[place] = float(row["factor"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no file of rates ({error}). Make it again: reprogram bench tune."
            ) from error

    def apply(self, settings: Settings, source: str, target: str, method: str) -> Settings:
        """The settings with all rates of the method times the factor chosen for this pair.

        A variant that was not tuned itself takes the factor of the method that it varies.

        Raises:
            InputError: The settings have rates of their own, which the factor was not chosen for.
        """
        published = get_method(method).settings
        if own := [n for n in RATE_FIELDS if getattr(settings, n) != getattr(published, n)]:
            raise InputError(
                f"{method} has its own {', '.join(own)}, and {self.path} chooses factors of the "
                "published rates. Leave out one or the other."
            )
        base = method.partition("@")[0]
        factor = self._factors.get((source, target, method))
        factor = self._factors.get((source, target, base)) if factor is None else factor
        if factor is None:
            if get_method(method).is_trained:
                _published.setdefault(self.path, {})[source, target, base] = None
            factor = 1.0
        return scaled(settings, factor)


# What `Rates` was asked for and did not hold, in the order of asking, by its file.
_published: dict[Path, dict[tuple[str, str, str], None]] = {}


def warn_of_published_rates() -> None:
    """Log what takes its published rates since the last call, because none was chosen for it."""
    for path, places in _published.items():
        pairs: dict[str, list[str]] = {}
        for source, target, method in places:
            pairs.setdefault(f"{source} -> {target}", []).append(method)
        named = "; ".join(f"{pair}: {', '.join(methods)}" for pair, methods in pairs.items())
        why = "has no entry" if path.exists() else "is not there"
        logger.warning("%s %s: published learning rates for %s", path, why, named)
    _published.clear()


def scaled(settings: Settings, factor: float) -> Settings:
    """All learning rates of a method, times a factor.

    >>> scaled(Settings(lr=0.02, lr_mask=0.01), 3.0).lr_mask
    0.03
    """
    values = {name: getattr(settings, name) for name in RATE_FIELDS}
    # Ten digits: 3 * 0.01 is 0.03, in the row and in the key.
    return settings.updated(
        {k: float(f"{v * factor:.10g}") for k, v in values.items() if v is not None}
    )


def entries_of(cells: Iterable[Cell], context: Context, origin: str = COMMAND_LINE) -> list[Entry]:
    """The cells with their keys, which name data and weights by fingerprint.

    Raises:
        InputError: A source or target that cannot be loaded, a cell that is there twice, or two
            targets of one name, which a report could not tell apart.
    """
    entries: dict[str, Entry] = {}
    prints: dict[str, tuple[str, str]] = {}
    for cell in cells:
        get_method(cell.method)
        source, task = cell_source(cell, context), cell_task(cell, context)
        key = identity_of(cell, source, task)[:KEY_LENGTH]
        fit = identity_of(cell.fit, source, task)[:KEY_LENGTH]
        other, known = prints.setdefault(task.name, (cell.target, task.fingerprint))
        if known != task.fingerprint:
            raise InputError(
                f"targets {other!r} and {cell.target!r} are both called {task.name!r} and are not the "
                "same images. Rename one: the name is what rows and splits go by."
            )
        if key in entries:
            raise InputError(f"the grid holds a cell twice: {cell.words}. Every cell is run once.")
        entries[key] = Entry(key, fit, cell, task.name, origin)
    return list(entries.values())


def refreshed(entries: Iterable[Entry], context: Context) -> list[Entry]:
    """The same cells with the keys that they have by the data and weights that are there now."""
    known = list(entries)
    now = entries_of([entry.cell for entry in known], context)
    return [replace(new, origin=old.origin) for new, old in zip(now, known, strict=True)]


KEY_LENGTH = 32  # of 64 hexadecimal digits: still far more than any grid needs
