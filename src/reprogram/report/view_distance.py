"""The distance section: scatters, and the effects of distance and source accuracy set apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprogram.figures import distance_scatter, inline_svg
from reprogram.report.distance import DomainPair, domain_pairs
from reprogram.report.panels import CONTROL, Row
from reprogram.report.regression import Effect, Regression, regress
from reprogram.report.section import FigureGroup, Section, TextTable
from reprogram.report.sentence import listed
from reprogram.report.statistics import holm

__all__ = ["distance_figures", "distance_section"]

ACCURACY = "source accuracy"  # on its own test images, beside the distances
ALPHA = 0.05

# (distance, method) -> what explains the method's accuracy
Regressions = Mapping[tuple[str, str], Regression]


def distance_section(rows: Sequence[Row], methods: Sequence[str]) -> Section | None:
    """Accuracy against each recorded distance and source accuracy; None where there is none."""
    pairs = _pairs(rows, methods)
    if not pairs:
        return None
    measures = sorted({m for found in pairs.values() for pair in found for m in pair.distance})
    found = {
        (measure, method): regression
        for measure in measures
        for method, each in pairs.items()
        if (regression := regress(each, measure)) is not None
    }
    lead = (
        "Pairs that share a source or a target are not independent: n is domains, not marks. "
        "Effects are percentage points of target accuracy for one standard deviation more, from "
        "least squares on the means of the pairs; beneath them the range when one domain is left "
        "out. p is of a permutation of domains, not corrected for the number of rows; the "
        "sentences correct it (Holm)."
    )
    sentences = [_sentence(method, found) for method in pairs if any(m == method for _, m in found)]
    if not sentences:
        sentences = ["Too few pairs of domains, or no two distances: no effect can be estimated."]
    tables = [_table(found)] if found else []
    return Section("distance", "Distance", "Accuracy against distance", lead, sentences, tables)


def _pairs(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, list[DomainPair]]:
    """The pairs of domains of each method that has any."""
    names = [method for method in methods if not method.endswith(CONTROL)]
    return {method: found for method in names if (found := domain_pairs(rows, method))}


def _table(found: Regressions) -> TextTable:
    """Both effects of every distance and method."""
    heads = ["distance, method", "distance alone", "distance, source accuracy held", "p"]
    heads += ["source accuracy alone", "source accuracy, distance held", "p", "R²", "correlation"]
    heads += ["n"]
    lines = []
    for (measure, method), one in found.items():
        source = one.source
        lines.append(
            [
                f"{measure}\n{method}",
                _points(one.distance.alone),
                _effect(one.distance) if source else "–",
                _p(one.distance.p_value),
                _points(source.alone) if source else "–",
                _effect(source) if source else "–",
                _p(source.p_value) if source else "–",
                f"{one.r_squared:.2f}",
                "–"
                if one.correlation is None
                else f"{round(one.correlation, 2) + 0.0:.2f}".replace("-", "−"),
                f"{one.domains} domains\n{one.pairs} pairs",
            ]
        )
    return TextTable("Effects on target accuracy, points a standard deviation", heads, lines)


def _points(effect: float) -> str:
    return f"{round(100 * effect, 1) + 0.0:+.1f}".replace("-", "−")


def _effect(effect: Effect) -> str:
    """The partial effect, and its range when a domain is left out beneath."""
    assert effect.beside is not None, "there is another regressor"
    if effect.span is None:
        return _points(effect.beside)
    return f"{_points(effect.beside)}\n{_points(effect.span[0])} to {_points(effect.span[1])}"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _sentence(method: str, found: Regressions) -> str:
    """What distance and source accuracy do to one method, over all distances."""
    mine = {measure: one for (measure, m), one in found.items() if m == method}
    apart = {measure: one for measure, one in mine.items() if one.source is not None}
    used = apart or mine
    first = next(iter(used.values()))
    kinds = listed(list(used)) if len(used) <= 3 else f"{len(used)} distances"
    effects = {measure: _size(one.distance) for measure, one in used.items()}
    held = " at equal source accuracy" if apart else ""
    text = f"{method} ({first.domains} domains, {first.pairs} pairs): one standard deviation more "
    text += f"distance{held} changes target accuracy by {_range(list(effects.values()))} points "
    tried = f"{first.permutations:,} permutations of domains"
    distances = [one.distance for one in used.values()]
    text += f"({kinds}); {_resolution(distances, list(used), tried)}."
    if not apart:
        return text + " Source accuracy is not known for all pairs, does not differ, or is the "\
            "distance itself: its effect is not set apart."  # fmt: skip
    sources = [one.source for one in apart.values() if one.source is not None]
    text += " One standard deviation more source accuracy at equal distance changes it by "
    text += f"{_range([_size(effect) for effect in sources])} points; "
    return text + f"{_resolution(sources, list(apart), tried)}."


def _size(effect: Effect) -> float:
    """The effect beside the other regressor, or alone where there is no other."""
    return effect.alone if effect.beside is None else effect.beside


def _range(effects: Sequence[float]) -> str:
    """One number, or the smallest and the largest."""
    low, high = _points(min(effects)), _points(max(effects))
    return low if low == high else f"{low} to {high}"


def _resolution(effects: Sequence[Effect], measures: Sequence[str], tried: str) -> str:
    """Which of them are resolved, Holm-corrected over the distances."""
    values = [effect.p_value for effect in effects]
    tested = [(m, v) for m, v in zip(measures, values, strict=True) if v is not None]
    if not tested:
        return "no permutation of domains keeps the design, so nothing is tested"
    corrected = holm([value for _, value in tested])
    sure = [m for (m, _), p in zip(tested, corrected, strict=True) if p < ALPHA]
    smallest = f"smallest Holm p {min(corrected):.3f} of {tried}"
    if not sure:
        return f"not resolved ({smallest})"
    which = "resolved" if len(sure) == len(measures) else f"resolved for {listed(sure)}"
    return f"{which} ({smallest})"


def distance_figures(rows: Sequence[Row], methods: Sequence[str]) -> list[FigureGroup]:
    """A scatter for each distance and one for source accuracy, a mark a pair of domains."""
    from markupsafe import Markup

    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for method, pairs in _pairs(rows, methods).items():
        for pair in pairs:
            values = dict(sorted(pair.distance.items()))
            if pair.source_accuracy is not None:
                values[ACCURACY] = 100 * pair.source_accuracy
            for name, value in values.items():
                found.setdefault(name, {}).setdefault(method, []).append((value, pair.accuracy))
    figures = []
    for place, (name, marks) in enumerate(found.items()):
        own = name == ACCURACY
        words = "source accuracy on its own test images, %" if own else ""
        figure = distance_scatter(marks, measure=name, xlabel=words)
        count = max(map(len, marks.values()))
        label = f"Test accuracy on the target against {name}, {count} pairs of domains."
        svg = Markup(inline_svg(figure, label=label, prefix=f"distance{place}"))
        figures.append(
            {"svg": svg, "caption": f"{name}; a mark a pair of domains, mean of its runs"}
        )
    return [FigureGroup(figures)] if figures else []
