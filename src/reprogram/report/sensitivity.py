"""What more training images bring a method, and how much of it is owed to more steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from reprogram.report.panels import Entry, Panel
from reprogram.report.section import Section, TextTable
from reprogram.report.sentence import certainty, listed, percent, points, share, signed
from reprogram.report.verdict import Verdict, leader
from reprogram.statistics import Summary, summarise

__all__ = ["Sensitivity", "sensitivities", "sensitivity_section"]

Gains = Mapping[Hashable, float]
STEP_TOLERANCE = 0.02


@dataclass(frozen=True)
class Sensitivity:
    """One method on one pair, from the smallest data size to the largest.

    Attributes:
        method: Its name.
        small: Its runs at the smallest size.
        large: Its runs at the largest.
        control: Runs at the smallest size with the steps of the largest, where there are any.
    """

    method: str
    small: Entry
    large: Entry
    control: Entry

    @property
    def gains(self) -> Gains:
        """Accuracy gained in each trial, the number of epochs being equal."""
        return _difference(self.large, self.small)

    @property
    def by_images(self) -> Gains:
        """Accuracy gained in each trial, the number of optimiser steps being equal."""
        return _difference(self.large, self.control)

    @property
    def by_steps(self) -> Gains:
        """Accuracy gained in each trial by more steps with the same, few images."""
        return _difference(self.control, self.small)


def _difference(first: Entry, second: Entry) -> Gains:
    """Difference of accuracies in every trial that both have."""
    return {run: value - second.by_seed[run] for run, value in first.by_seed.items()
            if run in second.by_seed}  # fmt: skip


def sizes_of(panel: Panel) -> tuple[float, float] | None:
    """The smallest and the largest data size that a pair was asked for; None where there is one."""
    sizes = {fraction for _, fraction in panel.entries}
    return (min(sizes), max(sizes)) if len(sizes) > 1 else None


def sensitivities(panel: Panel) -> list[Sensitivity]:
    """Every method that has a gain; empty for a pair with a single size.

    A method whose steps do not depend on the size, such as one that trains nothing, is its own
    control; a control of other steps than the largest size takes is none.
    """
    if (sizes := sizes_of(panel)) is None:
        return []
    found = []
    for method in panel.methods:
        small, large = (panel.entry(method, size) for size in sizes)
        candidates = (small, panel.control(method, sizes[0]))
        control = next((entry for entry in candidates if _equal_steps(entry, large)), Entry(()))
        one = Sensitivity(method, small, large, control)
        found += [one] if one.gains else []
    return found


def _equal_steps(first: Entry, second: Entry) -> bool:
    """Whether two sizes were trained for the same number of steps, up to a last short epoch."""
    steps = first.typical("steps"), second.typical("steps")
    if steps[0] is None or steps[1] is None:
        return False
    return abs(steps[0] - steps[1]) <= STEP_TOLERANCE * steps[1]


def sensitivity_section(clean: Sequence[Panel]) -> Section | None:
    """Points gained, with the equal-steps control beside them; None where there is one size."""
    asked = [
        (panel, sizes, each)
        for panel in clean
        if (sizes := sizes_of(panel)) and (each := sensitivities(panel))
    ]
    if not asked:
        return None
    tables, sentences = [], []
    for panel, sizes, each in asked:
        tables += [_table(panel.pair, sizes, each), *_steps_table(panel)]
        sentences += [_sentence(panel, sizes, each), *_left_out(panel)]
    conclusion = _conclusion([(panel, each) for panel, _, each in asked])
    return Section(
        "sensitivity",
        "Sensitivity",
        "Sensitivity to data size",
        "Percentage points of test accuracy gained from the smallest training set to the largest, "
        "with 95 % intervals; methods are compared in pairs by seed, Holm-corrected over those of one "
        "pair. At equal epochs a smaller set also means fewer optimiser steps; the control trains on "
        "it for as many steps as the largest takes. A gain is what more steps bring on the same "
        "images plus what more images bring at equal steps.",
        [*([conclusion] if len(asked) > 1 else []), *sentences],
        tables,
    )


def _steps_table(panel: Panel) -> list[TextTable]:
    """Accuracy at equal steps over the sizes beneath that at equal epochs, where there are controls."""
    last = panel.fractions[-1]
    lines = []
    for method in panel.methods:
        large = panel.entry(method, last)
        fair = {f: e for f in panel.fractions[:-1]
                if _equal_steps(e := panel.control(method, f), large)}  # fmt: skip
        if fair:
            cells = [_both(panel.entry(method, f), fair.get(f)) for f in panel.fractions]
            lines.append([method, *cells])
    heads = ["method", *map(share, panel.fractions)]
    caption = f"{panel.pair}, accuracy % at equal epochs, and beneath it at as many steps as at "
    return [TextTable(caption + share(last), heads, lines)] if lines else []


def _both(epochs: Entry, steps: Entry | None) -> str:
    """A cell with both accuracies."""
    texts = [_plain(epochs), *([f"{_plain(steps)} at equal steps"] if steps else [])]
    return "\n".join(texts)


def _plain(entry: Entry) -> str:
    return percent(entry.summary).removesuffix(" %") if entry.summary else "–"


def _left_out(panel: Panel) -> list[str]:
    """Which controls are none, since they took another number of steps than the largest size."""
    last = panel.fractions[-1]
    told = []
    for (method, fraction), control in panel.controls.items():
        large = panel.entry(method, last)
        if control.done and large.done and not _equal_steps(control, large):
            took, takes = (_steps_text(entry) for entry in (control, large))
            told.append(f"{method} at {share(fraction)} ({took} steps, {takes} at {share(last)})")
    if not told:
        return []
    return [f"{panel.pair}, left out as controls, since their steps are not equal: {listed(told)}."]


def _steps_text(entry: Entry) -> str:
    steps = entry.typical("steps")
    return "unknown" if steps is None else f"{steps:,.0f}"


def _table(pair: str, sizes: tuple[float, float], each: Sequence[Sensitivity]) -> TextTable:
    """Accuracy at both ends and the gain with its two parts."""
    low, high = (share(size) for size in sizes)
    heads = ["method", f"at {low}", f"at {high}", "gained", f"at {low}, equal steps"]
    heads += ["by more steps", "by more images", "n"]
    lines = []
    for one in each:
        entries = (one.small, one.large, one.control)
        small, large, control = (percent(e.summary) if e.summary else "–" for e in entries)
        parts = [signed(_summary(gains)) for gains in (one.gains, one.by_steps, one.by_images)]
        n = str(len(one.gains))
        if one.by_images and len(one.by_images) != len(one.gains):
            n += f", control {len(one.by_images)}"
        lines.append([one.method, small, large, parts[0], control, parts[1], parts[2], n])
    return TextTable(f"{pair}, points gained from {low} to {high}", heads, lines)


def _summary(gains: Gains) -> Summary | None:
    """Mean and interval, None of nothing."""
    return summarise(list(gains.values())) if gains else None


def _sentence(panel: Panel, sizes: tuple[float, float], each: Sequence[Sensitivity]) -> str:
    """Who gains the most on one pair, at equal epochs and at equal steps."""
    verdict = leader({one.method: one.gains for one in each}, panel.images)
    best = next(one for one in each if one.method == verdict.candidates[0])
    gain = _summary(best.gains)
    assert gain is not None, "a leader has gains"
    low, high = (share(size) for size in sizes)
    verb = "gains the most" if gain.mean > 0 else "loses the least"
    text = (
        f"{panel.pair}, from {low} to {high} of the training images: at equal epochs {best.method} "
    )
    text += f"{verb}, {points(gain)}; {certainty(verdict)}."
    left = _summary(best.by_images)
    if left is not None:
        by_steps = _summary(best.by_steps)
        assert by_steps is not None, "images and steps share their control"
        text += (
            f" Of these, more images bring {signed(left)} points at equal steps, and more steps "
        )
        text += f"on the same images {signed(by_steps)} points."
    fair = leader({one.method: one.by_images for one in each}, panel.images)
    if fair.kind not in ("empty", "only"):
        assert fair.summary is not None
        text += (
            f" At equal steps {fair.candidates[0]} gains the most, {signed(fair.summary)} points"
        )
        text += f"; {certainty(fair)}."
    return text


def _conclusion(pairs: Sequence[tuple[Panel, Sequence[Sensitivity]]]) -> str:
    """Which method is the most sensitive to data size, over all pairs."""
    parts = []
    ways: dict[str, Callable[[Sensitivity], Gains]] = {
        "At equal epochs": lambda one: one.gains,
        "at equal steps": lambda one: one.by_images,
    }
    for how, gains in ways.items():
        found = {
            panel.pair: leader({one.method: gains(one) for one in each}, panel.images)
            for panel, each in pairs
        }
        tested = {p: v for p, v in found.items() if v.kind in ("resolved", "unresolved")}
        if tested:
            parts.append(f"{how}, {_tally(tested)}")
    if not parts:
        return (
            "Which method is the most sensitive to data size cannot be resolved from single runs."
        )
    return "Which method is the most sensitive to data size? " + "; ".join(parts) + "."


def _tally(verdicts: Mapping[str, Verdict]) -> str:
    """Who is ahead on which pair, and where that is not resolved."""
    wins: dict[str, list[str]] = {}
    for pair, verdict in verdicts.items():
        best = verdict.candidates[0] if verdict.kind == "resolved" else ""
        wins.setdefault(best, []).append(pair)
    open_ = wins.pop("", [])
    parts = [f"{method} on {listed(pairs)}" for method, pairs in wins.items()]
    return ", ".join(parts + ([f"not resolved on {listed(open_)}"] if open_ else []))
