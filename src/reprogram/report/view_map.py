"""The advantage map as the page's template shows it: words and colours for every field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprogram.figures.curves import count_text
from reprogram.report.advantage import BUDGETS, Budget, verdicts
from reprogram.report.panels import Panel
from reprogram.report.robustness import NoiseGroup, noise_groups
from reprogram.report.sentence import percent, points
from reprogram.report.tables import one_size
from reprogram.report.takeaway import limit_text
from reprogram.report.verdict import Verdict
from reprogram.report.view_noise import group_title, noise_kind
from reprogram.report.view_table import css_colour

__all__ = ["budget_index", "costs", "views"]


def costs(choices: Sequence[Budget]) -> list[tuple[str, str]]:
    """The kinds of budget that there is a choice in."""
    present = {budget.cost for budget in choices}
    return [(cost, name) for cost, name in BUDGETS.items() if cost in present]


def budget_index(choices: Sequence[Budget]) -> dict[str, list[dict[str, Any]]]:
    """For each kind of budget its limits and the table that answers each."""
    index: dict[str, list[dict[str, Any]]] = {}
    for place, budget in enumerate(choices):
        if budget.cost:
            entry = {"label": limit_text(budget), "map": place}
            index.setdefault(budget.cost, []).append(entry)
    return index


def views(everything: Sequence[Panel], choices: Sequence[Budget]) -> list[dict[str, Any]]:
    """What the map can show: clean data by pair and size, then each pair's noises by severity.

    Each view holds one table a budget.
    """
    clean = [panel for panel in everything if panel.noise.kind == "clean"]
    found = [_clean_view(clean)] if clean else []
    sized = noise_groups(everything, every_size=True)
    found += [_noise_view(group) for group in sized]
    return [_view(place, view, choices) for place, view in enumerate(found)]


@dataclass(frozen=True)
class _View:
    """A view before anybody has won: names of rows and columns, and the panel of each field."""

    label: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[tuple[Panel, float] | None]]]


def _clean_view(clean: Sequence[Panel]) -> _View:
    """Pairs down, data sizes across; sources down and targets across where there is one size."""
    places = {(panel.source, panel.target): (panel, panel.fractions[0]) for panel in clean}
    sources, targets = (sorted({pair[i] for pair in places}) for i in (0, 1))
    if one_size(clean) and len(sources) > 1 and len(targets) > 1:
        size = f"source, {100 * clean[0].fractions[0]:g}%"
        grid = [(s, size, [places.get((s, t)) for t in targets]) for s in sources]
        return _View("clean data", [(target, "target") for target in targets], grid)
    heads = [(f"{100 * fraction:g}%", "of the images") for fraction in clean[0].fractions]
    rows = [(p.target, f"from {p.source}", [(p, f) for f in p.fractions]) for p in clean]
    return _View("clean data", heads, rows)


def _noise_view(group: NoiseGroup) -> _View:
    """Kinds of noise down, severities across."""
    severities = sorted({noise.severity for noise in group.noisy})
    kinds = dict.fromkeys(noise_kind(noise) for noise in group.noisy)
    places = {
        (noise_kind(noise), noise.severity): (panel, group.fraction)
        for noise, panel in group.noisy.items()
    }
    rows = [(kind, group.split, [places.get((kind, s)) for s in severities]) for kind in kinds]
    return _View(group_title(group), [(str(s), "severity") for s in severities], rows)


def _view(place: int, view: _View, choices: Sequence[Budget]) -> dict[str, Any]:
    """One table a budget."""
    fields = [
        [(field, verdicts(*field, choices)) if field else None for field in row[2]]
        for row in view.rows
    ]
    maps = [
        {
            "id": f"map-{place}-{number}",
            "label": f"Advantage map, {view.label}, {limit_text(budget)}",
            "rows": [
                {
                    "name": name,
                    "sub": sub,
                    "cells": [
                        _map_cell(*cell[0], cell[1][number]) if cell else _absent("not run")
                        for cell in cells
                    ],
                }
                for (name, sub, _), cells in zip(view.rows, fields, strict=True)
            ],
        }
        for number, budget in enumerate(choices)
    ]
    return {"label": view.label, "heads": view.heads, "maps": maps}


def _absent(words: str, line: str = "") -> dict[str, Any]:
    """A field without a winner."""
    nothing = {"kind": "empty", "colour": "var(--muted)", "second": "var(--muted)"}
    return nothing | {"head": words, "lines": [line] if line else []}


def _map_cell(panel: Panel, fraction: float, verdict: Verdict) -> dict[str, Any]:
    """One field of the map in words and colours."""
    count = panel.per_class.get(fraction)
    size = f"{count_text(count)} a class" if count and panel.noise.kind == "clean" else ""
    if verdict.summary is None:
        run = any(panel.entry(method, fraction).done for method in panel.methods)
        return _absent("nothing fits" if run else "not run", size)
    best, rest = verdict.candidates[0], verdict.candidates[1:]
    second = css_colour(rest[0]) if rest else css_colour(best)
    cell = {"kind": verdict.kind, "colour": css_colour(best), "second": second}
    last = " · ".join(filter(None, [f"n\u00a0=\u00a0{verdict.summary.n}", size]))
    if verdict.kind == "unresolved":
        shown = " · ".join(verdict.candidates[:3]) + (" · …" if len(verdict.candidates) > 3 else "")
        lines = [shown, f"best {percent(verdict.summary)}", last]
        return cell | {"head": "not resolved", "lines": lines}
    lines = [percent(verdict.summary)]
    if verdict.against is not None and verdict.against.difference is not None:
        gap = points(verdict.against.difference).removesuffix(" points")
        lines.append(f"+{gap} over {verdict.against.other}")
    elif verdict.kind == "only":
        lines.append("alone within the budget")
    return cell | {"head": best, "lines": [*lines, last]}
