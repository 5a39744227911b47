"""Spectra: eigenvalues against their rank, and beneath them the share of the residual they carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from reprogram.errors import InputError
from reprogram.figures.curves import count_text
from reprogram.figures.style import GRID, MUTED, PAPER, method_style, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SpectrumLine", "spectrum_picture"]

_POINTS = 400  # more are drawn on top of each other


@dataclass(frozen=True, eq=False)
class SpectrumLine:
    """One spectrum to draw.

    Attributes:
        eigenvalues: Largest first.
        noise_floor: Below it an eigenvalue cannot be told from zero.
        cumulative_share: Entry r - 1 is the share, in [0, 1], of the squared residual Y - f_0 in
            the top-r eigenspaces; None leaves it out.
    """

    eigenvalues: Float[np.ndarray, " m"]
    noise_floor: float
    cumulative_share: Float[np.ndarray, " m"] | None = None


def spectrum_picture(
    lines: Mapping[str, SpectrumLine],
    *,
    by_trace: bool = False,
    title: str = "",
    size: tuple[float, float] = (5.8, 4.4),
) -> Figure:
    """Draw spectra on log-log axes over the share of the residual in their top eigenspaces.

    Args:
        lines: Each spectrum by its name; a method's name gives it the method's colour.
        by_trace: Whether eigenvalues are drawn as shares of their sum, which makes kernels of
            different prompts comparable.
        title: Above the axes.
        size: Width and height in inches.

    Raises:
        InputError: There is no spectrum, or one without a positive eigenvalue.
    """
    if not lines:
        raise InputError("nothing to draw: give at least one spectrum.")
    with_shares = any(line.cumulative_share is not None for line in lines.values())
    with styled():
        figure = new_figure(*size)
        grid = figure.subplots(
            2 if with_shares else 1, 1, sharex=True, squeeze=False,
            height_ratios=[3, 2] if with_shares else [1],
        )  # fmt: skip
        top, bottom = grid[0, 0], grid[-1, 0]
        floors = []
        for name, line in lines.items():
            floors.append(_draw_eigenvalues(top, name, line, by_trace))
            if line.cumulative_share is not None:
                _draw_share(bottom, name, line.cumulative_share)
        _label_floor(top, max(floors))
        top.set_ylabel("eigenvalue / trace" if by_trace else "eigenvalue")
        top.set_title(title)
        top.set_xlim(0.9, 1.15 * max(len(line.eigenvalues) for line in lines.values()))
        top.set_ylim(bottom=min(floors) / 30)  # what lies far beneath is noise
        top.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        bottom.xaxis.set_major_formatter(lambda value, _: count_text(value))
        bottom.set_xlabel("rank of the eigenvalue")
        if with_shares:
            bottom.set_ylabel("residual in the\ntop ranks, %")
            bottom.set_ylim(-3, 103)
        for axes in grid[:, 0]:
            axes.grid(color=GRID)
        if len(lines) > 1:
            top.legend(frameon=False, fontsize=8, handlelength=2.6, loc="best")
    return figure


def _draw_eigenvalues(axes: Axes, name: str, line: SpectrumLine, by_trace: bool) -> float:
    """One spectrum and its noise floor, whose height is returned; no logarithm, no point."""
    positive = line.eigenvalues > 0
    if not positive.any():
        raise InputError(f"the spectrum {name!r} has no positive eigenvalue to draw.")
    scale = float(line.eigenvalues.sum()) if by_trace else 1.0
    places = _thinned(int(positive.sum()))
    style = method_style(name)
    values = line.eigenvalues[positive][places - 1] / scale
    axes.loglog(
        places, values, color=style.colour, ls=style.dash, marker=style.marker, ms=5,
        markevery=max(1, len(places) // 10), markeredgecolor=PAPER, markeredgewidth=0.5, label=name,
    )  # fmt: skip
    floor = line.noise_floor / scale
    axes.axhline(floor, color=style.colour, lw=1.0, ls=(0, (1, 2)), zorder=1)
    return floor


def _draw_share(axes: Axes, name: str, share: Float[np.ndarray, " m"]) -> None:
    places, style = _thinned(len(share)), method_style(name)
    axes.semilogx(places, 100 * share[places - 1], color=style.colour, ls=style.dash)


def _label_floor(axes: Axes, height: float) -> None:
    """The name of the dotted lines, at the left end of the highest."""
    axes.annotate(
        "noise floor", (0.0, height), xycoords=("axes fraction", "data"), xytext=(4, 3),
        textcoords="offset points", color=MUTED, fontsize=8,
    )  # fmt: skip


def _thinned(count: int) -> Int[np.ndarray, " places"]:
    """Ranks 1 to count, evenly spaced on a logarithmic axis where they are many."""
    if count <= _POINTS:
        return np.arange(1, count + 1)
    return np.unique(np.geomspace(1, count, _POINTS).round().astype(int))
