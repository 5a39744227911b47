"""An output mapping as a picture: ribbons where each source class has one target, else a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Real

from reprogram.errors import InputError
from reprogram.figures.prompts import shorten
from reprogram.figures.style import BLUE, GRID, INK, MUTED, SKY, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_mapping", "is_sparse", "mapping_picture", "mapping_size"]

_ROWS_A_COLUMN = 25  # ribbons beneath each other before the next column starts
_MAX_SOURCES = 100  # columns of a matrix picture


def is_sparse(weight: Real[np.ndarray, "source target"]) -> bool:
    """Whether every source class feeds at most one target class, and every target one or few.

    >>> is_sparse(np.eye(3)), is_sparse(np.ones((3, 2)))
    (True, False)
    """
    used = np.asarray(weight) != 0
    return bool((used.sum(axis=1) <= 1).all() and used.sum(axis=0).max(initial=0) <= 8)


def mapping_picture(
    weight: Real[np.ndarray, "source target"],
    source_names: Sequence[str],
    target_names: Sequence[str],
    *,
    strength: Real[np.ndarray, "source target"] | None = None,
    title: str = "",
) -> Figure:
    """Draw which source classes are read as which target classes, the strongest pairs first.

    Args:
        weight: W of target logits = source logits @ W.
        source_names: S names.
        target_names: T names; readable up to about 100.
        strength: What ribbons are sorted by and as wide as, such as the counts behind a frequency
            mapping; the weights themselves by default.
        title: Above the picture.

    Raises:
        InputError: Where the names and the matrix disagree.
    """
    with styled():
        figure = new_figure(*mapping_size(weight))
        draw_mapping(figure, weight, source_names, target_names, strength=strength, title=title)
    return figure


def mapping_size(weight: Real[np.ndarray, "source target"]) -> tuple[float, float]:
    """Inches that the picture of this matrix needs, width and height."""
    weight = np.asarray(weight)
    if is_sparse(weight):
        pairs = max(1, int((weight != 0).sum()))
        # A target's sources stay in one column, so a column may end a few rows early.
        widest = int((weight != 0).sum(axis=0).max(initial=1))
        columns = -(-pairs // max(1, _ROWS_A_COLUMN - widest + 1))
        rows = min(pairs, _ROWS_A_COLUMN)
        return max(4.2, 3.3 * columns), 0.75 + 0.21 * max(rows, 5)
    shown = min(len(_source_order(weight)), _MAX_SOURCES)
    return 2.8 + 0.155 * max(shown, 12), 2.1 + 0.155 * max(weight.shape[1], 6)


def draw_mapping(
    figure: Figure | SubFigure,
    weight: Real[np.ndarray, "source target"],
    source_names: Sequence[str],
    target_names: Sequence[str],
    *,
    strength: Real[np.ndarray, "source target"] | None = None,
    title: str = "",
) -> None:
    """The mapping picture inside a figure or a part of one."""
    weight = np.asarray(weight, dtype=float)
    if weight.shape != (len(source_names), len(target_names)):
        raise InputError(
            f"mapping of shape {weight.shape} does not fit {len(source_names)} source and "
            f"{len(target_names)} target names; expected one row a source and one column a target."
        )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    if is_sparse(weight):
        known = np.abs(weight) if strength is None else np.asarray(strength, dtype=float)
        _draw_ribbons(figure, weight, known, source_names, target_names)
    else:
        _draw_matrix(figure, weight, source_names, target_names)


def _draw_ribbons(
    figure: Figure | SubFigure,
    weight: Real[np.ndarray, "source target"],
    strength: Real[np.ndarray, "source target"],
    source_names: Sequence[str],
    target_names: Sequence[str],
) -> None:
    """Sources left, targets right; the sources of one target lie beneath each other."""
    used = weight != 0
    totals = np.where(used, strength, 0.0).sum(axis=0)
    columns: list[list[tuple[int, int]]] = [[]]
    for target in sorted(np.flatnonzero(used.any(axis=0)), key=lambda t: (-totals[t], t)):
        sources = np.flatnonzero(used[:, target])
        ranked = sorted(sources, key=lambda s: (-strength[s, target], s))
        if len(columns[-1]) + len(ranked) > _ROWS_A_COLUMN:
            columns.append([])
        columns[-1] += [(int(source), int(target)) for source in ranked]
    widest = max((strength[s, t] for column in columns for s, t in column), default=1.0) or 1.0
    depth = max(5, *(len(column) for column in columns))
    grid = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, pairs in zip(grid, columns, strict=True):
        _draw_column(axes, pairs, strength / widest, source_names, target_names)
        axes.set_ylim(depth - 0.4, -1.6)


def _draw_column(
    axes: Axes,
    pairs: Sequence[tuple[int, int]],
    relative: Real[np.ndarray, "source target"],
    source_names: Sequence[str],
    target_names: Sequence[str],
) -> None:
    """One column of ribbons, each as wide as its share of the strongest."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    curve = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO]
    curve += [Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.CLOSEPOLY]
    by_target: dict[int, list[int]] = {}
    for row, (_, target) in enumerate(pairs):
        by_target.setdefault(target, []).append(row)
    for row, (source, target) in enumerate(pairs):
        rows = by_target[target]
        end = sum(rows) / len(rows) + 0.22 * (row - sum(rows) / len(rows))
        half = 0.05 + 0.30 * float(np.clip(relative[source, target], 0.0, 1.0))
        tip = half / len(rows) ** 0.5
        ends = [(0, row - half), (0.5, row - half), (0.5, end - tip), (1, end - tip)]
        back = [(1, end + tip), (0.5, end + tip), (0.5, row + half), (0, row + half), (0, 0)]
        axes.add_patch(PathPatch(Path(ends + back, curve), fc=SKY, ec=BLUE, lw=0.5, alpha=0.6))
        name = shorten(source_names[source], 20)
        axes.text(-0.06, row, name, ha="right", va="center", fontsize=8, color=MUTED)
    for target, rows in by_target.items():
        name = shorten(target_names[target], 20)
        place = sum(rows) / len(rows)
        axes.text(1.06, place, name, ha="left", va="center", fontsize=8, color=INK, weight="bold")
    axes.set_xlim(-1.75, 2.75)
    axes.text(-0.06, -1.1, "source class", ha="right", va="center", fontsize=7.5, color=MUTED)
    axes.text(1.06, -1.1, "target class", ha="left", va="center", fontsize=7.5, color=MUTED)
    axes.axis("off")


def _source_order(weight: Real[np.ndarray, "source target"]) -> list[int]:
    """The strongest source of every target, in the order of the rows; then the next strongest."""
    order: dict[int, None] = {}
    ranks = np.argsort(-np.abs(weight), axis=0, kind="stable")
    targets = _target_order(weight)
    for rank in range(min(3, weight.shape[0])):
        for target in targets:
            if len(order) < _MAX_SOURCES:
                order.setdefault(int(ranks[rank, target]), None)
    return list(order)


def _target_order(weight: Real[np.ndarray, "source target"]) -> list[int]:
    """Target classes, the one with the largest single weight first."""
    return [int(t) for t in np.argsort(-np.abs(weight).max(axis=0), kind="stable")]


def _draw_matrix(
    figure: Figure | SubFigure,
    weight: Real[np.ndarray, "source target"],
    source_names: Sequence[str],
    target_names: Sequence[str],
) -> None:
    """Rows are targets, columns the source classes that matter most to them."""
    sources, targets = _source_order(weight), _target_order(weight)
    shown = weight[np.ix_(sources, targets)].T  # (T, chosen sources)
    signed = bool((weight < 0).any())
    limit = float(np.abs(shown).max()) or 1.0
    axes = figure.subplots()
    image = axes.imshow(
        shown,
        cmap="RdBu_r" if signed else "Greys",
        vmin=-limit if signed else 0.0,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
    )
    small = 7.5 if len(targets) <= 40 else 6.5
    columns = [shorten(source_names[s], 18) for s in sources]
    axes.set_xticks(range(len(sources)), columns, rotation=90, fontsize=min(7, small))
    axes.set_yticks(
        range(len(targets)), [shorten(target_names[t], 20) for t in targets], fontsize=small
    )
    axes.tick_params(length=0)
    axes.set_ylabel("target class")
    left_out = weight.shape[0] - len(sources)
    rest = f" ({left_out} weaker ones not shown)" if left_out else ""
    axes.set_xlabel(f"source class{rest}")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(GRID)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, aspect=30)
    bar.set_label("weight", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
