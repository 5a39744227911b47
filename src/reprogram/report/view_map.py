"""The advantage map: as the page's template shows it, as a picture, in words and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprogram.figures import inline_svg
from reprogram.figures.advantage import Field, advantage_picture
from reprogram.figures.curves import count_text
from reprogram.report.advantage import BUDGETS, Budget, printed, verdicts
from reprogram.report.panels import Panel
from reprogram.report.robustness import NoiseGroup, noise_groups
from reprogram.report.section import TextTable
from reprogram.report.sentence import percent, points, runs_text
from reprogram.report.tables import csv_text, one_size
from reprogram.report.takeaway import limit_text
from reprogram.report.verdict import Verdict
from reprogram.report.view_noise import group_title, noise_kind
from reprogram.report.view_table import css_colour
from reprogram.statistics import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["View", "budget_index", "costs", "figures", "map_csv", "picture", "tables"]
__all__ += ["text_tables", "views"]


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


@dataclass(frozen=True)
class View:
    """A view before anybody has won: names of rows and columns, and the panel of each field."""

    label: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[tuple[Panel, float] | None]]]


def views(everything: Sequence[Panel]) -> list[View]:
    """What the map can show: clean data by pair and size, then each pair's noises by severity."""
    clean = [panel for panel in everything if panel.noise.kind == "clean"]
    found = [_clean_view(clean)] if clean else []
    return found + [_noise_view(group) for group in noise_groups(everything, every_size=True)]


def tables(shown: Sequence[View], choices: Sequence[Budget]) -> list[dict[str, Any]]:
    """Each view as the template shows it: one table a budget."""
    return [_view(place, view, choices) for place, view in enumerate(shown)]


def _clean_view(clean: Sequence[Panel]) -> View:
    """Pairs down, data sizes across; sources down and targets across where there is one size."""
    places = {(panel.source, panel.place): (panel, panel.fractions[0]) for panel in clean}
    sources, targets = (sorted({pair[i] for pair in places}) for i in (0, 1))
    if one_size(clean) and len(sources) > 1 and len(targets) > 1:
        size = f"source, {100 * clean[0].fractions[0]:g}%"
        grid = [(s, size, [places.get((s, t)) for t in targets]) for s in sources]
        return View("clean data", [(target, "target") for target in targets], grid)
    sizes = sorted({fraction for panel in clean for fraction in panel.fractions})
    heads = [(f"{100 * size:g}%", "of the images") for size in sizes]
    rows = [
        (p.place, f"from {p.source}", [(p, f) if f in p.fractions else None for f in sizes])
        for p in clean
    ]
    return View("clean data", heads, rows)


def _noise_view(group: NoiseGroup) -> View:
    """Kinds of noise down, severities across."""
    severities = sorted({noise.severity for noise in group.noisy})
    kinds = dict.fromkeys(noise_kind(noise) for noise in group.noisy)
    places = {
        (noise_kind(noise), noise.severity): (panel, group.fraction)
        for noise, panel in group.noisy.items()
    }
    rows = [(kind, group.split, [places.get((kind, s)) for s in severities]) for kind in kinds]
    return View(group_title(group), [(str(s), "severity") for s in severities], rows)


def _view(place: int, view: View, choices: Sequence[Budget]) -> dict[str, Any]:
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


def _runs(verdict: Verdict) -> str:
    """The n of the mean, and of the tests where they stand on fewer runs."""
    assert verdict.summary is not None
    text = f"n = {verdict.summary.n}"
    if set(verdict.runs) - {verdict.summary.n}:
        text += f", tests {runs_text(verdict.runs)}"
    return text.replace(" = ", "\u00a0=\u00a0")


def picture(view: View, choices: Sequence[Budget]) -> Figure:
    """A view under the printed budgets."""
    return _draw(view, printed(choices))


def figures(view: View, choices: Sequence[Budget]) -> list[dict[str, Any]]:
    """The same for the page, a figure a budget."""
    from markupsafe import Markup

    found = []
    for number, budget in enumerate(printed(choices)):
        label = f"Advantage map, {view.label}, {limit_text(budget)}: the table above has its words."
        svg = inline_svg(_draw(view, [budget]), label=label, prefix=f"advantage{number}")
        found.append({"svg": Markup(svg), "caption": ""})
    return found


def _draw(view: View, budgets: Sequence[Budget]) -> Figure:
    """The view under some budgets."""
    maps = {}
    for number, budget in enumerate(budgets):
        name = limit_text(budget)
        maps[f"{name[0].upper()}{name[1:]}"] = [
            [
                _field(verdicts(*place, budgets)[number]) if place else Field("empty")
                for place in row
            ]
            for _, _, row in view.rows
        ]
    names = [f"{name}\n{sub}" if sub else name for name, sub, _ in view.rows]
    heads = [name if "severity" not in sub else f"{sub} {name}" for name, sub in view.heads]
    return advantage_picture(maps, names, heads)


def _field(verdict: Verdict) -> Field:
    """A verdict as the picture shows it."""
    gap = verdict.against.difference if verdict.against else None
    return Field(verdict.kind, verdict.candidates, f"+{100 * gap.mean:.1f} points" if gap else "")


def text_tables(view: View, choices: Sequence[Budget]) -> list[TextTable]:
    """A view in words, a table for each of the printed budgets."""
    heads = [view.label, *(f"{name} {sub}" for name, sub in view.heads)]
    return [
        TextTable(
            f"Advantage map, {view.label}, {limit_text(budget)}",
            heads,
            [
                [f"{name} {sub}", *(_words(place, budget) for place in row)]
                for name, sub, row in view.rows
            ],
        )
        for budget in printed(choices)
    ]


def _words(place: tuple[Panel, float] | None, budget: Budget) -> str:
    """A field in a line."""
    if place is None:
        return "not run"
    cell = _map_cell(*place, verdicts(*place, [budget])[0])
    if cell["kind"] in ("empty", "unresolved"):
        return str(cell["head"])
    return f"{cell['head']} ({', '.join(cell['lines'][:2])})"


def map_csv(everything: Sequence[Panel], choices: Sequence[Budget]) -> str:
    """Every field of the map under every budget: who wins, by how much, and who may as well."""
    heads = ["source", "target", "train_pool", "noise", "data_fraction", "images_per_class"]
    heads += ["budget", "limit", "verdict", "best", "mean", "half_width", "runner_up", "difference"]
    heads += ["difference_half_width", "n", "candidates"]
    lines = []
    for panel in everything:
        for fraction in panel.fractions:
            count = panel.per_class.get(fraction)
            place = [panel.source, panel.target, panel.pool, str(panel.noise), f"{fraction:g}"]
            place.append("" if count is None else f"{count:g}")
            for budget, found in zip(choices, verdicts(panel, fraction, choices), strict=True):
                limit = f"{budget.limit:.0f}" if budget.cost else ""
                lines.append([*place, budget.cost, limit, *_csv_cells(found)])
    return csv_text([heads, *lines])


def _csv_cells(verdict: Verdict) -> list[str]:
    """Verdict, winner, mean, runner-up, difference, n and candidates of a field."""
    mean, against = verdict.summary, verdict.against
    best = verdict.candidates[0] if verdict.candidates else ""
    gap = against.difference if against else None
    return [
        verdict.kind,
        best,
        *_numbers(mean),
        against.other if against else "",
        *_numbers(gap),
        str(gap.n if gap else mean.n if mean else 0),
        " ".join(verdict.candidates),
    ]


def _numbers(summary: Summary | None) -> list[str]:
    """Mean and half width."""
    if summary is None:
        return ["", ""]
    half = "" if summary.half_width is None else f"{summary.half_width:.6f}"
    return [f"{summary.mean:.6f}", half]


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
    last = " · ".join(filter(None, [_runs(verdict), size]))
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
