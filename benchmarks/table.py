"""The table on the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from benchmarks.registry import Row

__all__ = ["line", "table"]


def line(row: Row, entry: dict[str, Any]) -> tuple[str, ...]:
    """Cells of one row: both sides, ratio, goal and whether it is reached."""
    unit, goal = entry["unit"], row.goal
    sign = ">=" if row.better == "higher" else "<="
    reached = row.reached(entry["ratio"])
    return (
        entry["name"],
        row.what,
        f"{number(entry['peer_value'])} {unit}",
        f"{number(entry['our_value'])} {unit}",
        f"{number(entry['ratio'])}x",
        "" if goal is None else f"{sign} {goal:g}x",
        {True: "pass", False: "miss", None: ""}[reached],
        str(entry["n"]),
    )


def table(rows: dict[str, Row], entries: list[dict[str, Any]]) -> Table:
    """All measured rows."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("row", "what", "peer", "reprogram", "ratio", "goal", "", "n"):
        numeric = column in ("peer", "reprogram", "ratio", "goal", "n")
        result.add_column(column, justify="right" if numeric else "left")
    for entry in entries:
        result.add_row(*line(rows[entry["name"]], entry))
    return result


def number(value: float) -> str:
    """Three digits.

    >>> number(3.14159), number(123.456), number(0.01234)
    ('3.14', '123', '0.0123')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
