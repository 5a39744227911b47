"""Fair settings: a learning rate for each pair and method, chosen once on validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from reprogram.data.noise import CLEAN
from reprogram.experiments.cell import Cell
from reprogram.experiments.grid import RATE_FIELDS, scaled
from reprogram.methods import get_method
from reprogram.settings import Settings

__all__ = ["FACTORS", "chosen_rates", "tuning_cells"]

FACTORS = (1.0, 3.0, 10.0)


def tuning_cells(cells: Iterable[Cell]) -> list[Cell]:
    """For each pair and method of a grid, its first trial at 100% with each factor.

    A method that trains nothing has nothing to choose; a control by steps takes its method's rate.
    """
    first: dict[tuple[str, str, str], Cell] = {}
    for cell in cells:
        place = (cell.source, cell.target, cell.method)
        control = cell.settings is not None and cell.settings.steps is not None
        if control or not get_method(cell.method).is_trained:
            continue
        if place not in first or _trial(cell) < _trial(first[place]):
            first[place] = cell
    result = []
    for cell in first.values():
        base = _published_rates(cell)
        clean = replace(cell, data_fraction=1.0, noise=CLEAN, test_pool=None, track_test=False)
        result += [replace(clean, settings=scaled(base, factor)) for factor in FACTORS]
    return list(dict.fromkeys(result))


def _trial(cell: Cell) -> tuple[int, int]:
    return cell.seed, cell.source_seed or 0


def _published_rates(cell: Cell) -> Settings:
    """A cell's settings with the rates that its method was published with."""
    published = get_method(cell.method).settings
    rates = {name: getattr(published, name) for name in RATE_FIELDS}
    return (cell.settings or published).updated(rates)


def chosen_rates(cells: Sequence[Cell], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The document of rates.json, from the rows of tuning cells.

    Returns:
        "rates" of every pair and method with a finished row, in "broken" of which the factors that
        gave none, with the reason; "not_chosen", the pairs and methods without a finished row.
    """
    tried: dict[tuple[str, str, str], dict[float, dict[str, Any]]] = {}
    for cell, row in zip(cells, rows, strict=True):
        published = get_method(cell.method).settings
        assert cell.settings is not None
        factor = float(f"{cell.settings.lr / published.lr:.6g}")
        tried.setdefault((cell.source, cell.target, cell.method), {})[factor] = row
    chosen, not_chosen = [], []
    for (source, target, method), found in sorted(tried.items()):
        place = {"source": source, "target": target, "method": method}
        done = {f: row for f, row in found.items() if row.get("val_accuracy") is not None}
        if done:
            chosen.append(place | _choice(done) | _broken(found))
        else:
            not_chosen.append(place | {"reason": _reason(next(iter(found.values())))})
    return {"rule": _rule(cells), "rates": chosen} | (
        {"not_chosen": not_chosen} if not_chosen else {}
    )


def _rule(cells: Iterable[Cell]) -> str:
    """How rates were chosen, in a sentence."""
    factors = _either(f"{factor:g}" for factor in FACTORS)
    seeds = _either(map(str, sorted({cell.seed for cell in cells})))
    return (
        f"all published rates of a method times {factors}: the highest validation accuracy at 100% "
        f"of the training images, seed {seeds}; ties: the smallest. No test image is looked at."
    )


def _either(words: Iterable[str]) -> str:
    """Alternatives in a sentence.

    >>> _either("abc"), _either("a")
    ('a, b or c', 'a')
    """
    texts = list(words)
    return " or ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def _choice(done: dict[float, dict[str, Any]]) -> dict[str, Any]:
    """The best of the finished rows by factor."""
    accuracy = {f: done[f]["val_accuracy"] for f in sorted(done)}
    best = min(accuracy, key=lambda f: (-accuracy[f], f))
    settings = done[best]["settings"]
    return {
        "factor": best,
        "rates": {k: settings[k] for k in RATE_FIELDS if settings[k] is not None},
        "val_accuracy": {f"{f:g}": v for f, v in accuracy.items()},
        "n_val": done[best]["n_val"],
    }


def _broken(found: dict[float, dict[str, Any]]) -> dict[str, Any]:
    broken = {f"{f:g}": _reason(r) for f, r in sorted(found.items()) if r["status"] != "done"}
    return {"broken": broken} if broken else {}


def _reason(row: dict[str, Any]) -> str:
    return row.get("reason") or row.get("error") or "no validation images to choose on"
