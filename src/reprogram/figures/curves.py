"""Lines: accuracy against data size and severity, training curves, accuracy against distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reprogram.figures.style import GRID, INK, MUTED, PAPER, method_style, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["PairMark", "Point", "accuracy_curve", "distance_scatter", "severity_curve"]
__all__ += ["count_text", "draw_training", "training_curve"]

_LABEL_STEP = 11.5  # points between the baselines of two direct labels
_MAX_LABELS = 16


@dataclass(frozen=True)
class Point:
    """One place on a method's line: mean, 95 % half width and the runs behind it, in [0, 1]."""

    x: float
    mean: float
    half_width: float | None = None
    runs: tuple[float, ...] = ()


@dataclass(frozen=True)
class PairMark:
    """A pair of domains: a distance with its interval, accuracy in [0, 1], how it is filled."""

    x: float
    accuracy: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False


def accuracy_curve(
    curves: Mapping[str, Sequence[Point]],
    *,
    images_per_class: Mapping[float, float] | None = None,
    chance: float | None = None,
    title: str = "",
    size: tuple[float, float] = (6.4, 4.0),
) -> Figure:
    """Draw test accuracy against data size: a line a method, bands for intervals, dots for runs.

    Args:
        curves: For each method its points, x the data fraction in (0, 1]. A mapping without a
            prompt (``none+...``) is drawn as a thin line.
        images_per_class: For each fraction, training images a class: the axis on top.
        chance: Accuracy of guessing, in [0, 1].
        title: Above the axes.
        size: Width and height in inches.
    """
    with styled():
        figure = new_figure(*size)
        axes = figure.subplots()
        _draw_lines(axes, curves, chance=chance)
        fractions = sorted({point.x for points in curves.values() for point in points})
        _size_axis(axes, fractions, images_per_class or {})
        axes.set_ylabel("test accuracy, %")
        axes.set_title(title)
        _label_lines(figure, axes, curves, chance)
    return figure


def severity_curve(
    curves: Mapping[str, Sequence[Point]],
    *,
    chance: float | None = None,
    title: str = "",
    size: tuple[float, float] = (5.4, 3.6),
    labelled: bool = True,
) -> Figure:
    """Draw test accuracy against the severity of a noise, 0 being clean data.

    Args:
        curves: For each method its points, x the severity.
        chance: Accuracy of guessing, in [0, 1].
        title: Above the axes.
        size: Width and height in inches.
        labelled: Whether lines and axes have names; without, it is one of many small multiples that
            share them: no dots for single runs, fixed margins.
    """
    with styled():
        figure = new_figure(*size)
        axes = figure.subplots()
        if not labelled:
            figure.set_layout_engine(None)  # which would take most of the time of a small figure
            figure.subplots_adjust(left=0.13, right=0.97, bottom=0.12, top=0.87)
            curves = {m: [replace(p, runs=()) for p in points] for m, points in curves.items()}
        _draw_lines(axes, curves, chance=chance)
        axes.set_xticks(sorted({point.x for points in curves.values() for point in points}))
        axes.set_title(title)
        if labelled:
            axes.set_xlabel("severity (0 is clean)")
            axes.set_ylabel("test accuracy, %")
            _label_lines(figure, axes, curves, chance)
    return figure


def distance_scatter(
    points: Mapping[str, Sequence[PairMark]],
    *,
    measure: str,
    xlabel: str = "",
    title: str = "",
    size: tuple[float, float] = (5.4, 3.6),
) -> Figure:
    """Draw accuracy against the distance of source and target data, a marker a method.

    Args:
        points: For each method its pairs; an interval is a horizontal bar.
        measure: Name of the distance.
        xlabel: What x is instead, where it is no distance.
        title: Above the axes.
        size: Width and height in inches.
    """
    with styled():
        figure = new_figure(*size)
        axes = figure.subplots()
        axes.grid(axis="y")
        for method, pairs in points.items():
            style = method_style(method)
            look: dict[str, Any] = {"marker": style.marker, "s": 30}
            label: str | None = method  # once, of the kind that comes first
            for hollow, edge in ((False, PAPER), (True, style.colour)):
                marks = [mark for mark in pairs if mark.hollow == hollow]
                xs, ys = [mark.x for mark in marks], [100 * mark.accuracy for mark in marks]
                fill = PAPER if hollow else style.colour
                width = 1.2 if hollow else 0.5
                if marks:
                    axes.scatter(xs, ys, label=label, fc=fill, ec=edge, lw=width, zorder=3, **look)
                    label = None
            for mark in pairs:
                if mark.low is not None and mark.high is not None:
                    ends = mark.low, mark.high
                    axes.hlines(100 * mark.accuracy, *ends, color=style.colour, lw=0.7, alpha=0.6)
        axes.set_xlabel(xlabel or f"distance of source and target data ({measure})")
        axes.set_ylabel("test accuracy, %")
        axes.set_title(title)
        figure.legend(loc="outside lower center", frameon=False, ncols=3)
    return figure


def training_curve(
    history: Sequence[Mapping[str, float]],
    *,
    selected_epoch: int | None = None,
    title: str = "",
    size: tuple[float, float] = (5.4, 3.8),
) -> Figure:
    """Draw loss and validation accuracy per epoch, the selected epoch marked.

    Args:
        history: One mapping an epoch with ``epoch`` and any of ``train_loss``, ``val_accuracy``
            and ``test_accuracy`` (in [0, 1]); a missing or None value is a gap.
        selected_epoch: The epoch that validation chose.
        title: Above the axes.
        size: Width and height in inches.
    """
    with styled():
        figure = new_figure(*size)
        draw_training(figure, history, selected_epoch=selected_epoch, title=title)
    return figure


def draw_training(
    figure: Figure | SubFigure,
    history: Sequence[Mapping[str, float]],
    *,
    selected_epoch: int | None = None,
    title: str = "",
) -> None:
    """The training curve inside a figure or a part of one; no accuracies, no panel for them."""
    from matplotlib.ticker import MaxNLocator

    accuracies = [
        100 * row[key]
        for row in history
        for key in ("val_accuracy", "test_accuracy")
        if row.get(key) is not None
    ]
    scored = bool(accuracies)
    panels = figure.subplots(
        1 + scored, 1, sharex=True, squeeze=False, height_ratios=[3, 2] if scored else [1]
    )[:, 0]
    top, bottom = panels[0], panels[-1]
    validation, test = method_style("full-finetune"), method_style("reprogramming")
    _draw_series(top, history, "val_accuracy", "validation", validation.colour, "-", "s", 100.0)
    _draw_series(
        top,
        history,
        "test_accuracy",
        "test (recorded, selects nothing)",
        test.colour,
        "--",
        "o",
        100.0,
    )
    _draw_series(bottom, history, "train_loss", "training loss", INK, "-", ".", 1.0)
    for axes in panels:
        axes.grid(axis="y")
        if selected_epoch is not None:
            axes.axvline(selected_epoch, color=MUTED, lw=1.0, ls=(0, (2, 2)), zorder=1)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, handlelength=2.2, loc="best")
    if selected_epoch is not None:
        top.annotate(
            f"epoch {selected_epoch} selected",
            (selected_epoch, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(4 if selected_epoch <= len(history) / 2 else -4, 4),
            textcoords="offset points",
            ha="left" if selected_epoch <= len(history) / 2 else "right",
            color=MUTED,
            fontsize=8,
        )
    if scored:
        top.set_ylabel("accuracy, %")
        _set_range(top, accuracies)
    top.set_title(title)
    bottom.set_ylabel("loss")
    bottom.set_xlabel("epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_series(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    key: str,
    label: str,
    colour: str,
    dash: str,
    marker: str,
    scale: float,
) -> None:
    """One key of the history as a line, where any epoch has it."""
    pairs = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
    if pairs:
        xs, ys = zip(*pairs, strict=True)
        axes.plot(
            xs, [scale * y for y in ys], color=colour, ls=dash, marker=marker, ms=3.5, label=label
        )


def _is_unprompted(method: str) -> bool:
    """Whether a method is a mapping on the plain image: a reference line, not a contender."""
    return method.startswith("none+") and not method.startswith("none+linear")


def _draw_lines(axes: Axes, curves: Mapping[str, Sequence[Point]], *, chance: float | None) -> None:
    """Lines, bands and runs in per cent, and the y range they need."""
    axes.grid(axis="y")
    heights = [100 * chance] if chance is not None else []
    ticks = sorted({point.x for points in curves.values() for point in points})
    for rank, (method, points) in enumerate(curves.items()):
        style, thin = method_style(method), _is_unprompted(method)
        heights += [100 * value for p in points for value in (p.mean, *p.runs)]
        # A line breaks where a point is missing: nothing is drawn that was not measured.
        found = {point.x: point for point in points}
        axes.plot(
            ticks,
            [100 * found[x].mean if x in found else math.nan for x in ticks],
            color=style.colour,
            ls=style.dash,
            marker=style.marker,
            lw=1.2 if thin else 1.8,
            ms=3.0 if thin else 5.5,
            markeredgecolor=PAPER,
            markeredgewidth=0.0 if thin else 0.6,
            zorder=30 - rank,
        )
        _draw_spread(axes, [found.get(x, Point(x, math.nan)) for x in ticks], style.colour)
    if chance is not None:
        axes.axhline(100 * chance, color=MUTED, lw=1.0, ls=(0, (1, 2)), zorder=1)
    if heights:
        _set_range(axes, heights)


def _set_range(axes: Axes, heights: Sequence[float]) -> None:
    """The y range of these per cents, with a margin; at least 4 points, so that noise looks small."""
    low, high = min(heights), max(heights)
    margin = max(2.0, 0.06 * (high - low))
    axes.set_ylim(max(0.0, low - margin), min(101.5, high + margin))


def _draw_spread(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """The band of the intervals and a dot for every run, where there are several."""
    if any(p.half_width is not None for p in points):
        spans = [math.nan if p.half_width is None else p.half_width for p in points]
        low = [100 * (p.mean - span) for p, span in zip(points, spans, strict=True)]
        high = [100 * (p.mean + span) for p, span in zip(points, spans, strict=True)]
        places = [p.x for p in points]
        axes.fill_between(places, low, high, color=colour, alpha=0.16, lw=0, zorder=2)
    runs = [(p.x, 100 * run) for p in points if len(p.runs) > 1 for run in p.runs]
    if runs:
        xs, ys = zip(*runs, strict=True)
        axes.scatter(xs, ys, s=6, color=colour, alpha=0.75, lw=0, zorder=40)


def _size_axis(axes: Axes, fractions: list[float], per_class: Mapping[float, float]) -> None:
    """Data size in per cent below and in images a class above."""
    if not fractions:
        return
    if max(fractions) / min(fractions) > 25:
        axes.set_xscale("log")
    ticks = [f"{100 * fraction:g}%" for fraction in fractions]
    axes.set_xticks(fractions, ticks)
    axes.minorticks_off()
    axes.set_xlabel("share of the training images")
    known = [fraction for fraction in fractions if fraction in per_class]
    if known:
        above = axes.secondary_xaxis("top")
        above.set_xticks(known, [count_text(per_class[fraction]) for fraction in known])
        above.minorticks_off()
        above.set_xlabel("training images a class", fontsize=8, color=MUTED)
        above.tick_params(length=2, labelsize=8, labelcolor=MUTED)
        above.spines["top"].set_visible(False)


def count_text(count: float) -> str:
    """A number of images, in whole ones from ten on.

    >>> count_text(25.88), count_text(2.5)
    ('26', '2.5')
    """
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def _label_lines(
    figure: Figure, axes: Axes, curves: Mapping[str, Sequence[Point]], chance: float | None
) -> None:
    """Name each line at its right end, moved apart where names would touch; else a legend."""
    ends = {m: max(points, key=lambda p: p.x) for m, points in curves.items() if points}
    if len(ends) > _MAX_LABELS:
        handles = axes.get_lines()[: len(curves)]
        figure.legend(handles, list(curves), loc="outside right upper", frameon=False, fontsize=8)
        return
    wanted = [(100 * point.mean, method, point.x) for method, point in ends.items()]
    x_end = max((point.x for point in ends.values()), default=1.0)
    if chance is not None:
        wanted.append((100 * chance, "chance", x_end))
    figure.draw_without_rendering()  # settles the constrained layout, so that heights are known
    low, high = axes.get_ylim()
    points_high = axes.get_window_extent().height * 72.0 / figure.dpi
    step = _LABEL_STEP * (high - low) / points_high
    wanted.sort()
    places = spread_apart([y for y, _, _ in wanted], step, low, high)
    for (y, name, x), place in zip(wanted, places, strict=True):
        quiet = name == "chance" or _is_unprompted(name)
        axes.annotate(
            name,
            (x, y),
            xycoords="data",
            xytext=(1.035, (place - low) / (high - low)),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=MUTED if quiet else INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": GRID if name == "chance" else method_style(name).colour,
                "lw": 0.7,
                "shrinkA": 1,
                "shrinkB": 4,
                "relpos": (0.0, 0.5),
            },
        )


def spread_apart(heights: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Move sorted heights as little as it takes to lie ``step`` apart, between low and high.

    Neighbours that touch become one block around their mean, as in isotonic regression.

    >>> spread_apart([1.0, 1.0, 5.0], 1.0, 0.0, 10.0)
    [0.5, 1.5, 5.0]
    """
    blocks: list[tuple[float, int]] = []  # (centre, members)
    for height in heights:
        centre, members = height, 1
        while blocks:
            before, count = blocks[-1]
            if centre - before >= step * (members + count) / 2 - 1e-12:
                break
            blocks.pop()
            centre = (before * count + centre * members) / (count + members)
            members += count
        blocks.append((centre, members))
    spread = [c + step * (i - (m - 1) / 2) for c, m in blocks for i in range(m)]
    last = len(spread) - 1
    spread = [max(height, low + i * step) for i, height in enumerate(spread)]
    spread = [min(height, high - (last - i) * step) for i, height in enumerate(spread)]
    return spread
