"""Predicted against trained accuracy: a point a pair, colours for sources, markers for targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprogram.errors import InputError
from reprogram.figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PredictedPair", "prediction_scatter"]

_COLOURS = (VERMILLION, BLUE, GREEN, ORANGE, PURPLE, SKY, INK, MUTED)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")


@dataclass(frozen=True)
class PredictedPair:
    """A source and a target with predicted and trained accuracy, in [0, 1]."""

    source: str
    target: str
    predicted: float
    trained: float


def prediction_scatter(
    panels: Mapping[str, Sequence[PredictedPair]],
    *,
    errors: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Draw one square panel a predictor, with the line on which predictions are right.

    Args:
        panels: The pairs by the name of what predicted them.
        errors: Half the width, in [0, 1], of the band drawn around a panel's line.
        title: Above all panels.

    Raises:
        InputError: There is nothing to draw.
    """
    if not panels or not all(panels.values()):
        raise InputError("nothing to draw: give at least one pair for every panel.")
    pairs = [pair for points in panels.values() for pair in points]
    colours = _assigned([p.source for p in pairs], _COLOURS)
    markers = _assigned([p.target for p in pairs], _MARKERS)
    with styled():
        figure = new_figure(3.2 * len(panels) + 0.4, 4.6)
        row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, points) in zip(row, panels.items(), strict=True):
            _draw_panel(axes, points, colours, markers, (errors or {}).get(name))
            axes.set_title(name, fontsize=8)
            axes.set_xlabel("predicted accuracy, %")
        row[0].set_ylabel("accuracy after training, %")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        _legend(figure, colours, markers)
    return figure


def _draw_panel(
    axes: Axes,
    points: Sequence[PredictedPair],
    colours: Mapping[str, str],
    markers: Mapping[str, str],
    error: float | None,
) -> None:
    axes.grid()
    axes.plot([0, 100], [0, 100], color=MUTED, lw=1.0, ls=(0, (4, 2)), zorder=1)
    if error is not None:
        axes.fill_between(
            [0, 100], [-100 * error, 100 - 100 * error], [100 * error, 100 + 100 * error],
            color=MUTED, alpha=0.12, lw=0, zorder=0,
        )  # fmt: skip
    for pair in points:
        axes.plot(
            100 * pair.predicted, 100 * pair.trained, ls="", ms=6, marker=markers[pair.target],
            color=colours[pair.source], markeredgecolor=PAPER, markeredgewidth=0.5,
        )  # fmt: skip
    axes.set_xlim(-3, 103)  # so that no point at 0 or 100 % is cut
    axes.set_ylim(-3, 103)
    axes.set_aspect("equal")


def _legend(figure: Figure, colours: Mapping[str, str], markers: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", marker="o", color=colour, label=name)
        for name, colour in colours.items()
    ]
    handles += [
        Line2D([], [], ls="", marker=marker, color=MUTED, label=name)
        for name, marker in markers.items()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", frameon=False, ncols=4, fontsize=7.5,
        handletextpad=0.3,
    )  # fmt: skip


def _assigned(names: Sequence[str], looks: Sequence[str]) -> dict[str, str]:
    """A look for every name, in the names' order; they repeat where there are more names."""
    return {name: looks[i % len(looks)] for i, name in enumerate(dict.fromkeys(names))}
