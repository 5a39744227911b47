"""Means with intervals against depth, VP against FC, and the claims in words."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reprogram.analysis.depth.choices import CRITERIA, choices_of
from reprogram.analysis.depth.claims import ALPHA, Claim, claims_of
from reprogram.markdown import markdown_lines
from reprogram.statistics import Summary, holm, p_text, paired_difference, summarise

__all__ = ["COLUMNS", "Comparison", "Line", "comparisons_of", "lines_of", "markdown", "text"]

# What is shown against depth: the header, and whether it is an accuracy.
COLUMNS: dict[str, tuple[str, bool]] = {
    "source_accuracy": ("source accuracy, %", True),
    "accuracy": ("target accuracy, %", True),
    "train_loss": ("training loss, last epoch", False),
    "lambda_min": ("smallest eigenvalue / trace", False),
    "smallest_nonzero": ("smallest non-zero / trace", False),
    "lambda_min_trace_kernel": ("smallest, trace kernel / trace", False),
    "alignment": ("alignment", False),
    "effective_dimension": ("effective dimension", False),
}


@dataclass(frozen=True)
class Line:
    """One kind of source on one target by one method: a summary a depth and column.

    Attributes:
        kind, target, method: Which.
        values: By level, then by column; a column that no run has is left out.
    """

    kind: str
    target: str
    method: str
    values: Mapping[int, Mapping[str, Summary]]


class Comparison(NamedTuple):
    """A mean difference and the p-value of its paired t test, None for one seed."""

    difference: Summary
    p_value: float | None


def lines_of(points: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The means over seeds, in the order of the points."""
    lines = []
    for group in dict.fromkeys((p["kind"], p["target"], p["method"]) for p in points):
        mine = [p for p in points if (p["kind"], p["target"], p["method"]) == group]
        values = {}
        for level in sorted({p["level"] for p in mine}):
            runs = [p for p in mine if p["level"] == level]
            known = {c: [p[c] for p in runs if p[c] is not None] for c in COLUMNS}
            values[level] = {c: summarise(found) for c, found in known.items() if found}
        lines.append(Line(*group, values))
    return lines


def comparisons_of(
    points: Sequence[Mapping[str, Any]], first: str, second: str
) -> dict[tuple[str, str], Comparison]:
    """Accuracy of one method minus another's by (kind, target): paired by depth and seed.

    P-values are Holm-corrected over the places. Depths are averaged first, so n counts seeds; the
    test images, where the points have their number, are the same for all depths and seeds.
    """
    found = {}
    for place in dict.fromkeys((p["kind"], p["target"]) for p in points):
        mine = [p for p in points if (p["kind"], p["target"]) == place]
        by_seed = [_by_seed(mine, method) for method in (first, second)]
        shared = {
            seed: by_seed[0][seed].keys() & by_seed[1].get(seed, {}).keys() for seed in by_seed[0]
        }
        means: list[dict[Hashable, float]] = [
            {
                seed: sum(runs[seed][level] for level in levels) / len(levels)
                for seed, levels in shared.items()
                if levels
            }
            for runs in by_seed
        ]
        images = min(point.get("n_test") or math.inf for point in mine)
        difference, p_value = paired_difference(means[0], means[1], images)
        if difference is not None:
            found[place] = Comparison(difference, p_value)
    corrected = holm([comparison.p_value for comparison in found.values()])
    return {
        place: comparison._replace(p_value=p)
        for (place, comparison), p in zip(found.items(), corrected, strict=True)
    }


def _by_seed(points: Sequence[Mapping[str, Any]], method: str) -> dict[int, dict[int, float]]:
    runs: dict[int, dict[int, float]] = {}
    for point in points:
        if point["method"] == method:
            runs.setdefault(point["seed"], {})[point["level"]] = point["accuracy"]
    return runs


def text(points: Sequence[Mapping[str, Any]]) -> str:
    """The claims and the comparison for a terminal."""
    return "\n".join(_sentences(points))


def markdown(points: Sequence[Mapping[str, Any]]) -> str:
    """The same for a README, with the table of means."""
    heads = ["source", "target", "method", "level", *(title for title, _ in COLUMNS.values())]
    rows = []
    for line in lines_of(points):
        for level, values in line.values.items():
            cells = [_cell(values.get(c), accuracy) for c, (_, accuracy) in COLUMNS.items()]
            rows.append([line.kind, line.target, f"`{line.method}`", str(level), *cells])
    told = "\n".join(f"- {line}" for line in _sentences(points))
    return f"{told}\n\n{markdown_lines(heads, rows, left=3)}\n"


def _sentences(points: Sequence[Mapping[str, Any]]) -> list[str]:
    zero = sum(p["smallest_nonzero"] == 0 for p in points)
    noise = [
        "the smallest eigenvalue that the rank allows cannot be told from 0 in "
        f"{zero} of {len(points)} runs, which tie"
    ]
    return [
        *_claim_lines(claims_of(points)),
        *(noise if zero else []),
        *_comparison_lines(points),
    ]


def _claim_lines(claims: Sequence[Claim]) -> list[str]:
    lines = []
    for claim in claims:
        if claim.correlation is None:
            lines.append(f"{claim.words}: too few depths, or no spread, to say")
            continue
        p = "no permutation" if claim.p_value is None else p_text(claim.p_value)
        groups = ", ".join(
            f"{name} {'-' if value is None else f'{value:+.2f}'}"
            for name, value in claim.groups.items()
        )
        lines.append(
            f"{claim.words}: {claim.verdict} (Spearman {claim.correlation:+.2f}, {p}, Holm; "
            f"{claim.levels} depths; {groups})"
        )
    return lines


def _comparison_lines(points: Sequence[Mapping[str, Any]]) -> list[str]:
    methods = list(dict.fromkeys(p["method"] for p in points))
    lines = []
    for other in methods[1:]:
        for (kind, target), found in comparisons_of(points, methods[0], other).items():
            p = "" if found.p_value is None else f", {p_text(found.p_value)}, Holm"
            lines.append(
                f"{methods[0]} minus {other}, {kind} on {target}: {_signed(found)} "
                f"(n = {found.difference.n} seeds, depths averaged{p})"
            )
        lines += _choice_lines(points, methods[0], other)
    return lines


def _choice_lines(points: Sequence[Mapping[str, Any]], first: str, second: str) -> list[str]:
    choices = choices_of(points, first, second)
    lines = [
        f"does the larger {CRITERIA[c.criterion]} mean the lower training loss, "
        f"{first} or {second}? {c.verdict} ({c.agree} of {c.places} places"
        + ("" if c.p_value is None else f", {p_text(c.p_value)}, Holm")
        + f"; {first} has the larger in {c.first_larger} and loses less in {c.first_lower}"
        + (f"; {c.ties} tie" if c.ties else "")
        + f"; {c.runs_agree} of {c.runs} single runs)"
        for c in choices
    ]
    how = (
        "a place is a source's kind and level with a target, its values means over seeds; places "
        "share sources and targets, so p-values (Fisher's exact test) are rather too small"
    )
    return [*lines, how] if lines else []


def _signed(found: Comparison) -> str:
    mean, half_width = found.difference.mean, found.difference.half_width
    if half_width is None or found.p_value is None:
        return f"{100 * mean:+.1f} points"
    resolved = "" if found.p_value < ALPHA else ", not resolved"
    return f"{100 * mean:+.1f} +- {100 * half_width:.1f} points{resolved}"


def _cell(found: Summary | None, accuracy: bool) -> str:
    if found is None:
        return "-"
    if accuracy:
        spread = "" if found.half_width is None else f" +- {100 * found.half_width:.1f}"
        return f"{100 * found.mean:.1f}{spread}"
    spread = "" if found.half_width is None else f" +- {found.half_width:.2g}"
    return f"{found.mean:.3g}{spread}"
