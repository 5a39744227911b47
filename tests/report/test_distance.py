"""Accuracy explained by distance and source accuracy, against least squares by hand."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from report.sample_rows import sample_rows

from reprogram.errors import InputError
from reprogram.figures import PairMark, distance_scatter
from reprogram.report import with_distances, write_report
from reprogram.report.distance import DomainPair, domain_pairs
from reprogram.report.regression import Effect, corrected, regress
from reprogram.report.view_distance import distance_section

DOMAINS = ("photo", "art", "cartoon", "sketch", "quickdraw")
OWN = dict(zip(DOMAINS, (0.9, 0.7, 0.8, 0.6, 0.85), strict=True))


def pairs(distance_effect: float, source_effect: float, noise: float = 0.0) -> list[DomainPair]:
    """All ordered pairs of five domains; accuracy is linear in both regressors."""
    rng = np.random.default_rng(0)
    found = []
    for source, target in itertools.permutations(DOMAINS, 2):
        distance = rng.uniform(1, 5)
        accuracy = 0.5 + distance_effect * distance + source_effect * OWN[source]
        accuracy += noise * rng.standard_normal()
        found.append(DomainPair(source, target, accuracy, OWN[source], {"fid": distance}))
    return found


def test_the_effects_of_both_are_separated():
    found = regress(pairs(-0.03, 0.4), "fid")
    assert found is not None and found.source is not None
    each = pairs(-0.03, 0.4)
    scale = np.std([p.distance["fid"] for p in each], ddof=1)
    own = np.std([p.source_accuracy for p in each], ddof=1)
    assert found.distance.beside == pytest.approx(-0.03 * scale)
    assert found.source.beside == pytest.approx(0.4 * own)
    assert found.r_squared == pytest.approx(1.0)
    # exact: no domain matters
    assert found.distance.interval == pytest.approx((-0.03 * scale,) * 2)
    assert (found.pairs, found.domains, found.permutations) == (20, 5, 120)
    assert found.smallest_p == pytest.approx(1 / 120)


def test_coefficients_against_least_squares():
    each = pairs(-0.03, 0.4, noise=0.05)
    found = regress(each, "fid")
    assert found is not None and found.source is not None
    z = [scipy.stats.zscore(v, ddof=1) for v in zip(*[(p.distance["fid"], p.source_accuracy)
         for p in each], strict=True)]  # fmt: skip
    y = np.array([p.accuracy for p in each])
    x = np.column_stack([np.ones(len(y)), *z])
    expected, squares, *_ = np.linalg.lstsq(x, y, rcond=None)
    assert (found.distance.beside, found.source.beside) == pytest.approx(tuple(expected[1:]))
    alone = scipy.stats.linregress(z[0], y)
    assert found.distance.alone == pytest.approx(alone.slope)
    assert found.r_squared == pytest.approx(1 - squares[0] / ((y - y.mean()) ** 2).sum())
    assert found.correlation == pytest.approx(scipy.stats.pearsonr(*z).statistic)


def test_the_p_value_is_the_share_of_relabellings():
    """Slowly: rename the domains, regress anew, compare |t|."""
    each = pairs(0.005, 0.4, noise=0.08)
    found = regress(each, "fid")
    assert found is not None
    index = {(p.source, p.target): i for i, p in enumerate(each)}
    distance, own = (
        scipy.stats.zscore(v, ddof=1)
        for v in ([p.distance["fid"] for p in each], [p.source_accuracy for p in each])
    )
    y = np.array([p.accuracy for p in each])
    rest = distance - np.polyval(np.polyfit(own, distance, 1), own)

    def strength(x: np.ndarray) -> float:
        design = np.column_stack([np.ones(len(y)), x, own])
        beta, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
        variance = squares[0] / (len(y) - 3) * np.linalg.inv(design.T @ design)[1, 1]
        return abs(float(beta[1])) / float(variance) ** 0.5

    strengths = []
    for names in itertools.permutations(DOMAINS):
        new = dict(zip(DOMAINS, names, strict=True))
        strengths.append(strength(rest[[index[new[p.source], new[p.target]] for p in each]]))
    observed = strength(rest)
    expected = np.mean([value >= observed * (1 - 1e-9) for value in strengths])
    assert found.distance.p_value == pytest.approx(expected)
    assert 1 / 120 < expected < 1


def test_only_domains_of_one_role_change_places():
    each = [p for p in pairs(-0.03, 0.4, noise=0.05) if p.target != "quickdraw"]
    found = regress(each, "fid")
    assert found is not None and found.permutations == 24  # quickdraw is a source alone
    few = [p for p in each if (p.source, p.target) != ("photo", "art")]
    broken = regress(few, "fid")
    assert broken is not None and broken.permutations == 2  # what keeps the hole in its place


def test_the_interval_is_a_jackknife_over_domains():
    """By hand: leave a domain out, fit, (n - 2) / 2n of the squares, Student t."""
    each = pairs(-0.03, 0.4, noise=0.05)
    found = regress(each, "fid")
    assert found is not None and found.distance.interval is not None
    scale = np.std([p.distance["fid"] for p in each], ddof=1)
    slopes = []
    for domain in DOMAINS:
        kept = [p for p in each if domain not in (p.source, p.target)]
        x = [[1.0, p.distance["fid"] / scale, p.source_accuracy] for p in kept]
        slopes.append(np.linalg.lstsq(np.array(x), [p.accuracy for p in kept], rcond=None)[0][1])
    half = scipy.stats.t.ppf(0.975, 4) * np.sqrt(3 / 10 * np.square(slopes - np.mean(slopes)).sum())
    middle = found.distance.beside
    assert middle is not None
    assert found.distance.interval == pytest.approx((middle - half, middle + half))


def with_disjoint(each: list[DomainPair], farther: float, worse: float) -> list[DomainPair]:
    """The pairs from quickdraw have other classes, and lie farther off and lower; none leads to it."""
    found = []
    for pair in each:
        if pair.target != "quickdraw":
            other = pair.source == "quickdraw"
            distance = {"fid": pair.distance["fid"] + farther * other}
            accuracy = pair.accuracy - worse * other
            found.append(
                replace(pair, accuracy=accuracy, distance=distance, same_classes=not other)
            )
    return found


def test_class_overlap_is_not_taken_for_distance():
    near = regress(with_disjoint(pairs(-0.03, 0.4), 0.0, 0.0), "fid")
    far = regress(with_disjoint(pairs(-0.03, 0.4), 20.0, 0.5), "fid")
    assert near is not None and far is not None and far.source is not None
    assert (far.pairs, far.disjoint, far.domains, far.permutations) == (16, 4, 5, 24)
    assert far.distance.alone == pytest.approx(near.distance.alone)
    assert far.distance.beside == pytest.approx(near.distance.beside)
    assert far.correlation == pytest.approx(near.correlation)
    assert far.r_squared == pytest.approx(1.0)


def test_pairs_change_places_within_their_group_only():
    each = [replace(p, same_classes=p.source != "sketch") for p in pairs(-0.03, 0.4, noise=0.05)]
    found = regress(each, "fid")
    assert found is not None and found.permutations == 24  # sketch stays, five domains or not


def without_effect(rng: np.random.Generator) -> list[DomainPair]:
    """Four domains and quickdraw: accuracy knows source accuracy, classes and domains, no distance."""
    own, domain, target = rng.normal(size=(3, 5))
    own[4] += 2
    noise, gap = rng.normal(size=(2, 5, 5))
    found = []
    for s, t in itertools.product(range(5), range(4)):
        if s != t:
            other = s == 4
            distance = domain[s] + domain[t] + gap[min(s, t), max(s, t)] + 8 * other
            accuracy = own[s] + 0.3 * target[t] + 0.3 * noise[s, t] - 8 * other
            found.append(
                DomainPair(DOMAINS[s], DOMAINS[t], accuracy, own[s], {"fid": distance},
                           same_classes=not other)
            )  # fmt: skip
    return found


def rates(draws: int) -> tuple[float, float, float]:
    """Shares of p < 0.05 with and without the groups, and of intervals that hold 0."""
    rng = np.random.default_rng(0)
    false, pooled, covered = 0, 0, 0
    for _ in range(draws):
        each = without_effect(rng)
        found = regress(each, "fid")
        blind = regress([replace(pair, same_classes=None) for pair in each], "fid")
        assert found is not None and blind is not None and found.distance.interval is not None
        assert found.distance.p_value is not None and blind.distance.p_value is not None
        false += found.distance.p_value < 0.05
        pooled += blind.distance.p_value < 0.05
        covered += found.distance.interval[0] <= 0 <= found.distance.interval[1]
    return false / draws, pooled / draws, covered / draws


def test_without_an_effect_few_are_found():
    false, pooled, covered = rates(100)
    assert false < 0.1 < 0.3 < pooled and covered > 0.88


@pytest.mark.slow
def test_without_an_effect_one_in_twenty_is_found():
    false, pooled, covered = rates(4000)
    assert 0.03 < false < 0.055  # the smallest p is 1/24 = 0.042
    assert pooled > 0.3 and covered > 0.93


def test_the_primary_distance_is_tested_alone():
    values = {"fid": 0.04, "kid": 0.02, "mmd": 0.03, "otdd": None}
    effects = {name: Effect(0.1, None, None, p) for name, p in values.items()}
    assert corrected(effects) == pytest.approx({"fid": 0.04, "kid": 0.04, "mmd": 0.04})
    assert corrected({"kid": effects["kid"]}) == {"kid": 0.02}


def test_what_cannot_be_set_apart_is_left_alone():
    one_source = [p for p in pairs(-0.03, 0.4) if p.source == "photo"]
    found = regress(one_source, "fid")
    assert found is not None and found.source is None and found.distance.beside is None
    assert found.distance.interval is None  # without photo there is no pair
    slope = scipy.stats.linregress(
        scipy.stats.zscore([p.distance["fid"] for p in one_source], ddof=1),
        [p.accuracy for p in one_source],
    ).slope
    assert found.distance.alone == pytest.approx(slope)
    assert regress(one_source[:2], "fid") is None and regress(one_source, "kid") is None


def document() -> dict:
    """What `bench report --distances` reads."""
    return {
        "pairs": [
            {
                "source": f"sources/{p.source}",
                "target": p.target,
                "metrics": {
                    "fid": {
                        "value": p.distance["fid"],
                        "low": p.distance["fid"] - 0.1,
                        "high": 7.5,
                    },
                    "kid": 0.5,
                    "mmd": {"value": p.distance["fid"] ** 2, "low": None, "high": None},
                },
                "source_accuracy": p.source_accuracy,
                "source_domain": p.source,
                "same_classes": p.source != "quickdraw",
            }  # fmt: skip
            for p in pairs(-0.03, 0.4)
        ]
    }


def distance_rows() -> list[dict]:
    """Two methods and three seeds on all pairs."""
    rows = []
    for pair in pairs(-0.03, 0.2, noise=0.02):
        fields = {"source": f"sources/{pair.source}"}
        found = sample_rows(3, (pair.target,), **fields)
        for row in found:
            if row["data_fraction"] == 1.0 and row["method"] in ("full-finetune", "reprogramming"):
                row["accuracy"] = pair.accuracy - 0.01 * row["seed"]
                rows.append(row)
    return rows


def test_rows_take_the_distances_of_their_pair():
    rows = distance_rows()
    merged = with_distances(rows, document())
    fid = document()["pairs"][0]["metrics"]["fid"]
    assert merged[0]["distance"] == {"fid": fid["value"], "kid": 0.5, "mmd": fid["value"] ** 2}
    assert merged[0]["distance_interval"] == {"fid": (fid["low"], 7.5)}
    assert merged[0]["source_accuracy"] == 0.9 and merged[0]["source_domain"] == "photo"
    assert "distance" not in rows[0]  # the caller's rows stay
    (pair,) = [p for p in domain_pairs(merged, "reprogramming") if p.target == "art"][:1]
    same = [r["accuracy"] for r in merged if r["target"] == "art" and r["source_domain"] == pair.source
            and r["method"] == "reprogramming"]  # fmt: skip
    assert len(same) == 3 and pair.accuracy == pytest.approx(np.mean(same))
    assert pair.interval == {"fid": pytest.approx((pair.distance["fid"] - 0.1, 7.5))}
    assert pair.same_classes is (pair.source != "quickdraw")


def test_only_the_largest_pool_counts():
    merged = with_distances(distance_rows(), document())
    small = [r | {"train_pool": 2000, "accuracy": r["accuracy"] - 0.2} for r in merged]
    larger = [r | {"train_pool": 4000, "accuracy": r["accuracy"] - 0.1} for r in merged]
    fewer = [r | {"data_fraction": 0.5} for r in merged]
    both = domain_pairs(small + larger, "reprogramming")
    assert both == domain_pairs(larger, "reprogramming")
    # None is all images: the largest pool, whatever its sizes
    found = domain_pairs(small + fewer, "reprogramming")
    assert found == domain_pairs(merged, "reprogramming")


def test_a_training_of_the_source_has_its_own_accuracy():
    place = {"source": "embedded", "target": "digits", "metrics": {}}
    given = {"pairs": [place | {"source_seed": s, "source_accuracy": 0.5 + s / 10} for s in (0, 1)]}
    rows = [r | {"source_seed": r["seed"]} for r in sample_rows(3)]
    merged = with_distances(rows, given)
    assert [r.get("source_accuracy") for r in merged[:3]] == [0.5, 0.6, None]


def test_a_bad_document_is_named(caplog: pytest.LogCaptureFixture):
    rows = distance_rows()
    for bad in ({}, {"pairs": [{"source": "a"}]}, {"pairs": [3]}, {"pairs": None}):
        with pytest.raises(InputError, match="the distances are no"):
            with_distances(rows, bad)
    good = document()["pairs"]
    with pytest.raises(InputError, match="not finite"):
        with_distances(rows, {"pairs": [good[0] | {"metrics": {"fid": float("nan")}}]})
    with pytest.raises(InputError, match="twice"):
        with_distances(rows, {"pairs": [good[0], good[0]]})
    with pytest.raises(InputError, match="Write a share"):
        with_distances(rows, {"pairs": [good[0] | {"source_accuracy": 67.9}]})
    with pytest.raises(InputError, match="none of the 120 rows: nowhere -> "):
        with_distances(rows, {"pairs": [good[0] | {"source": "nowhere"}]})
    with caplog.at_level(logging.WARNING):
        with_distances(rows, {"pairs": [*good, good[0] | {"source": "nowhere"}]})
    assert "1 pairs of the distances have no row" in caplog.text


def test_the_section_quotes_domains(tmp_path):
    rows = with_distances(distance_rows(), document())
    rows = [*rows, rows[0] | {"seed": 7, "status": "missing", "accuracy": None}]
    section = distance_section(rows, ("full-finetune", "reprogramming"))
    assert section is not None
    told = section.sentences[0]
    assert told.startswith("full-finetune (5 domains, 20 pairs, 4 of them of other classes, which")
    assert "and are too few for a slope of their own): " in told
    assert (
        "one standard deviation more fid at equal source accuracy changes target accuracy" in told
    )
    assert "points (95 % interval −" in told and ", resolved (p = 0.0" in told
    assert "By mmd, secondary: −" in told  # kid is the same for all pairs
    effects, distances = section.tables
    assert effects.lines[0][0] == "fid\nfull-finetune"  # the primary first
    assert effects.lines[0][-1] == "5 domains\n20 pairs"
    assert " to −" in effects.lines[0][2]
    line = next(line for line in distances.lines if line[0] == "quickdraw → art")
    assert line[1:3] == ["other", "85.0 %"]
    assert line[3].endswith(" to 7.5") and line[4] == "0.5" and "\n" not in line[5]
    page = write_report(rows, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "Effects on target accuracy" in page and "a mark a pair of domains" in page
    assert "bars: 95 % interval of the distance" in page and "hollow: source and target" in page
    assert "sources/photo" not in page[: page.index('id="how"')]  # a path's last part names it


def test_a_design_that_resolves_nothing_says_so():
    rows = [r for r in with_distances(distance_rows(), document()) if r["target"] != "quickdraw"]
    section = distance_section(rows, ("full-finetune",))
    assert section is not None
    assert section.sentences[-1].startswith(
        "This design cannot resolve an effect of a secondary distance: 24 permutations of domains "
        "allow no p below 0.042, which is 0.08 after Holm over 2."
    )
    few = [r for r in rows if {r["target"], r["source_domain"]} <= {"photo", "art", "cartoon"}]
    section = distance_section(few, ("full-finetune",))
    assert section is not None
    assert "cannot resolve an effect of any distance: 6 permutations" in section.sentences[-1]


def test_intervals_are_horizontal_bars_and_other_classes_are_hollow():
    marks = [PairMark(1.0, 0.5, 0.5, 2.0), PairMark(3.0, 0.25, hollow=True)]
    filled, hollow, bar = distance_scatter({"pad+ilm": marks}, measure="fid").axes[0].collections
    assert bar.get_segments()[0].tolist() == [[0.5, 50.0], [2.0, 50.0]]
    assert filled.get_offsets().tolist() == [[1.0, 50.0]]
    assert hollow.get_offsets().tolist() == [[3.0, 25.0]]
    assert hollow.get_facecolors().tolist() == [[1, 1, 1, 1]] != filled.get_facecolors().tolist()
