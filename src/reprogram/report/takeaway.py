"""The sentences that a reader takes away from the advantage map, computed from its fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reprogram.figures.curves import count_text
from reprogram.report.advantage import Budget, printed, verdicts
from reprogram.report.panels import Panel
from reprogram.report.robustness import noise_groups
from reprogram.report.sentence import listed, points, share
from reprogram.report.tables import bytes_text
from reprogram.report.verdict import Verdict

__all__ = ["FAMILY", "limit_text", "noise_takeaways", "pair_takeaways", "takeaway"]

FAMILY = (
    "Each field is tested by itself, Holm-corrected over its methods. Fields share runs, seeds and "
    "test images: counts of fields are not corrected over them."
)


def limit_text(budget: Budget) -> str:
    """A budget in words."""
    if not budget.cost:
        return "no limit"
    if budget.cost == "stored_bytes":
        return f"at most {bytes_text(budget.limit)} stored"
    if budget.cost == "training_flops":
        return f"at most {operations_text(budget.limit)} of training"
    return f"at most {budget.limit:,.0f} trained parameters"


def operations_text(count: float) -> str:
    """A number of floating-point operations in two digits.

    >>> operations_text(1.24e13), operations_text(3.4e9)
    ('12 TFLOP', '3.4 GFLOP')
    """
    units = [(1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")]
    unit, name = next((u for u in units if count >= 0.995 * u[0]), (1.0, "FLOP"))
    return f"{float(f'{count / unit:.2g}'):g} {name}"


def takeaway(clean: Sequence[Panel], choices: Sequence[Budget]) -> str:
    """Who wins how many fields of the map, without a limit and with the largest that bites."""
    fields = [(panel, fraction) for panel in clean for fraction in panel.fractions]
    asked = printed(choices)
    columns = zip(*(verdicts(panel, fraction, asked) for panel, fraction in fields), strict=True)
    tallies = [(budget, _tally(list(found))) for budget, found in zip(asked, columns, strict=False)]
    return " ".join(f"With {limit_text(budget)}, {tally}." for budget, tally in tallies if tally)


def _tally(found: Sequence[Verdict]) -> str:
    """Who is ahead in how many fields that were tested; "" where nothing has been run."""
    kinds = [verdict.kind for verdict in found]
    tested = kinds.count("resolved") + kinds.count("unresolved")
    wins: dict[str, int] = {}
    for verdict in found:
        if verdict.kind == "resolved":
            wins[verdict.candidates[0]] = wins.get(verdict.candidates[0], 0) + 1
    ranked = sorted(wins, key=lambda method: (-wins[method], method))
    of = f"of {_count(tested, 'tested field')}"
    parts = []
    if ranked:
        leads = [f"{method} in {wins[method]}" for method in ranked]
        leads[0] = f"{ranked[0]} is ahead in {wins[ranked[0]]} {of}"
        parts = [listed(leads)]
    if undecided := kinds.count("unresolved"):
        verb = "is" if undecided == 1 else "are"
        parts.append(f"{undecided} {'' if ranked else of + ' '}{verb} not resolved")
    if single := kinds.count("single"):
        parts.append(
            f"{_count(single, 'field')} with one run a method {'is' if single == 1 else 'are'} not tested"
        )
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def pair_takeaways(clean: Sequence[Panel], choices: Sequence[Budget]) -> list[str]:
    """For every pair who wins at which images a class, with the source frozen and without a limit."""
    return [text for panel in clean if (text := _pair(panel, choices))]


def _pair(panel: Panel, choices: Sequence[Budget]) -> str:
    """The spans of sizes that a method wins, first within the largest limit that bites."""
    asked = printed(choices)[::-1]
    sizes = [f for f in panel.fractions if any(panel.entry(m, f).done for m in panel.methods)]
    if not sizes:
        return ""
    each = [verdicts(panel, fraction, asked) for fraction in sizes]
    within, free = ([found[i] for found in each] for i in (0, -1))
    where = f"On {panel.place} (from {panel.source})"
    told = {i: "; ".join(_spans(panel, sizes, found)) for i, found in ((0, within), (-1, free))}
    if len(asked) > 1 and told[0] and told[0] != told[-1]:
        start = f"{where}, with {limit_text(asked[0])}: {told[0]}. With"
    else:
        start = f"{where}, with"
    needed = _needed(panel, free)
    allowed = f"{needed} trained parameters allowed" if needed else "no limit"
    if not needed and told[0] == told[-1] and len(asked) > 1:
        allowed = f"{limit_text(asked[0])} or with no limit"
    return f"{start} {allowed}: {told[-1]}."


def _needed(panel: Panel, free: Iterable[Verdict]) -> str:
    """How many trained parameters the winners without a limit need, where somebody wins."""
    winners = {v.candidates[0] for v in free if v.candidates and v.kind != "unresolved"}
    needed = [c for m in winners if (c := panel.cost(m, "trainable_parameters")) is not None]
    return _amount(max(needed)) if needed else ""


def _amount(count: float) -> str:
    """A number of parameters in two digits.

    >>> _amount(272_474), _amount(1_010), _amount(11_700_000)
    ('0.27 M', '1,010', '12 M')
    """
    return f"{count / 1e6:.2g} M" if count >= 1e5 else f"{count:,.0f}"


def _spans(panel: Panel, sizes: Sequence[float], found: Sequence[Verdict]) -> list[str]:
    """A clause for every run of sizes with the same winner, and one for all that are open."""
    spans: list[tuple[int, int]] = []  # first and last size
    for i, verdict in enumerate(found):
        before = found[spans[-1][0]] if spans else None
        if before and _outcome(before) == _outcome(verdict):
            spans[-1] = (spans[-1][0], i)
        else:
            spans.append((i, i))
    told = []
    for first, last in spans:
        where = _where(panel, sizes, first, last)
        told += [clause + where for clause in _clause(found[first : last + 1])]
    open_ = [i for i, verdict in enumerate(found) if verdict.kind == "unresolved"]
    if len(open_) == 1:
        told.append("not resolved" + _where(panel, sizes, open_[0], open_[0]))
    elif open_:
        which = "any size" if len(open_) == len(sizes) else f"{len(open_)} of {len(sizes)} sizes"
        told.append(f"not resolved at {which}")
    return told


def _outcome(verdict: Verdict) -> tuple[str, tuple[str, ...]]:
    """What makes two outcomes the same: the kind and the winner, or that there is none."""
    return verdict.kind, () if verdict.kind == "unresolved" else verdict.candidates[:1]


def _clause(span: Sequence[Verdict]) -> list[str]:
    """Who wins over a run of sizes, by how much at least."""
    kind, best = span[0].kind, span[0].candidates[:1]
    if kind in ("empty", "unresolved"):
        return []
    if kind == "only":
        return [f"{best[0]} is alone"]
    gaps = [v.against for v in span if v.against is not None and v.against.difference is not None]
    closest = min(gaps, key=lambda c: c.difference.mean if c.difference else 0.0, default=None)
    if closest is None or closest.difference is None:  # the others share no seed with the best
        return [f"{best[0]} is ahead"]
    more = " or more" if len(span) > 1 else ""
    verb = "beats" if kind == "resolved" else "is ahead, not tested, of"
    return [f"{best[0]} {verb} {closest.other} by {points(closest.difference)}{more}"]


def _where(panel: Panel, sizes: Sequence[float], first: int, last: int) -> str:
    """A run of sizes in words, in images a class where they are known."""
    if first == 0 and last == len(sizes) - 1 and first != last:
        return " at every size"
    counts = panel.per_class
    known = all(size in counts for size in sizes)
    low, high = (count_text(counts[sizes[i]]) if known else share(sizes[i]) for i in (first, last))
    what = " images a class" if known else " of the images"
    if first == last:
        return f" at {high}{what}"
    if first == 0:
        return f" up to {high}{what}"
    return f" from {low}{what}" if last == len(sizes) - 1 else f" from {low} to {high}{what}"


def noise_takeaways(everything: Sequence[Panel], choices: Sequence[Budget]) -> list[str]:
    """For every pair and noisy split who wins under how many noises."""
    told = []
    for group in noise_groups(everything):
        asked = printed(choices)
        each = [verdicts(panel, group.fraction, asked) for panel in group.noisy.values()]
        for i, budget in enumerate(asked):
            if tally := _tally([found[i] for found in each]):
                where = f"{group.panel.pair}, noise on {group.split}"
                told.append(f"{where}, {limit_text(budget)}: {tally}.")
    return told
