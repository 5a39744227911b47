"""The answer in a sentence or two, computed from the rows and never written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reprogram.report.panels import Panel
from reprogram.report.statistics import Comparison, Summary, compare
from reprogram.report.verdict import Verdict

__all__ = ["answer", "answer_for", "certainty", "is_prompt", "listed", "percent", "points"]
__all__ += ["runs_text", "share", "signed"]

# How a reader calls a target; any other is "the NAME test images".
_CALLED = {"digits": "the digits"}
_BASELINES = {
    "linear-probe": "a linear probe on the same network",
    "head-finetune": "a new head on its features",
    "full-finetune": "full fine-tuning",
}


MAX_NAMED = 4  # pairs in a sentence


def percent(summary: Summary) -> str:
    """A mean accuracy in per cent with its interval, where there is one.

    >>> percent(Summary(1, 0.978, None)), percent(Summary(3, 0.978, 0.004))
    ('97.8 %', '97.8 ± 0.4 %')
    """
    half = "" if summary.half_width is None else f" ± {100 * summary.half_width:.1f}"
    return f"{100 * summary.mean:.1f}{half} %"


def points(difference: Summary) -> str:
    """A difference of accuracies in percentage points, without its sign."""
    half = "" if difference.half_width is None else f" ± {100 * difference.half_width:.1f}"
    return f"{100 * abs(difference.mean):.1f}{half} points"


def share(fraction: float) -> str:
    """A data size: ``20%``, as in the heads of the tables."""
    return f"{100 * fraction:g}%"


def signed(difference: Summary | None) -> str:
    """A difference of accuracies in percentage points with its sign and interval, for a table.

    >>> signed(Summary(3, -0.021, 0.004)), signed(None)
    ('−2.1 ± 0.4', '–')
    """
    if difference is None:
        return "–"
    half = "" if difference.half_width is None else f" ± {100 * difference.half_width:.1f}"
    return f"{round(100 * difference.mean, 1) + 0.0:+.1f}".replace("-", "−") + half


def certainty(verdict: Verdict) -> str:
    """How sure it is who is ahead, with n.

    >>> certainty(Verdict("unresolved", ("a", "b"), Summary(3, 0.9, 0.1)))
    'not resolved against b (n = 3, Holm)'
    """
    assert verdict.summary is not None, "somebody is ahead"
    runs = f"n = {verdict.summary.n}"
    if verdict.kind == "only":
        return f"no other method to compare it with, {runs}"
    if verdict.kind == "single":
        return f"{runs}: one run a cell resolves no difference"
    tested = f"({runs}, Holm)"
    if verdict.kind == "unresolved":
        return f"not resolved against {listed(verdict.candidates[1:])} {tested}"
    return f"resolved against every other method {tested}"


def is_prompt(method: str) -> bool:
    """Whether a method trains a prompt in front of the frozen network."""
    return method not in _BASELINES and not method.startswith("none+")


def answer(panels: Sequence[Panel]) -> str:
    """What was found, with n: for one or two pairs in numbers, for more as a tally over targets."""
    told = [sentence for panel in panels if (sentence := answer_for(panel))]
    if len(told) <= 2:
        return " ".join(told)
    return _tally(panels)


def _tally(panels: Sequence[Panel]) -> str:
    """On which pairs the best prompt is ahead of its rival, on which behind.

    The rival is the best frozen baseline; full fine-tuning where no pair has one.
    """
    names = ("linear-probe", "head-finetune")
    probed = any(p.entry(m, _at_largest(p)[1]).done for p in panels for m in names)
    rivals, rival = (
        (names, "the best probe") if probed else (("full-finetune",), "full fine-tuning")
    )
    groups: dict[str, dict[str, Summary | None]] = {"ahead": {}, "behind": {}, "unresolved": {}}
    sources = {panel.source for panel in panels}
    runs: dict[str, Summary] = {}
    for panel in panels:
        name = panel.target if len(sources) == 1 else f"{panel.source} → {panel.target}"
        found, fraction = _at_largest(panel)
        runs |= {f"{name} {method}": summary for method, summary in found.items()}
        prompts = sorted((m for m in found if is_prompt(m)), key=lambda m: -found[m].mean)
        frozen = [m for m in rivals if m in found]
        if not prompts or not frozen:
            continue
        against = _against_best(panel, prompts[0], frozen, fraction, found)
        if against.difference is None or not against.resolved:
            groups["unresolved"][name] = None
        else:
            side = "ahead" if against.difference.mean > 0 else "behind"
            groups[side][name] = against.difference
    total = sum(map(len, groups.values()))
    parts = [
        f"{words} on {_places(groups[side], total)}"
        for side, words in (
            ("ahead", f"ahead of {rival}"),
            ("behind", "behind it" if groups["ahead"] else f"behind {rival}"),
            ("unresolved", f"not resolved against {rival}"),
        )
        if groups[side]
    ]
    if not parts:
        return f"Results on {len(panels)} pairs of source and target ({_runs(runs)})."
    text = "With the network frozen, the best prompt is " + "; ".join(parts)
    return f"{text} ({_runs(runs)}, paired by seed, Holm-corrected)."


def _places(found: dict[str, Summary | None], total: int) -> str:
    """Pairs by name with their differences; many of them as a count with the range."""
    if len(found) <= MAX_NAMED:
        return listed([f"{n} ({points(d)})" if d else n for n, d in found.items()])
    sizes = [100 * abs(difference.mean) for difference in found.values() if difference]
    span = f" ({min(sizes):.1f} to {max(sizes):.1f} points)" if sizes else ""
    return f"{len(found)} of {total} pairs{span}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _at_largest(panel: Panel) -> tuple[dict[str, Summary], float]:
    """Every method's summary at the largest data size with any result, and that size."""
    fraction = max((f for (_, f), e in panel.entries.items() if e.done), default=1.0)
    entries = {m: panel.entry(m, fraction).summary for m in panel.methods}
    return {m: s for m, s in entries.items() if s is not None}, fraction


def _against_best(
    panel: Panel, prompt: str, frozen: Sequence[str], fraction: float, found: dict[str, Summary]
) -> Comparison:
    """The prompt against the best frozen baseline, Holm-corrected over all of them."""
    accuracies = {m: panel.entry(m, fraction).by_seed for m in [prompt, *frozen]}
    rival = max(frozen, key=lambda m: found[m].mean)
    return next(c for c in compare(prompt, accuracies) if c.other == rival)


def answer_for(panel: Panel) -> str:
    """Prompt, probes and full fine-tuning on one target at its largest training set.

    Returns:
        One to three sentences; empty where nothing has finished.
    """
    found, fraction = _at_largest(panel)
    if not found:
        return ""
    prompts = [m for m in found if is_prompt(m)]
    called = _CALLED.get(panel.target, f"the {panel.target} test images")
    if not prompts:
        best = max(found, key=lambda m: found[m].mean)
        text = f"{best} reads {percent(found[best])} of {called}"
        text += f", the most of {len(found)} methods" if len(found) > 1 else ""
        return f"{text} ({_runs(found)})."
    prompt = max(prompts, key=lambda m: found[m].mean)
    size = panel.cost(prompt, "trainable_parameters")
    noun = f"a {size:,.0f}-parameter prompt" if size else "a prompt"
    first = f"With the network frozen, {noun} ({prompt}) reads {percent(found[prompt])} of {called}"
    probes = [f"{_BASELINES[m]} {percent(found[m])}" for m in _BASELINES if m in found]
    full = probes.pop() if probes and "full-finetune" in found else ""
    text = first + "".join(f"; {probe}" for probe in probes) + "."
    if full:
        cost = panel.cost("full-finetune", "trainable_parameters")
        trained = f", which trains {cost:,.0f} parameters," if cost else ""
        what, value = "Full fine-tuning", percent(found["full-finetune"])
        text += f" {what}{trained} reads {value}."
    return f"{text} {_resolution(panel, prompt, fraction, found)}"


def _resolution(panel: Panel, prompt: str, fraction: float, found: dict[str, Summary]) -> str:
    """How sure the first comparison is: the prompt against the best frozen baseline."""
    frozen = [m for m in ("linear-probe", "head-finetune") if m in found]
    if not frozen:
        return f"({_runs(found)}.)"
    against = _against_best(panel, prompt, frozen, fraction, found)
    rival = against.other
    if against.difference is None or against.p_value is None:
        return f"({_runs(found)}; one run a cell resolves no difference.)"
    if not against.resolved:
        return f"(Prompt against {rival}: not resolved; {_runs(found)}.)"
    which = "ahead of" if against.difference.mean > 0 else "behind"
    text = f"The prompt is {points(against.difference)} {which} {rival}"
    p = "< 0.001" if against.p_value < 0.001 else f"= {against.p_value:.3f}"
    return f"{text} ({_runs(found)}, paired by seed, Holm p {p})."


def _runs(found: dict[str, Summary]) -> str:
    """How many runs stand behind the means."""
    return runs_text([s.n for s in found.values()])


def runs_text(counts: Iterable[int]) -> str:
    """``n = 3``, or ``n = 1 to 3`` where means stand on different numbers of runs."""
    n = set(counts)
    return f"n = {min(n)}" if len(n) == 1 else f"n = {min(n)} to {max(n)}"
