"""The page's charts of accuracy against data size as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reprogram.figures import accuracy_curve, inline_svg
from reprogram.report.panels import Panel
from reprogram.report.tables import counts_text

__all__ = ["size_figures"]


def size_figures(clean: Sequence[Panel]) -> list[dict[str, Any]]:
    """Accuracy against data size, one figure a pair that was run at two sizes or more."""
    from markupsafe import Markup

    figures = []
    for place, panel in enumerate(clean):
        if len({fraction for (_, fraction), entry in panel.entries.items() if entry.done}) < 2:
            continue
        figure = accuracy_curve(
            panel.curves,
            images_per_class=panel.per_class,
            chance=panel.chance,
            title=panel.place,
            size=(5.3, 4.0),
        )
        ends = "; ".join(f"{m} {100 * p[-1].mean:.1f} %" for m, p in panel.curves.items())
        last = f"{100 * panel.fractions[-1]:g}%"
        label = (
            f"Test accuracy against data size, {panel.title}. At the largest size ({last}): {ends}."
        )
        svg = inline_svg(figure, label=label, prefix=f"size{place}")
        figures.append({"svg": Markup(svg), "caption": f"{panel.title}, {counts_text(panel)}"})
    return figures
