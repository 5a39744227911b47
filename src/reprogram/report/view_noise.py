"""The noise section: who keeps the most, tables of every noise, curves over severity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reprogram.data.noise import NOISES, Noise
from reprogram.figures import Point, inline_svg, severity_curve
from reprogram.report.panels import Panel
from reprogram.report.robustness import NoiseGroup, Scores, noise_groups
from reprogram.report.section import FigureGroup, Section, TextTable
from reprogram.report.sentence import certainty, listed, percent, runs_text, share
from reprogram.report.verdict import leader
from reprogram.report.view_table import css_colour
from reprogram.statistics import Summary, summarise

__all__ = ["group_title", "noise_answer", "noise_figures", "noise_kind", "noise_section"]

PLACES = {
    "test": "noise on test images",
    "train": "noise on training data",
    "both": "noise on training and test images",
}
LABELLED = 3  # kinds up to which each curve names its lines; more become small multiples


def noise_answer(everything: Sequence[Panel]) -> str:
    """Who has the highest accuracy under noise, in a sentence for each place that noise is in."""
    groups = noise_groups(everything)
    several = len({group.panel.source for group in groups}) > 1
    # By where the noise is and whether anything was tested: who is ahead on which pairs, and n.
    found: dict[tuple[str, bool], tuple[dict[str, list[str]], list[int]]] = {}
    for group in groups:
        scores = group.scores()
        if not scores.noises:
            continue
        verdict = leader(scores.accuracy, group.images)
        assert verdict.summary is not None, "somebody is scored"
        over = "one" if len(scores.noises) == 1 else f"the mean of {len(scores.noises)}"
        tested = verdict.kind in ("resolved", "unresolved")
        sides, seeds = found.setdefault((f"{PLACES[group.split]}, {over}", tested), ({}, []))
        who, pair = "not resolved", group.panel.pair if several else group.panel.place
        if verdict.kind != "unresolved":
            who = f"{verdict.candidates[0]} {_AHEAD[verdict.kind]}"
            pair += f" ({percent(verdict.summary)})"
        sides.setdefault(who, []).append(pair)
        seeds.append(verdict.summary.n)
    return " ".join(
        f"{where[0].upper()}{where[1:]}{'' if tested else ', not tested'}: "
        + "; ".join(f"{who} on {listed(pairs)}" for who, pairs in sides.items())
        + f" ({runs_text(seeds)}{', Holm' if tested else ''})."
        for (where, tested), (sides, seeds) in found.items()
    )


_AHEAD = {"resolved": "is ahead", "single": "has the highest value", "only": "alone was run"}


def noise_section(everything: Sequence[Panel]) -> Section | None:
    """Accuracy and relative robustness under every noise; None where all data are clean."""
    groups = noise_groups(everything)
    if not groups:
        return None
    sentences, tables = [], []
    for group in groups:
        scores = group.scores()
        if scores.noises:
            sentences.append(_sentence(group, scores))
            tables.append(_summary_table(group, scores))
        else:
            sentences.append(f"{group_title(group)}: no noise has a result of every method yet.")
        tables.append(_table(group))
    sentences += [_strengths(groups), *_notes(everything)]
    return Section(
        "noise",
        "Noise",
        "Accuracy under noise",
        "Relative robustness is noisy over clean accuracy of the same method and seed, averaged over "
        "the noises that all methods have; a method whose clean accuracy cannot be told from chance "
        "is not ranked by it. Severity 0 is clean data.",
        [sentence for sentence in sentences if sentence],
        tables,
    )


def _notes(everything: Sequence[Panel]) -> list[str]:
    """What was done before a noise, once for all noises that it was done before."""
    notes = {str(n) for p in everything for e in p.entries.values() for r in e.done
             if (n := r.get("noise_note"))}  # fmt: skip
    kinds: dict[tuple[str, str], list[str]] = {}
    for note in sorted(notes):
        what, before, kind = note.rpartition(" before ")
        kinds.setdefault((what + before, "" if before else note), []).append(kind)
    told = [what + listed(found) for (what, _), found in kinds.items()]
    return [f"{text[0].upper()}{text[1:]}." for text in told]


def _strengths(groups: Sequence[NoiseGroup]) -> str:
    """What the severities of the kinds without a published scale stand for."""
    parts = []
    for kind in sorted({noise.kind for group in groups for noise in group.noisy}):
        known = NOISES[kind]
        if known.levels != tuple(range(1, 6)):
            levels = ", ".join(f"{level:g}" for level in known.levels)
            parts.append(f"{kind} {levels} ({known.unit})")
    return f"Severities 1 to 5: {'; '.join(parts)}." if parts else ""


def group_title(group: NoiseGroup) -> str:
    """Pair, place and data size in words."""
    return f"{group.panel.pair}, {PLACES[group.split]}, {share(group.fraction)} of the data"


def _sentence(group: NoiseGroup, scores: Scores) -> str:
    """Who keeps the most of its accuracy, and who has the most left."""
    count = len(scores.noises)
    over = "one noise" if count == 1 else f"{count} noises"
    text = f"{group_title(group)}, over {over}{_images(group)}: "
    guessing = [m for m in scores.robustness if group.near_chance(m)]
    ranked = {m: r for m, r in scores.robustness.items() if m not in guessing}
    robust = leader(ranked, group.clean_hits(ranked))
    if robust.summary is not None:
        best = robust.candidates[0]
        left, clean = (
            summarise(list(scores.accuracy[best].values())),
            group.clean_entry(best).summary,
        )
        assert clean is not None, "there is no ratio without clean accuracy"
        text += f"{best} keeps {percent(robust.summary)} of its clean accuracy, the most "
        text += f"({percent(left)} of {percent(clean)}); {certainty(robust)}. "
    if guessing:
        text += f"Not ranked, since clean accuracy cannot be told from chance: {listed(guessing)}. "
    # Every noise is of the same images, so more noises are not more images.
    accurate = leader(scores.accuracy, group.images)
    assert accurate.summary is not None, "somebody is scored"
    return text + (
        f"The highest accuracy is {accurate.candidates[0]}'s, {percent(accurate.summary)}; "
        f"{certainty(accurate)}."
    )


def _images(group: NoiseGroup) -> str:
    """How many test images stand behind clean and noisy accuracy, where they are not the same."""
    method, noise = group.methods[0], next(iter(group.noisy))
    entries = (group.clean_entry(method), group.entry(method, noise))
    clean, noisy = (entry.typical("n_test") for entry in entries)
    if clean is None or noisy is None or clean == noisy:
        return ""
    return f" (clean accuracy on {clean:,.0f} test images, noisy on {noisy:,.0f})"


def _summary_table(group: NoiseGroup, scores: Scores) -> TextTable:
    """Every method over all shared noises, the most robust first; those without a ratio last."""
    found: dict[str, tuple[float, float, list[str]]] = {}
    for method, runs in scores.accuracy.items():
        if runs:
            accuracy, ratios = summarise(list(runs.values())), scores.robustness[method]
            kept = summarise(list(ratios.values())) if ratios else None
            shown = (group.clean_entry(method).summary, accuracy, kept)
            cells = [*(percent(s) if s else "–" for s in shown), str(accuracy.n)]
            found[method] = (-kept.mean if kept else 0.0, -accuracy.mean, cells)
    lines = [
        [method, *found[method][2]] for method in sorted(found, key=lambda m: (found[m][:2], m))
    ]
    heads = ["method", "clean accuracy", "accuracy under noise", "relative robustness", "n"]
    return TextTable(f"{group_title(group)}: mean over {len(scores.noises)}", heads, lines)


def _table(group: NoiseGroup) -> TextTable:
    """Every noise: accuracy of each method, and beneath it the share of clean accuracy left.

    The number of seeds stands in the title where all have the same, else in every cell.
    """
    entries = [group.entry(method, noise) for noise in group.noisy for method in group.methods]
    seeds = {entry.summary.n for entry in entries if entry.summary}
    lines = []
    for noise in group.noisy:
        cells = [_cell(group, method, noise, len(seeds) > 1) for method in group.methods]
        lines.append([f"{noise_kind(noise)} {noise.severity}", *cells])
    heads = ["noise, severity", *group.methods]
    n = f", n = {seeds.pop()}" if len(seeds) == 1 else ""
    return TextTable(f"{group_title(group)}: accuracy % and relative robustness{n}", heads, lines)


def _cell(group: NoiseGroup, method: str, noise: Noise, with_n: bool) -> str:
    """Accuracy with its interval; relative robustness and, where asked for, n beneath."""
    entry = group.entry(method, noise)
    if entry.summary is None:
        return "not run" if entry.status == "missing" else entry.status
    kept = group.kept(method, noise)
    ratio = percent(summarise(list(kept.values()))) if kept else "–"
    n = f", n\u00a0=\u00a0{entry.summary.n}" if with_n else ""
    return f"{_number(entry.summary)}\n{ratio}{n}"


def _number(summary: Summary) -> str:
    """Accuracy in per cent without its sign."""
    return percent(summary).removesuffix(" %")


def noise_kind(noise: Noise) -> str:
    """The noise without its severity and place."""
    return noise.kind + (f" #{noise.seed}" if noise.seed else "")


def noise_figures(everything: Sequence[Panel]) -> list[FigureGroup]:
    """Curves over severity: for many kinds their mean first, then small multiples."""
    found = []
    for place, group in enumerate(noise_groups(everything)):
        kinds: dict[str, list[Noise]] = {}
        for noise in group.noisy:
            kinds.setdefault(noise_kind(noise), []).append(noise)
        small = len(kinds) > LABELLED
        each = []
        for number, (kind, noises) in enumerate(kinds.items()):
            if points := _points(group, noises):
                caption = "" if small else group_title(group)
                name = f"noise{place}-{number}"
                each.append(_figure(group, points, kind, caption, name, labelled=not small))
        if not small or not each:
            found += [FigureGroup(each)] if each else []
            continue
        mean = _mean_points(group, list(kinds.values()))
        caption = f"{group_title(group)}, mean over {len(kinds)} kinds"
        large = [_figure(group, mean, "mean", caption, f"noise{place}")] if mean else []
        legend = [(method, css_colour(method)) for method in group.methods]
        found.append(FigureGroup(large, each, f"{len(each)} kinds, {group_title(group)}", legend))
    return found


def _figure(
    group: NoiseGroup,
    points: dict[str, list[Point]],
    title: str,
    caption: str,
    prefix: str,
    *,
    labelled: bool = True,
) -> dict[str, Any]:
    """One curve as inline SVG."""
    from markupsafe import Markup

    chance = next((p.chance for p in group.noisy.values() if p.chance), None)
    size = (5.4, 3.6) if labelled else (3.2, 2.3)
    figure = severity_curve(points, chance=chance, title=title, labelled=labelled, size=size)
    ends = "; ".join(f"{m} {100 * found[-1].mean:.1f} %" for m, found in points.items())
    label = (
        f"Test accuracy against severity, {title}, {group_title(group)}. At the highest: {ends}."
    )
    return {"svg": Markup(inline_svg(figure, label=label, prefix=prefix)), "caption": caption}


def _points(group: NoiseGroup, noises: Sequence[Noise]) -> dict[str, list[Point]]:
    """For each method its accuracy over severity, clean data first."""
    curves: dict[str, list[Point]] = {}
    for method in group.methods:
        entries = [(0, group.clean_entry(method))]
        entries += [(noise.severity, group.entry(method, noise)) for noise in noises]
        points = [
            Point(severity, e.summary.mean, e.summary.half_width, tuple(e.by_seed.values()))
            for severity, e in entries
            if e.summary is not None
        ]
        if any(point.x > 0 for point in points):
            curves[method] = points
    return curves


def _mean_points(group: NoiseGroup, kinds: Sequence[Sequence[Noise]]) -> dict[str, list[Point]]:
    """The same averaged over the kinds in each trial, at the severities that all kinds have."""
    severities = set.intersection(*({noise.severity for noise in noises} for noises in kinds))
    curves: dict[str, list[Point]] = {}
    for method in group.methods:
        points = []
        if (clean := group.clean_entry(method)).summary is not None:
            values = tuple(clean.by_seed.values())
            points.append(Point(0, clean.summary.mean, clean.summary.half_width, values))
        for severity in sorted(severities):
            each = [
                group.entry(method, noise).by_seed
                for noises in kinds
                for noise in noises
                if noise.severity == severity
            ]
            runs = sorted(set.intersection(*(set(found) for found in each)), key=str)
            if runs:
                means = [sum(found[run] for found in each) / len(each) for run in runs]
                s = summarise(means)
                points.append(Point(severity, s.mean, s.half_width, tuple(means)))
        if any(point.x > 0 for point in points):
            curves[method] = points
    return curves
