"""The distance section: scatters, and the effects of distance and source accuracy set apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprogram.figures import PairMark, distance_scatter, inline_svg
from reprogram.report.distance import PRIMARY, DomainPair, domain_pairs
from reprogram.report.panels import CONTROL, Row
from reprogram.report.regression import Effect, Regression, corrected, regress
from reprogram.report.section import FigureGroup, Section, TextTable
from reprogram.report.sentence import listed
from reprogram.statistics import holm, p_text

__all__ = ["distance_figures", "distance_section"]

ACCURACY = "source accuracy"  # on its own test images, beside the distances
ALPHA = 0.05
FEW = 10  # pairs of one kind; with fewer a slope of their own would be noise

# (distance, method) -> what explains the method's accuracy
Regressions = Mapping[tuple[str, str], Regression]


def distance_section(rows: Sequence[Row], methods: Sequence[str]) -> Section | None:
    """Accuracy against each recorded distance and source accuracy; None where there is none."""
    pairs = _pairs(rows, methods)
    if not pairs:
        return None
    measures = _measures(pairs)
    found = {
        (measure, method): regression
        for measure in measures
        for method, each in pairs.items()
        if (regression := regress(each, measure)) is not None
    }
    lead = (
        "Pairs that share a source or a target are not independent: n is domains, not marks. "
        "Effects are percentage points of target accuracy for one standard deviation more, from "
        "least squares on the means of the pairs; beneath them a 95 % interval, a jackknife over "
        "domains with Student t. p is of a permutation of domains. One distance, "
        f"{PRIMARY}, was fixed beforehand; the others are secondary, and the sentences correct them "
        f"(Holm). Each method is tested by itself: over methods nothing is corrected, {PRIMARY} and "
        "source accuracy included."
    )
    sentences = [_sentence(method, found) for method in pairs if any(m == method for _, m in found)]
    if not sentences:
        sentences = ["Too few pairs of domains, or no two distances: no effect can be estimated."]
    if found and (text := _limit(list(found.values()), measures)):
        sentences.append(text)
    tables = [_table(found)] if found else []
    tables.append(_distances(next(iter(pairs.values())), measures))
    return Section("distance", "Distance", "Accuracy against distance", lead, sentences, tables)


def _pairs(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, list[DomainPair]]:
    """The pairs of domains of each method that has any."""
    names = [method for method in methods if not method.endswith(CONTROL)]
    return {method: found for method in names if (found := domain_pairs(rows, method))}


def _measures(pairs: Mapping[str, Sequence[DomainPair]]) -> list[str]:
    """Every distance, the primary first."""
    names = {m for found in pairs.values() for pair in found for m in pair.distance}
    return sorted(names, key=lambda name: (name != PRIMARY, name))


def _distances(pairs: Sequence[DomainPair], measures: Sequence[str]) -> TextTable:
    """The measured distances with their intervals."""
    lines = [
        [
            f"{pair.source} → {pair.target}",
            {True: "same", False: "other", None: "–"}[pair.same_classes],
            "–" if pair.source_accuracy is None else f"{100 * pair.source_accuracy:.1f} %",
            *(_distance(pair, measure) for measure in measures),
        ]
        for pair in pairs
    ]
    heads = ["pair", "classes", "source accuracy", *measures]
    return TextTable("Distances of the image sets, 95 % intervals beneath", heads, lines)


def _distance(pair: DomainPair, measure: str) -> str:
    """A distance, and its interval beneath."""
    if measure not in pair.distance:
        return "–"
    text = _number(pair.distance[measure])
    if measure in pair.interval:
        text += f"\n{' to '.join(map(_number, pair.interval[measure]))}"
    return text


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}"


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
                _points(one.distance.alone) if source else _effect(one.distance),
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
    """The effect, and its interval beneath."""
    if effect.interval is None:
        return _points(effect.size)
    return f"{_points(effect.size)}\n{' to '.join(map(_points, effect.interval))}"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _sentence(method: str, found: Regressions) -> str:
    """What distance and source accuracy do to one method: the primary distance, then the others."""
    mine = {measure: one for (measure, m), one in found.items() if m == method}
    name, first = next(iter(mine.items()))
    parts = [f"{method} ({_design(first)}):"]
    values = corrected({measure: one.distance for measure, one in mine.items()})
    if name == PRIMARY:
        held = " at equal source accuracy" if first.source else ""
        parts.append(
            f"one standard deviation more {name}{held} changes target accuracy by "
            f"{_told(first.distance, values.get(name))}."
        )
    others = {measure: one.distance for measure, one in mine.items() if measure != PRIMARY}
    if others:
        parts.append(_secondary(others, values))
    if first.source is None:
        parts.append(
            "Source accuracy is not known for all pairs, does not differ, or is the distance "
            "itself: its effect is not set apart."
        )
    else:
        parts.append(
            f"One standard deviation more source accuracy at equal {name} changes it by "
            f"{_told(first.source, first.source.p_value)}."
        )
    return " ".join(parts)


def _design(one: Regression) -> str:
    """What the numbers of a method rest on."""
    text = f"{one.domains} domains, {one.pairs} pairs"
    if 0 < one.disjoint < one.pairs:
        text += f", {one.disjoint} of them of other classes, which have a level of their own"
        if one.disjoint < FEW:
            text += " and are too few for a slope of their own"
    return text


def _told(effect: Effect, p: float | None) -> str:
    """Points, the interval, and whether it is resolved."""
    text = f"{_points(effect.size)} points"
    if effect.interval is not None:
        text += f" (95 % interval {' to '.join(map(_points, effect.interval))})"
    if p is None:
        return f"{text}, untested: no permutation of domains keeps the design"
    return f"{text}, {'resolved' if p < ALPHA else 'not resolved'} ({p_text(p)})"


def _secondary(effects: Mapping[str, Effect], values: Mapping[str, float]) -> str:
    """The range of the secondary effects, and which of them are resolved."""
    sizes = [effect.size for effect in effects.values()]
    low, high = _points(min(sizes)), _points(max(sizes))
    span = low if low == high else f"{low} to {high}"
    sure = [measure for measure in effects if values.get(measure, 1.0) < ALPHA]
    verdict = f"resolved for {listed(sure)}" if sure else "not resolved"
    kinds = listed(list(effects)) if len(effects) <= 3 else f"the {len(effects)} other distances"
    return f"By {kinds}, secondary: {span} points, {verdict}."


def _limit(found: Sequence[Regression], measures: Sequence[str]) -> str:
    """What the number of domains does not allow to be seen; "" where it allows all."""
    smallest = min(one.smallest_p for one in found)
    if smallest == 1.0:
        return ""  # the sentences say that nothing is tested
    secondary = sum(measure != PRIMARY for measure in measures)
    alone = smallest >= ALPHA
    if not alone and (not secondary or holm([smallest] + [1.0] * (secondary - 1))[0] < ALPHA):
        return ""
    ways = max(one.permutations for one in found)
    what = "an effect of any distance" if alone else "an effect of a secondary distance"
    text = f"This design cannot resolve {what}: {ways:,} permutations of domains allow no p below "
    text += f"{smallest:.3f}"
    if not alone:
        text += f", which is {min(1.0, secondary * smallest):.2f} after Holm over {secondary}"
    return text + ". Read the effects and their intervals; only more domains would resolve more."


def distance_figures(rows: Sequence[Row], methods: Sequence[str]) -> list[FigureGroup]:
    """A scatter for each distance and one for source accuracy, a mark a pair of domains."""
    from markupsafe import Markup

    pairs = _pairs(rows, methods)
    figures = []
    for place, name in enumerate([*_measures(pairs), ACCURACY]):
        marks = {method: marked for method, each in pairs.items() if (marked := _marks(each, name))}
        if not marks:
            continue
        words = "source accuracy on its own test images, %" if name == ACCURACY else ""
        figure = distance_scatter(marks, measure=name, xlabel=words)
        count = max(map(len, marks.values()))
        label = f"Test accuracy on the target against {name}, {count} pairs of domains."
        svg = Markup(inline_svg(figure, label=label, prefix=f"distance{place}"))
        caption = f"{name}; a mark a pair of domains, mean of its runs"
        if any(mark.low is not None for each in marks.values() for mark in each):
            caption += "; bars: 95 % interval of the distance"
        if any(mark.hollow for each in marks.values() for mark in each):
            caption += "; hollow: source and target have other classes"
        figures.append({"svg": svg, "caption": caption})
    return [FigureGroup(figures)] if figures else []


def _marks(pairs: Sequence[DomainPair], name: str) -> list[PairMark]:
    """The pairs that have the distance, or source accuracy."""
    marks = []
    for pair in pairs:
        own = pair.source_accuracy
        x = pair.distance.get(name) if name != ACCURACY else None if own is None else 100 * own
        if x is not None:
            low, high = pair.interval.get(name, (None, None))
            marks.append(PairMark(x, pair.accuracy, low, high, pair.same_classes is False))
    return marks
