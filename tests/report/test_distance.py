"""Accuracy explained by distance and source accuracy, against least squares by hand."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import scipy.stats
from report.sample_rows import sample_rows

from reprogram.errors import InputError
from reprogram.report import with_distances, write_report
from reprogram.report.distance import DomainPair, domain_pairs
from reprogram.report.regression import regress
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
    assert found.distance.span == pytest.approx((-0.03 * scale,) * 2)  # exact: no domain matters
    assert (found.pairs, found.domains, found.permutations) == (20, 5, 120)


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


def test_what_cannot_be_set_apart_is_left_alone():
    one_source = [p for p in pairs(-0.03, 0.4) if p.source == "photo"]
    found = regress(one_source, "fid")
    assert found is not None and found.source is None and found.distance.beside is None
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
                "metrics": {"fid": p.distance["fid"], "kid": {"value": 0.5, "low": 0.4}},
                "source_accuracy": p.source_accuracy,
                "source_domain": p.source,
            }
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
    assert merged[0]["distance"] == {"fid": document()["pairs"][0]["metrics"]["fid"], "kid": 0.5}
    assert merged[0]["source_accuracy"] == 0.9 and merged[0]["source_domain"] == "photo"
    assert "distance" not in rows[0]  # the caller's rows stay
    (pair,) = [p for p in domain_pairs(merged, "reprogramming") if p.target == "art"][:1]
    same = [r["accuracy"] for r in merged if r["target"] == "art" and r["source_domain"] == pair.source
            and r["method"] == "reprogramming"]  # fmt: skip
    assert len(same) == 3 and pair.accuracy == pytest.approx(np.mean(same))


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
    assert section.sentences[0].startswith("full-finetune (5 domains, 20 pairs): one standard")
    assert "at equal source accuracy changes target accuracy by −" in section.sentences[0]
    assert "resolved (smallest Holm p 0.008 of 120 permutations of domains)" in section.sentences[0]
    assert section.tables[0].lines[0][-1] == "5 domains\n20 pairs"
    page = write_report(rows, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "Effects on target accuracy" in page and "a mark a pair of domains" in page
    assert "sources/photo" not in page[: page.index('id="how"')]  # a path's last part names it
