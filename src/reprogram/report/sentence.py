"""Numbers and verdicts in words, as every part of the report writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reprogram.report.verdict import Verdict
from reprogram.statistics import Summary

__all__ = ["certainty", "listed", "percent", "points", "runs_text", "share", "signed"]


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
    """How sure it is who is ahead, with the n of the tests.

    >>> certainty(Verdict("unresolved", ("a", "b"), Summary(3, 0.9, 0.1), runs=(2,)))
    'not resolved against b (n = 2, Holm)'
    """
    assert verdict.summary is not None, "somebody is ahead"
    if verdict.kind == "only":
        return f"no other method to compare it with, n = {verdict.summary.n}"
    if verdict.kind == "single":
        if not any(verdict.runs):
            return "no seed in common with another method: not tested"
        return "n = 1: one run in common resolves no difference"
    tested = f"({runs_text(verdict.runs)}, Holm)"
    if verdict.kind == "unresolved":
        return f"not resolved against {listed(verdict.candidates[1:])} {tested}"
    return f"resolved against every other method {tested}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def runs_text(counts: Iterable[int]) -> str:
    """``n = 3``, or ``n = 1 to 3`` where means stand on different numbers of runs."""
    n = set(counts)
    return f"n = {min(n)}" if len(n) == 1 else f"n = {min(n)} to {max(n)}"
