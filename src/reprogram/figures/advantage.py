"""The advantage map as a picture: a field a target and size, in the colour of who wins it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprogram.figures.style import GRID, INK, MUTED, method_style, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Field", "advantage_picture"]

_LETTERS = 16  # of a name at the usual size; longer ones are set smaller


@dataclass(frozen=True)
class Field:
    """Who wins a field.

    Attributes:
        kind: "resolved", "unresolved", "single", "only" or "empty".
        methods: Who may be the best, the one with the highest mean first.
        text: By how much.
    """

    kind: str
    methods: tuple[str, ...] = ()
    text: str = ""


def advantage_picture(
    maps: Mapping[str, Sequence[Sequence[Field]]], rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Draw maps above each other, a title each; what is not resolved is hatched and names nobody.

    Args:
        maps: For each title the fields, row by row.
        rows: What the rows are called.
        columns: What the columns are called.
    """
    letters = max((len(line) for row in rows for line in row.split("\n")), default=0)
    left, field, tall = 0.2 + 0.078 * letters, 0.98, 0.46  # inches
    titles = max((len(title) for title in maps), default=0)
    width = max(left + field * len(columns) + 0.1, 0.3 + 0.105 * titles)
    height = tall * len(rows) + 0.65
    with styled():
        figure = new_figure(width, height * len(maps))
        figure.set_layout_engine(None)  # every place is known
        whole = height * len(maps)
        for number, (title, fields) in enumerate(maps.items()):
            bottom = whole - height * (number + 1) + 0.3
            place = (left / width, bottom / whole, field * len(columns) / width)
            axes = figure.add_axes((*place, tall * len(rows) / whole))
            _draw(axes, fields, rows, columns)
            top = (bottom + tall * len(rows) + 0.08) / whole
            figure.text(0.1 / width, top, title, fontsize=10, fontweight="bold", va="bottom")
    return figure


def _draw(
    axes: Axes, fields: Sequence[Sequence[Field]], rows: Sequence[str], columns: Sequence[str]
) -> None:
    """One map."""
    for y, line in enumerate(fields):
        for x, field in enumerate(line):
            _draw_field(axes, x, y, field)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_field(axes: Axes, x: int, y: int, field: Field) -> None:
    """A field: full for a resolved winner, hatched for several, dashed where nothing is tested."""
    from matplotlib.patches import Rectangle

    place, size = (x - 0.47, y - 0.44), (0.94, 0.88)
    best = field.methods[0] if field.methods else ""
    colour = method_style(best).colour if best else GRID
    if field.kind == "unresolved":
        axes.add_patch(Rectangle(place, *size, fc="none", ec=GRID, hatch="////", lw=0.8))
        words, text = "not resolved", f"{len(field.methods)} methods"
    elif field.kind == "empty":
        axes.add_patch(Rectangle(place, *size, fc="none", ec=GRID, lw=0.8))
        words, text = "–", ""
    else:
        tested = field.kind == "resolved"
        dash = "-" if tested else (0, (3, 2))
        axes.add_patch(Rectangle(place, *size, fc=colour, alpha=0.22 if tested else 0.0, lw=0))
        axes.add_patch(Rectangle(place, *size, fc="none", ec=colour, lw=1.2, ls=dash))
        words, text = best, field.text
    small = min(1.0, _LETTERS / max(1, len(words)))
    ink = INK if field.methods and field.kind != "unresolved" else MUTED
    above = -0.13 if text else 0.0
    axes.text(x, y + above, words, ha="center", va="center", fontsize=7.5 * small, color=ink)
    axes.text(x, y + 0.19, text, ha="center", va="center", fontsize=6.5, color=MUTED)
