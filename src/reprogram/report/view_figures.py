"""The page's charts as inline SVG: accuracy against data size, severity and distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reprogram.figures import Point, accuracy_curve, distance_scatter, inline_svg, severity_curve
from reprogram.report.panels import Panel, Row, noise_of
from reprogram.report.tables import counts_text

__all__ = ["distance_section", "noise_section", "size_figures"]


def size_figures(clean: Sequence[Panel]) -> list[dict[str, Any]]:
    """Accuracy against data size, one figure a pair of source and target."""
    from markupsafe import Markup

    figures = []
    for place, panel in enumerate(clean):
        if not panel.curves:
            continue
        figure = accuracy_curve(
            panel.curves,
            images_per_class=panel.per_class,
            chance=panel.chance,
            title=panel.target,
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


def noise_section(everything: Sequence[Panel]) -> dict[str, Any] | None:
    """Accuracy over severity for every kind of noise, and what remains of the clean accuracy."""
    from markupsafe import Markup

    noisy = [panel for panel in everything if panel.noise.kind != "clean"]
    if not noisy:
        return None
    clean = {(p.source, p.target): p for p in everything if p.noise.kind == "clean"}
    groups: dict[tuple[str, str, str, str], list[Panel]] = {}
    for panel in noisy:
        key = (panel.source, panel.target, panel.noise.kind, panel.noise.split)
        groups.setdefault(key, []).append(panel)
    figures, lines = [], []
    for place, ((source, target, kind, split), members) in enumerate(groups.items()):
        base = clean.get((source, target))
        curves, fraction = _severity_points(members, base)
        where = f" on {split}" if split else ""
        title = f"{target}: {kind}{where}"
        figure = severity_curve(curves, chance=members[0].chance, title=title)
        label = f"Test accuracy against the severity of {kind}{where}, {source} to {target}."
        svg = Markup(inline_svg(figure, label=label, prefix=f"noise{place}"))
        figures.append(
            {"svg": svg, "caption": f"{source} → {target}, {100 * fraction:g}% of the data"}
        )
        for method, found in curves.items():
            reference = next((p.mean for p in found if p.x == 0), None)
            for point in (p for p in found if p.x > 0):
                kept = f"{100 * point.mean / reference:.0f} %" if reference else "–"
                half = "" if point.half_width is None else f" ± {100 * point.half_width:.1f}"
                accuracy = f"{100 * point.mean:.1f}{half}"
                lines.append(
                    [
                        method,
                        f"{source} → {target}",
                        f"{kind}{where}",
                        f"{point.x:g}",
                        accuracy,
                        f"{len(point.runs)}",
                        kept,
                    ]
                )
    return {
        "id": "noise",
        "name": "Noise",
        "title": "Accuracy under noise",
        "lead": "Severity 0 is clean data. Relative robustness: the share of clean accuracy left.",
        "figures": figures,
        "heads": ["method", "pair", "noise", "severity", "accuracy, %", "n", "relative robustness"],
        "table": lines,
    }


def _severity_points(
    members: Sequence[Panel], base: Panel | None
) -> tuple[dict[str, list[Point]], float]:
    """For each method its accuracy over severity at the largest data size, clean data first."""
    fraction = max(f for panel in members for _, f in panel.entries)
    curves: dict[str, list[Point]] = {}
    for panel in ([base] if base else []) + sorted(members, key=lambda p: p.noise.severity):
        for method in members[0].methods:
            entry = panel.entry(method, fraction)
            if (s := entry.summary) is not None:
                point = Point(
                    panel.noise.severity, s.mean, s.half_width, tuple(entry.by_seed.values())
                )
                curves.setdefault(method, []).append(point)
    return curves, fraction


def distance_section(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Any] | None:
    """Accuracy at the largest data size against each recorded distance, methods in their order."""
    from markupsafe import Markup

    done = [
        r
        for r in rows
        if r["status"] == "done" and r.get("distance") and noise_of(r).kind == "clean"
    ]
    if not done:
        return None
    largest = max(float(row["data_fraction"]) for row in done)
    done = [row for row in done if float(row["data_fraction"]) == largest]
    figures = []
    for place, measure in enumerate(sorted({name for row in done for name in row["distance"]})):
        found: dict[str, list[tuple[float, float]]] = {}
        for row in sorted(done, key=lambda row: methods.index(str(row["method"]))):
            if row["distance"].get(measure) is not None:
                pair = (float(row["distance"][measure]), float(row["accuracy"]))
                found.setdefault(str(row["method"]), []).append(pair)
        figure = distance_scatter(found, measure=measure)
        label = f"Test accuracy against {measure} between source and target data, {len(done)} runs."
        svg = Markup(inline_svg(figure, label=label, prefix=f"distance{place}"))
        figures.append(
            {"svg": svg, "caption": f"{measure}; {100 * largest:g}% of the data, a mark a run"}
        )
    lead = "Pairs that share a source or a target are not independent: n is domains, not marks."
    section = {
        "id": "distance",
        "name": "Distance",
        "title": "Accuracy against distance",
        "lead": lead,
    }
    return section | {"figures": figures, "heads": [], "table": []}
