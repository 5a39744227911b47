"""The sentences that a reader takes away from the advantage map, computed from its fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reprogram.figures.curves import count_text
from reprogram.report.advantage import Budget, verdicts
from reprogram.report.panels import Panel
from reprogram.report.robustness import noise_groups
from reprogram.report.sentence import listed, points, share
from reprogram.report.tables import bytes_text
from reprogram.report.verdict import Verdict

__all__ = ["limit_text", "noise_takeaways", "pair_takeaways", "takeaway"]


def limit_text(budget: Budget) -> str:
    """A budget in words."""
    if not budget.cost:
        return "no limit"
    if budget.cost == "stored_bytes":
        return f"at most {bytes_text(budget.limit)} stored"
    if budget.cost == "seconds":
        return f"at most {budget.limit:,.3g} s of training"
    return f"at most {budget.limit:,.0f} trained parameters"


def _frozen(choices: Sequence[Budget]) -> list[Budget]:
    """The largest limit on trained parameters that excludes somebody."""
    return [budget for budget in choices if budget.cost == "trainable_parameters"][-1:]


def takeaway(clean: Sequence[Panel], choices: Sequence[Budget]) -> str:
    """Who wins how many fields of the map, without a limit and with the largest that bites."""
    fields = [(panel, fraction) for panel in clean for fraction in panel.fractions]
    asked = [Budget(), *_frozen(choices)]
    columns = zip(*(verdicts(panel, fraction, asked) for panel, fraction in fields), strict=True)
    tallies = [(budget, _tally(list(found))) for budget, found in zip(asked, columns, strict=False)]
    return " ".join(f"With {limit_text(budget)}, {tally}." for budget, tally in tallies if tally)


def _tally(found: Sequence[Verdict]) -> str:
    """Who is ahead in how many fields; "" where nothing has been run."""
    wins: dict[str, int] = {}
    for verdict in found:
        if verdict.kind in ("resolved", "single"):
            wins[verdict.candidates[0]] = wins.get(verdict.candidates[0], 0) + 1
    ranked = sorted(wins, key=lambda method: (-wins[method], method))
    leads = [f"{method} in {wins[method]}" for method in ranked]
    parts = []
    if leads:
        leads[0] = f"{ranked[0]} is ahead in {wins[ranked[0]]} of {len(found)} fields"
        parts = [listed(leads)]
    if undecided := sum(verdict.kind == "unresolved" for verdict in found):
        count = f"{undecided} {'is' if undecided == 1 else 'are'}"
        parts.append(
            f"{count} not resolved" if leads else f"{undecided} of {len(found)} are not resolved"
        )
    return "; ".join(parts)


def pair_takeaways(clean: Sequence[Panel], choices: Sequence[Budget]) -> list[str]:
    """For every pair who wins at which images a class, with the source frozen and without a limit."""
    return [text for panel in clean if (text := _pair(panel, choices))]


def _pair(panel: Panel, choices: Sequence[Budget]) -> str:
    """The spans of sizes that a method wins, first within the largest limit that bites."""
    asked = [*_frozen(choices), Budget()]
    sizes = [f for f in panel.fractions if any(panel.entry(m, f).done for m in panel.methods)]
    if not sizes:
        return ""
    each = [verdicts(panel, fraction, asked) for fraction in sizes]
    within, free = ([found[i] for found in each] for i in (0, -1))
    where = f"On {panel.target} (from {panel.source})"
    text = ""
    if len(asked) > 1 and within != free and (told := _spans(panel, sizes, within)):
        text = f"{where}, with {limit_text(asked[0])}: {'; '.join(told)}. "
    needed = _needed(panel, free)
    allowed = f"with {needed} trained parameters allowed" if needed else "without a limit"
    start = f"{allowed[0].upper()}{allowed[1:]}" if text else f"{where}, {allowed}"
    return f"{text}{start}: {'; '.join(_spans(panel, sizes, free))}."


def _needed(panel: Panel, free: Iterable[Verdict]) -> str:
    """How many trained parameters the winners without a limit need, where that is known."""
    winners = {verdict.candidates[0] for verdict in free if verdict.candidates}
    needed = [c for m in winners if (c := panel.cost(m, "trainable_parameters")) is not None]
    return _amount(max(needed)) if needed else ""


def _amount(count: float) -> str:
    """A number of parameters in two digits.

    >>> _amount(272_474), _amount(1_010), _amount(11_700_000)
    ('0.27 M', '1,010', '12 M')
    """
    return f"{count / 1e6:.2g} M" if count >= 1e5 else f"{count:,.0f}"


def _spans(panel: Panel, sizes: Sequence[float], found: Sequence[Verdict]) -> list[str]:
    """A clause for every run of sizes with the same outcome."""
    spans: list[tuple[int, int]] = []  # first and last size
    for i, verdict in enumerate(found):
        before = found[spans[-1][0]] if spans else None
        if before and (before.kind, _names(before)) == (verdict.kind, _names(verdict)):
            spans[-1] = (spans[-1][0], i)
        else:
            spans.append((i, i))
    told = []
    for first, last in spans:
        where = _where(panel, sizes, first, last)
        told += [clause + where for clause in _clause(found[first : last + 1])]
    return told


def _names(verdict: Verdict) -> tuple[str, ...]:
    """What makes two outcomes the same: the winner, or all who cannot be told apart."""
    if verdict.kind == "unresolved":
        return tuple(sorted(verdict.candidates))
    return verdict.candidates[:1]


def _clause(span: Sequence[Verdict]) -> list[str]:
    """Who wins over a run of sizes, by how much at least."""
    kind, best = span[0].kind, span[0].candidates[:1]
    if kind == "empty":
        return []
    if kind == "only":
        return [f"{best[0]} is alone"]
    if kind == "unresolved":
        return [f"not resolved between {listed(sorted(span[0].candidates))}"]
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
        asked = [Budget(), *_frozen(choices)]
        each = [verdicts(panel, group.fraction, asked) for panel in group.noisy.values()]
        for i, budget in enumerate(asked):
            if tally := _tally([found[i] for found in each]):
                where = f"{group.pair}, noise on {group.split or 'the data'}"
                told.append(f"{where}, {limit_text(budget)}: {tally}.")
    return told
