"""Accuracy and spectrum against the depth of the source, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reprogram.errors import InputError
from reprogram.figures.curves import Point
from reprogram.figures.style import BLUE, GREEN, PAPER, PURPLE, VERMILLION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["depth_picture"]

Panel = Mapping[str, Sequence[Point]]
_COLOURS = (VERMILLION, BLUE, GREEN, PURPLE)
_TARGETS: tuple[tuple[Any, str], ...] = (("-", "o"), ((0, (4, 1.5)), "s"), ((0, (1, 1.2)), "^"))


def depth_picture(
    rows: Mapping[str, Mapping[str, Panel]],
    *,
    percent: Sequence[str] = (),
    logarithmic: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Draw a row of panels for each kind of source, a panel a quantity, a line a method.

    Args:
        rows: By the row's name and the panel's title: lines by name, x the depth. A name is a method,
            which gives the colour, a space, and a target, which gives dash and marker.
        percent: Titles whose values are in [0, 1] and are drawn in per cent.
        logarithmic: Titles whose axis is; means of 0 lie beneath it.
        title: Above all.

    Raises:
        InputError: There is nothing to draw.
    """
    if not rows or not all(rows.values()):
        raise InputError("nothing to draw: give at least one panel.")
    columns = list(next(iter(rows.values())))
    with styled():
        figure = new_figure(3.0 * len(columns), 2.5 * len(rows) + 0.5)
        grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
        for line, (name, panels) in zip(grid, rows.items(), strict=True):
            for axes, column in zip(line, columns, strict=True):
                _draw_panel(axes, panels[column], 100.0 if column in percent else 1.0)
                if column in logarithmic:
                    _make_logarithmic(axes, panels[column])
                axes.set_title(f"{name}: {column}", fontsize=8)
        for axes in grid[-1]:
            axes.set_xlabel("level of the source")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        handles = {
            label: handle
            for axes in grid.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", frameon=False, ncols=4,
            fontsize=8,
        )  # fmt: skip
    return figure


def _draw_panel(axes: Axes, panel: Panel, scale: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    parts = [name.partition(" ")[::2] for name in panel]
    methods = list(dict.fromkeys(method for method, _ in parts))
    targets = list(dict.fromkeys(target for _, target in parts))
    for (name, points), (method, target) in zip(panel.items(), parts, strict=True):
        colour = _COLOURS[methods.index(method) % len(_COLOURS)]
        dash, marker = _TARGETS[targets.index(target) % len(_TARGETS)]
        xs = [point.x for point in points]
        ys = np.array([scale * point.mean for point in points])
        axes.plot(
            xs, ys, color=colour, marker=marker, ls=dash, ms=4.5, markeredgecolor=PAPER,
            markeredgewidth=0.5, label=name,
        )  # fmt: skip
        spans = np.array([scale * (point.half_width or 0.0) for point in points])
        if spans.any():
            axes.fill_between(xs, ys - spans, ys + spans, color=colour, alpha=0.14, lw=0)


def _make_logarithmic(axes: Axes, panel: Panel) -> None:
    """A logarithmic axis, with a 0 beneath it where a mean is not above 0."""
    means = [point.mean for points in panel.values() for point in points]
    positive = [mean for mean in means if mean > 0]
    if not positive:
        return
    bottom, top = min(positive) / 2, 2 * max(positive)
    if len(positive) == len(means):
        axes.set_yscale("log")
        axes.set_ylim(bottom, top)
    else:
        axes.set_yscale("symlog", linthresh=bottom, linscale=0.6)
        axes.set_ylim(-bottom / 3, top)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}" if value else "0")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
