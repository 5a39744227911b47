"""The advantage map as the page's template shows it: words and colours for every field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reprogram.figures.curves import count_text
from reprogram.report.advantage import BUDGETS, Budget, Verdict, advantage
from reprogram.report.panels import Panel
from reprogram.report.sentence import listed, percent, points
from reprogram.report.tables import bytes_text
from reprogram.report.view_table import css_colour

__all__ = ["budget_index", "costs", "map_heads", "maps", "takeaway"]


def map_heads(clean: Sequence[Panel]) -> list[str]:
    """The data sizes, as columns of the map."""
    fractions = clean[0].fractions if clean else ()
    return [f"{100 * fraction:g}%" for fraction in fractions]


def costs(choices: Sequence[Budget]) -> list[tuple[str, str]]:
    """The kinds of budget that there is a choice in."""
    present = {budget.cost for budget in choices}
    return [(cost, name) for cost, name in BUDGETS.items() if cost in present]


def budget_index(choices: Sequence[Budget]) -> dict[str, list[dict[str, str]]]:
    """For each kind of budget its limits and the table that answers each."""
    index: dict[str, list[dict[str, str]]] = {}
    for place, budget in enumerate(choices):
        if budget.cost:
            entry = {"label": _limit_text(budget), "map": f"map-{place}"}
            index.setdefault(budget.cost, []).append(entry)
    return index


def takeaway(clean: Sequence[Panel], choices: Sequence[Budget]) -> str:
    """Who wins how many fields of the map, without a limit and with the largest that bites."""
    fields = sum(len(panel.fractions) for panel in clean)
    limited = [budget for budget in choices if budget.cost == "trainable_parameters"][-1:]
    sentences = []
    for budget in [Budget(), *limited]:
        verdicts = [advantage(p, f, budget) for p in clean for f in p.fractions]
        wins: dict[str, int] = {}
        for verdict in verdicts:
            if verdict.kind in ("resolved", "single"):
                wins[verdict.candidates[0]] = wins.get(verdict.candidates[0], 0) + 1
        ranked = sorted(wins, key=lambda method: (-wins[method], method))
        leads = [f"{method} in {wins[method]}" for method in ranked]
        parts = []
        if leads:
            leads[0] = f"{ranked[0]} is ahead in {wins[ranked[0]]} of {fields} fields"
            parts = [listed(leads)]
        if undecided := sum(verdict.kind == "unresolved" for verdict in verdicts):
            count = f"{undecided} {'is' if undecided == 1 else 'are'}"
            parts.append(
                f"{count} not resolved" if leads else f"{undecided} of {fields} are not resolved"
            )
        if parts:
            sentences.append(f"With {_limit_text(budget)}, {'; '.join(parts)}.")
    return " ".join(sentences)


def maps(clean: Sequence[Panel], choices: Sequence[Budget]) -> list[dict[str, Any]]:
    """One table a budget: targets down, data sizes across, who wins in each field."""
    return [
        {
            "id": f"map-{place}",
            "label": f"Advantage map, {_limit_text(budget)}",
            "rows": [
                {
                    "target": panel.target,
                    "source": panel.source,
                    "cells": [
                        _map_cell(panel, f, advantage(panel, f, budget)) for f in panel.fractions
                    ],
                }
                for panel in clean
            ],
        }
        for place, budget in enumerate(choices)
    ]


def _limit_text(budget: Budget) -> str:
    """A budget in words."""
    if not budget.cost:
        return "no limit"
    if budget.cost == "stored_bytes":
        return f"at most {bytes_text(budget.limit)} stored"
    if budget.cost == "seconds":
        return f"at most {budget.limit:,.3g} s of training"
    return f"at most {budget.limit:,.0f} trained parameters"


def _map_cell(panel: Panel, fraction: float, verdict: Verdict) -> dict[str, Any]:
    """One field of the map in words and colours."""
    count = panel.per_class.get(fraction)
    size = f"{count_text(count)} a class" if count else ""
    if verdict.summary is None:
        nothing = {"kind": "empty", "colour": "var(--muted)", "second": "var(--muted)"}
        return nothing | {"head": "nothing fits", "lines": [size] if size else []}
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
