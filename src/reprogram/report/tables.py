"""The report's table, methods down and data sizes across, as text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from reprogram.markdown import markdown_lines
from reprogram.report.panels import CONTROL, Panel, Row, check_rows, noise_of

__all__ = ["bytes_text", "cell_text", "counts_text", "csv_text", "markdown_table", "methods_of"]
__all__ += ["one_size", "pair_lines", "rows_csv", "table_csv", "tex_lines", "tex_table", "tex_text"]
__all__ += ["text_table"]

_WIDTH = 80
_ABSENT = {"missing": "-", "failed": "fail", "skipped": "skip"}
_FIRST_COLUMNS = ["source", "target", "method", "data_fraction", "noise", "seed", "status"]
_FIRST_COLUMNS += ["accuracy", "n_train", "n_val", "n_test"]
_COSTS = ["n_train", "trainable_parameters", "stored_bytes"]
_NESTED = ("history",)  # a curve is no cell of a table


def bytes_text(size: float | None) -> str:
    """A size in two digits with its unit.

    >>> bytes_text(61_234), bytes_text(1_400), bytes_text(640_000), bytes_text(None)
    ('61 kB', '1.4 kB', '0.6 MB', '-')
    """
    if size is None:
        return "-"
    unit, name = (1e6, "MB") if size >= 99_500 else (1e3, "kB")
    if size < 1_000:
        return f"{size:.0f} B"
    value = size / unit
    return f"{value:.1f} {name}" if value < 9.95 else f"{value:,.0f} {name}"


def counts_text(panel: Panel) -> str:
    """``n = 3``, or ``n = 1 to 3`` where cells differ."""
    low, high = panel.counts
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def cell_text(panel: Panel, method: str, fraction: float) -> str:
    """One cell in a line: mean, interval and, where cells differ in it, n."""
    entry = panel.entry(method, fraction)
    summary = entry.summary
    if summary is None:
        return _ABSENT[entry.status]
    half = "" if summary.half_width is None else f" ± {100 * summary.half_width:.1f}"
    low, high = panel.counts
    n = f" (n = {summary.n})" if low != high else ""
    return f"{100 * summary.mean:.1f}{half}{n}"


def text_table(panel: Panel, *, width: int = _WIDTH) -> str:
    """The table as plain text, at most ``width`` columns wide, intervals beneath their means.

    Columns that do not fit follow in a second block, the method names repeated.
    """
    heads, body = _text_cells(panel)
    names = [method if len(method) <= 32 else method[:31] + "…" for method in panel.methods]
    corner = f"test accuracy %, {counts_text(panel)}"
    left = max(len(corner), *(len(name) for name in names), 1)
    widths = [max(len(x) for x in [head, *_column(body, c)]) for c, head in enumerate(heads)]
    sizes = len(panel.fractions)
    widths[:sizes] = [max(widths[:sizes], default=0)] * sizes
    blocks: list[list[int]] = [[]]
    room = width - left - 2
    for column, wide in enumerate(widths):
        if blocks[-1] and room < wide + 2:
            blocks.append([])
            room = width - left - 2
        blocks[-1].append(column)
        room -= wide + 2
    text = []
    for columns in blocks:
        spans = [widths[c] + 2 for c in columns]
        if width - left - 2 - sum(spans) >= len(spans):
            spans = [span + 1 for span in spans]
        text.append(f"  {corner:<{left}}" + _right([heads[c] for c in columns], spans))
        for name, lines in zip(names, body, strict=True):
            for i, line in enumerate(lines):
                row = f"  {name if i == 0 else '':<{left}}" + _right(
                    [line[c] for c in columns], spans
                )
                text += [row.rstrip()] if row.strip() else []
        text.append("")
    return "\n".join(text[:-1]) + _footnote(panel)


def _column(body: list[list[list[str]]], column: int) -> list[str]:
    """All cells beneath a heading."""
    return [line[column] for lines in body for line in lines]


def _text_cells(panel: Panel) -> tuple[list[str], list[list[list[str]]]]:
    """Headings, and for each method one to three lines of cells: means, intervals, counts."""
    heads = [f"{100 * fraction:g}%" for fraction in panel.fractions] + ["trained", "stored"]
    low, high = panel.counts
    body = []
    for method in panel.methods:
        entries = [panel.entry(method, fraction) for fraction in panel.fractions]
        summaries = [entry.summary for entry in entries]
        means = [
            f"{100 * s.mean:.1f}" if s else _ABSENT[e.status]
            for s, e in zip(summaries, entries, strict=True)
        ]
        trained = panel.cost(method, "trainable_parameters")
        stored = bytes_text(panel.cost(method, "stored_bytes"))
        lines = [[*means, "-" if trained is None else f"{trained:,.0f}", stored]]
        halves = [
            "" if s is None or s.half_width is None else f"±{100 * s.half_width:.1f}"
            for s in summaries
        ]
        if any(halves):
            lines.append([*halves, "", ""])
        if low != high:
            lines.append([*("" if s is None else f"n={s.n}" for s in summaries), "", ""])
        body.append(lines)
    return heads, body


def _right(cells: Sequence[str], spans: Sequence[int]) -> str:
    """Cells set flush right."""
    return "".join(f"{cell:>{span}}" for cell, span in zip(cells, spans, strict=True))


def _footnote(panel: Panel) -> str:
    """What a dash stands for, where there is one."""
    cells = [panel.entry(m, f).status for m in panel.methods for f in panel.fractions]
    missing = cells.count("missing")
    noun = "cell has" if missing == 1 else "cells have"
    return f"\n  -  {missing} {noun} no run" if missing else ""


def markdown_table(panel: Panel) -> str:
    """The table in Markdown."""
    return markdown_lines(_heads(panel), _line_cells(panel))


def tex_table(panel: Panel) -> str:
    """The table as a LaTeX ``tabular`` that needs no package."""
    return tex_lines(_heads(panel), _line_cells(panel))


def pair_lines(panels: Sequence[Panel]) -> tuple[list[str], list[list[str]]]:
    """Many pairs that were run at one size: a line a pair, a column a method."""
    methods = methods_of(panels)
    lines = [[p.pair, *(cell_text(p, m, p.fractions[0]) for m in methods)] for p in panels]
    return ["source → target", *methods], lines


def methods_of(panels: Sequence[Panel]) -> list[str]:
    """The methods of any of the panels, in the order of the panel with the most."""
    longest = max(panels, key=lambda panel: len(panel.methods))
    return list(dict.fromkeys(m for panel in [longest, *panels] for m in panel.methods))


def one_size(panels: Sequence[Panel]) -> bool:
    """Whether there are several pairs, all at one and the same size: they share a table."""
    sizes = {fraction for panel in panels for fraction in panel.fractions}
    return len(panels) > 1 and len(sizes) == 1


def tex_lines(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of texts as a LaTeX ``tabular``, the first column set left."""
    body = [" & ".join(tex_text(cell) for cell in line) + r" \\" for line in [heads, *lines]]
    columns = "l" + "r" * (len(heads) - 1)
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline", *body[1:]]
    return "\n".join([*parts, r"\hline", r"\end{tabular}"])


def tex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    special = {c: "\\" + c for c in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"±": r"$\pm$", "→": r"$\rightarrow$", "<": r"\textless{}", ">": r"\textgreater{}"}
    special |= {"−": "$-$", "–": "--", "\u00a0": "~", "\n": " / "}
    return "".join(special.get(letter, letter) for letter in text)


def _heads(panel: Panel) -> list[str]:
    """Method, the data sizes, and what each method trains and stores."""
    return ["method", *(f"{100 * f:g}%" for f in panel.fractions), "trained", "stored"]


def _line_cells(panel: Panel) -> Iterable[list[str]]:
    """For each method its cells, each on one line."""
    for method in panel.methods:
        trained = panel.cost(method, "trainable_parameters")
        yield [
            method,
            *(cell_text(panel, method, fraction) for fraction in panel.fractions),
            "-" if trained is None else f"{trained:,.0f}",
            bytes_text(panel.cost(method, "stored_bytes")),
        ]


def table_csv(panels: Sequence[Panel]) -> str:
    """Every cell with n, mean and interval; no times; sorted: equal results are equal files.

    The pool has a column where a pair was run on several.
    """
    heads = ["source", "target", "noise", "method", "data_fraction", "status", "n", "mean"]
    heads += ["half_width", *_COSTS]
    pools = any(panel.pool for panel in panels)
    lines: list[list[str]] = []
    for panel in panels:
        cells = {(m, f): panel.entry(m, f) for m in panel.methods for f in panel.fractions}
        cells |= {(m + CONTROL, f): entry for (m, f), entry in panel.controls.items()}
        for (method, fraction), entry in sorted(cells.items(), key=lambda item: item[0]):
            s = entry.summary
            numbers = [str(s.n if s else 0), f"{s.mean:.6f}" if s else ""]
            half = f"{s.half_width:.6f}" if s and s.half_width is not None else ""
            costs = [entry.typical(key) for key in _COSTS]
            place = [panel.source, panel.target, str(panel.noise), method, f"{fraction:g}"]
            written = ["" if cost is None else f"{cost:.0f}" for cost in costs]
            lines.append([*place, entry.status, *numbers, half, *written])
            lines[-1] += [panel.pool] if pools else []
    return csv_text([[*heads, *(["train_pool"] if pools else [])], *lines])


def rows_csv(rows: Sequence[Row]) -> str:
    """Every row, sorted: the fields that everybody asks for first, the others by name."""
    rows = check_rows(rows)
    found = {key for row in rows for key in row if key not in _NESTED}
    heads = [*_FIRST_COLUMNS, *sorted(found - set(_FIRST_COLUMNS))]
    lines = [[str(noise_of(r)) if h == "noise" else _plain(r.get(h)) for h in heads] for r in rows]
    return csv_text([heads, *lines])


def _plain(value: Any) -> str:
    """A value as CSV text: nothing for None, JSON for what has parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, default=str)


def csv_text(lines: Iterable[Sequence[str]]) -> str:
    """Lines of cells as CSV with plain line feeds, the same on every system."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
