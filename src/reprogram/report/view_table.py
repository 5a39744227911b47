"""The report's table as the page's template shows it, and what a click on a cell opens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reprogram.figures import method_style
from reprogram.figures.curves import count_text
from reprogram.figures.style import INK, MUTED
from reprogram.report.panels import Panel, Row
from reprogram.report.sentence import percent
from reprogram.report.tables import bytes_text, methods_of, one_size

__all__ = ["closed", "css_colour", "tables"]

_ABSENT = {"missing": "not run", "failed": "failed", "skipped": "skipped"}


def css_colour(method: str) -> str:
    """A method's colour for the page, whose ink is dark or light as the reader's screen is."""
    colour = method_style(method).colour
    return {INK: "var(--ink)", MUTED: "var(--muted)"}.get(colour, colour)


def tables(clean: Sequence[Panel], rows: Sequence[Row]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The report's table for each pair, and for each of its cells what a click shows."""
    index = {id(row): i for i, row in enumerate(rows)}
    cells: list[dict[str, Any]] = []
    if one_size(clean):
        return [_pair_table(clean, index, cells)], cells
    built = []
    for panel in clean:
        heads = [{"name": "method", "sub": ""}]
        for fraction in panel.fractions:
            count = panel.per_class.get(fraction)
            sub = f"{count_text(count)} a class" if count else ""
            heads.append({"name": f"{100 * fraction:g}%", "sub": sub})
        heads += [{"name": "trained", "sub": "parameters"}, {"name": "stored", "sub": ""}]
        best = {f: _best_mean(panel, f) for f in panel.fractions}
        lines = []
        for method in panel.methods:
            line = [_table_cell(panel, method, f, best[f], index, cells) for f in panel.fractions]
            trained = panel.cost(method, "trainable_parameters")
            stored = panel.cost(method, "stored_bytes")
            plain = [
                {"text": "–" if trained is None else f"{trained:,.0f}", "value": _value(trained)},
                {"text": "–" if stored is None else bytes_text(stored), "value": _value(stored)},
            ]
            colour = css_colour(method)
            lines.append({"name": method, "colour": colour, "cells": line, "plain": plain})
        built.append({"title": panel.title, "heads": heads, "rows": lines})
    return built, cells


def _pair_table(
    clean: Sequence[Panel], index: Mapping[int, int], cells: list[dict[str, Any]]
) -> dict[str, Any]:
    """Many pairs at one size: a line a pair, a column a method."""
    heads = [{"name": "source → target", "sub": ""}]
    methods = methods_of(clean)
    heads += [{"name": method, "sub": ""} for method in methods]
    lines = []
    for panel in clean:
        fraction = panel.fractions[0]
        best = _best_mean(panel, fraction)
        line = [_table_cell(panel, m, fraction, best, index, cells) for m in methods]
        lines.append({"name": panel.pair, "colour": "", "cells": line, "plain": []})
    size = f"{100 * clean[0].fractions[0]:g}% of the training images"
    return {"title": f"Every pair, {size}", "heads": heads, "rows": lines}


def closed(built: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same tables with cells that open nothing."""
    return [
        {
            **table,
            "rows": [
                {**row, "cells": [{**cell, "id": None} for cell in row["cells"]]}
                for row in table["rows"]
            ],
        }
        for table in built
    ]


def _value(number: float | None) -> str:
    """A number for sorting, nothing for nothing."""
    return "" if number is None else f"{number:.10g}"


def _best_mean(panel: Panel, fraction: float) -> float:
    """The highest mean of a column."""
    found = [panel.entry(method, fraction).summary for method in panel.methods]
    return max((s.mean for s in found if s is not None), default=math.inf)


def _table_cell(
    panel: Panel,
    method: str,
    fraction: float,
    best: float,
    index: Mapping[int, int],
    cells: list[dict[str, Any]],
) -> dict[str, Any]:
    """One cell; its runs are appended to ``cells`` for the page's script."""
    entry = panel.entry(method, fraction)
    if not entry.rows:
        return {"id": None, "absent": True, "value": "", "text": _ABSENT["missing"], "small": ""}
    s = entry.summary
    half = "" if s is None or s.half_width is None else f" ± {100 * s.half_width:.1f}"
    note = f"{panel.title}. "
    note += f"n = {s.n}, mean {percent(s)}." if s else "No run has finished."
    place = f"{method}, {100 * fraction:g}% of the training images"
    cells.append({"title": place, "note": note, "runs": [index[id(row)] for row in entry.rows]})
    return {
        "id": len(cells) - 1,
        "absent": s is None,
        "value": _value(s.mean if s else None),
        "text": f"{100 * s.mean:.1f}{half}" if s else _ABSENT[entry.status],
        "small": f"n = {s.n}" if s else "",
        "best": s is not None and s.mean == best,
    }
