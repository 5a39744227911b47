"""A study in words: who wins, the table of predictors, the kernel's own share, time."""

from __future__ import annotations

from collections.abc import Sequence

from reprogram.analysis.study.agreement import Agreement, Interval
from reprogram.analysis.study.evaluate import AIM, Candidate, Contest, Evaluation, counts
from reprogram.markdown import markdown_lines

__all__ = ["markdown", "text"]

COLUMNS = (
    "predictor, calibrated", "Spearman", "Pearson", "error", "error, one run", "gain: Spearman",
    "gain: error", "sources out: Spearman", "sources out: error", "time",
)  # fmt: skip
RAW_COLUMNS = ("predictor, raw", "Spearman with the accuracy", "Spearman with the gain")


def text(found: Evaluation) -> str:
    """The table and the sentences for a terminal."""
    table = _aligned(COLUMNS, _rows(found))
    raw = _aligned(RAW_COLUMNS, _raw_rows(found))
    return "\n".join([*table, _legend(found), "", *raw, "", *_sentences(found)])


def markdown(found: Evaluation) -> str:
    """The same for a README."""
    parts = [
        *_sentences(found), markdown_lines(COLUMNS, _rows(found)), _legend(found),
        markdown_lines(RAW_COLUMNS, _raw_rows(found)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _shown(found: Evaluation) -> list[Candidate]:
    """Of every predictor the better of its two fits, and all combinations of more."""
    best: dict[tuple[str, ...], Candidate] = {}
    for candidate in found.candidates:
        own = tuple(n for n in candidate.features if n != "unprompted") or candidate.features
        together = candidate.features if len(own) > 1 else own
        best.setdefault(together, candidate)
    return list(best.values())


def _rows(found: Evaluation) -> list[tuple[str, ...]]:
    rows = [(_named(found, c), *_numbers(c)) for c in _shown(found)]
    return [*rows, ("what a user gets: the best parts, chosen anew", *_numbers(found.user))]


def _named(found: Evaluation, candidate: Candidate) -> str:
    marks = [
        *(["wins"] if candidate is found.winner else []),
        *(["calibration.json"] if candidate.name == found.user.name else []),
    ]
    return f"{candidate.name} ({', '.join(marks)})" if marks else candidate.name


def _numbers(candidate: Candidate) -> tuple[str, ...]:
    accuracy, gain = (candidate.results[outcome, "target"] for outcome in ("accuracy", "gain"))
    sources = candidate.results["accuracy", "source"]
    return (
        _span(accuracy.spearman), _span(accuracy.pearson), _points(accuracy),
        _percent(accuracy.run_error), _span(gain.spearman), _points(gain), _span(sources.spearman),
        _points(sources), f"{100 * candidate.share:.1f} %",
    )  # fmt: skip


def _raw_rows(found: Evaluation) -> list[tuple[str, ...]]:
    names = dict.fromkeys(name for name, _ in found.raw)
    rows = [
        (name, *(_span(found.raw[name, outcome].spearman) for outcome in ("accuracy", "gain")))
        for name in names
    ]
    strength = {name: found.raw[name, "accuracy"].spearman.value or 0.0 for name in names}
    return sorted(rows, key=lambda row: -abs(strength[row[0]]))


def _legend(found: Evaluation) -> str:
    return (
        "Fits leave whole targets out, or whole sources; intervals (95 %) draw sources and targets "
        "anew. Errors are mean absolute errors in points; of a pair's mean, and of one run. Time is "
        f"the share of the training that is predicted. The best of {len(found.candidates)} fits is named "
        "by the errors it is reported with, so its own is a little too small; what a user gets is "
        "chosen without the target, or source, that it is tried on."
    )


def _sentences(found: Evaluation) -> list[str]:
    n = counts(found.pairs)
    lines = [
        f"{n['pairs']} pairs of {n['sources']} sources and {n['targets']} targets, {n['runs']} runs.",
        _winner_sentence(found),
        f"What a user gets is {found.user.name}: {_aim_sentence(found)}",
        _kernel_sentence(found),
        _time_sentence(found),
    ]
    if found.pairs.left_out:
        lines.append(f"Not known for every run, so left out: {', '.join(found.pairs.left_out)}.")
    return lines


def _winner_sentence(found: Evaluation) -> str:
    winner = found.winner
    words = (
        f"Leaving targets out, {winner.name} wins: {100 * winner.error:.1f} points, Spearman "
        f"{_span(winner.results['accuracy', 'target'].spearman)}."
    )
    return " ".join([words, *(_contest_sentence(contest) for contest in found.contests)])


def _contest_sentence(contest: Contest) -> str:
    resolved = "resolved" if contest.resolved else "not resolved"
    return f"{contest.second} is {_difference(contest.difference)} behind ({resolved})."


def _aim_sentence(found: Evaluation) -> str:
    reached = {name: "reached" if ok else "missed" for name, ok in found.aims().items()}
    result = found.user.results["accuracy", "target"]
    return (
        f"Spearman {_span(result.spearman)} (aim {AIM['spearman']:g}: {reached['spearman']}), "
        f"{100 * found.user.run_error:.1f} points of error in one run (aim {100 * AIM['error']:g}: "
        f"{reached['error']}), "
        f"{100 * found.user.share:.1f} % of the training's time (aim {100 * AIM['share']:g} %: "
        f"{reached['share']}); +- {100 * found.calibration.error:.1f} points for one run (95 %)."
    )


def _kernel_sentence(found: Evaluation) -> str:
    contest = found.kernel_contest
    resolved = "resolved" if contest.resolved else "not resolved"
    share = 100 * found.kernel_share
    does = (
        f"explains {share:.0f} % of the squared error that {contest.second} leaves"
        if share > 0
        else f"explains nothing that {contest.second} does not"
    )
    falls = contest.difference.value is None or contest.difference.value >= 0
    change = contest.difference if falls else _negated(contest.difference)
    return (
        f"The kernel's own share: its gain {does}; with it the mean error "
        f"{'falls' if falls else 'rises'} by {_difference(change)} ({resolved})."
    )


def _negated(found: Interval) -> Interval:
    ends = (found.value, found.high, found.low)
    return Interval(*(None if end is None else -end for end in ends))


def _time_sentence(found: Evaluation) -> str:
    times = found.times
    return (
        f"A forecast with all its parts takes {times.seconds:.1f} s in the median: "
        f"{100 * times.share:.1f} % of the training it predicts by the pace of a step beside the "
        f"forecast (projected), {100 * times.share_recorded:.1f} % as that was recorded, under the "
        f"grid's load, and {100 * times.share_complete:.2f} % of 50 epochs on the complete set "
        "(projected)."
    )


def _difference(found: Interval) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "an unknown number of points"
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.value:.1f} points ({low:.1f} to {high:.1f})"


def _span(found: Interval) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _points(found: Agreement) -> str:
    return _percent(found.error.value if found.error else None)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width; the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in (columns, *rows):
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "   ".join(cells).rstrip())
    return lines
