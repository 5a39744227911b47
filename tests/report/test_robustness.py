"""Relative robustness: ratios of the same method and seed, over the noises that all methods have."""

from __future__ import annotations

import pytest
import scipy.stats
from report.sample_rows import sample_rows

from reprogram.report import panels, write_report
from reprogram.report.robustness import NoiseGroup, noise_groups
from reprogram.report.verdict import leader
from reprogram.report.view_noise import noise_answer, noise_section
from reprogram.statistics import summarise

LOSS = {"full-finetune": 0.08, "reprogramming": 0.04, "linear-probe": 0.1, "none+ilm": 0.12}


def wobble(row: dict) -> float:
    """What seeds differ in, so that differences between methods have a spread."""
    return 0.0 if row["method"] == "reprogramming" else 0.001 * (row["seed"] % 2)


def noisy_rows(
    kinds: tuple[str, ...] = ("gaussian", "blur"), place: str = "test", **fields: object
) -> list[dict]:
    """Clean rows, and for each severity a share of accuracy that a method loses."""
    rows = sample_rows(3)
    largest = [row for row in rows if row["data_fraction"] == 1.0]
    return rows + [
        row
        | {
            "noise": f"{kind}:{severity}@{place}",
            "accuracy": row["accuracy"]
            * (1 - LOSS[row["method"]] * severity - 0.002 * row["seed"] - wobble(row)),
            **fields,
        }
        for kind in kinds
        for severity in (1, 3, 5)
        for row in largest
    ]


def group_of(rows: list[dict]) -> NoiseGroup:
    (group,) = noise_groups(panels(rows))
    return group


def test_ratios_and_their_interval():
    scores = group_of(noisy_rows()).scores()
    assert len(scores.noises) == 6
    # mean over severities 1, 3 and 5 of 1 - 0.04 s - 0.002 seed
    expected = [0.88, 0.878, 0.876]
    values = list(scores.robustness["reprogramming"].values())
    assert values == pytest.approx(expected)
    low, high = scipy.stats.t.interval(0.95, 2, loc=0.878, scale=0.002 / 3**0.5)
    assert summarise(values).half_width == pytest.approx((high - low) / 2)
    assert leader(scores.robustness).candidates == ("reprogramming",)
    assert leader(scores.robustness).kind == "resolved"


def test_methods_are_compared_over_the_noises_that_all_have():
    rows = noisy_rows()
    for row in rows:
        if row["noise"] == "blur:5@test" and row["method"] == "linear-probe" and row["seed"] == 1:
            row |= {"status": "failed", "accuracy": None}
    group = group_of(rows)
    assert [str(noise) for noise in group.scores().noises] == [
        "blur:1@test",
        "blur:3@test",
        "gaussian:1@test",
        "gaussian:3@test",
        "gaussian:5@test",
    ]


def test_a_trial_that_has_just_begun_does_not_count():
    rows = [
        row | {"status": "missing", "accuracy": None}
        if row["seed"] == 2 and row["noise"] not in ("clean", "blur:1@test")
        else row
        for row in noisy_rows()
    ]
    scores = group_of(rows).scores()
    assert len(scores.noises) == 6 and len(scores.robustness["linear-probe"]) == 2


def test_without_clean_runs_there_is_no_ratio_but_an_accuracy():
    rows = [row for row in noisy_rows() if row["noise"] != "clean"]
    section = noise_section(panels(rows))
    assert section is not None and "keeps" not in section.sentences[0]
    assert "The highest accuracy is reprogramming's" in section.sentences[0]
    assert [line[0] for line in section.tables[0].lines][:2] == ["reprogramming", "full-finetune"]
    assert all(line[3] == "–" for line in section.tables[0].lines)
    assert section.tables[1].lines[0][1].endswith("\n–")
    assert "reprogramming is ahead on digits" in noise_answer(panels(rows))


def test_a_method_without_a_clean_run_is_ranked_by_accuracy_alone():
    rows = [r for r in noisy_rows() if r["noise"] != "clean" or r["method"] != "reprogramming"]
    scores = group_of(rows).scores()
    assert not scores.robustness["reprogramming"]
    assert leader(scores.accuracy).candidates[0] == "reprogramming"


def test_a_single_seed_is_not_called_a_test():
    rows = [row for row in noisy_rows() if row["seed"] == 0]
    told = noise_answer(panels(rows))
    assert ", not tested: reprogramming has the highest value on digits (" in told
    assert told.endswith("(n = 1).")
    alone = noise_answer(panels([r for r in rows if r["method"] == "none+ilm"]))
    assert "none+ilm alone was run on digits" in alone


def test_the_number_of_seeds_stands_once_where_all_have_the_same():
    def table(rows):
        return noise_section(panels(rows)).tables[-1]

    assert table(noisy_rows()).caption.endswith("relative robustness, n = 3")
    mixed = table([r for r in noisy_rows() if r["seed"] < 2 or r["noise"] != "blur:1@test"])
    assert mixed.caption.endswith("relative robustness")
    assert {cell[-5:] for line in mixed.lines for cell in line[1:]} == {
        "n\u00a0=\u00a03",
        "n\u00a0=\u00a02",
    }


def test_the_section_holds_every_place(tmp_path):
    rows = noisy_rows(n_test=100) + [
        row for row in noisy_rows(("gaussian",), "both") if row["noise"] != "clean"
    ]
    section = noise_section(panels(rows))
    assert section is not None
    test, both, strengths = section.sentences
    assert "noise on test images" in test and "over 6 noises" in test
    assert "(clean accuracy on 3,600 test images, noisy on 100)" in test
    keeps = "reprogramming keeps 87.8 ± 0.5 % of its clean accuracy, the most (84.1 ± 2.5 % of "
    assert keeps in test
    assert "noise on training and test images" in both and "over 3 noises" in both
    assert "gaussian 0.04, 0.08, 0.12, 0.18, 0.26 (standard deviation, range 0 to 1)" in strengths
    cell = section.tables[1].lines[3]
    assert cell[0] == "gaussian 1" and len(section.tables) == 4
    files = write_report(rows, tmp_path)
    page = files["report.html"].read_text(encoding="utf-8")
    assert page.count("<option") == 3  # clean, noise on test, noise on both
    for name in ("report.md", "report.tex"):
        assert "relative robustness" in files[name].read_text(encoding="utf-8")


def test_the_answer_says_who_is_ahead_under_noise(tmp_path):
    far = [row | {"target": "usps", "accuracy": 0.3 + 0.01 * row["seed"]} for row in noisy_rows()]
    rows = noisy_rows() + far  # on the digits somebody is ahead, on USPS all are the same
    told = noise_answer(panels(rows))
    assert told.startswith(
        "Noise on test images, the mean of 6: reprogramming is ahead on digits ("
    )
    assert told.endswith("); not resolved on usps (n = 3, Holm).")
    assert noise_answer(panels(sample_rows(3))) == ""
    write_report(rows, tmp_path, title="Noise")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "\n\nOn clean data: with the network frozen, " in text
    assert told in text


def test_more_noises_are_not_more_images():
    """20 noises of 100 images: 5 points, or 5.6 % of clean accuracy, are not resolved by 3 seeds."""
    rows = [row for row in noisy_rows() if row["method"] in ("full-finetune", "reprogramming")]
    clean = [row for row in rows if row["noise"] == "clean" and row["data_fraction"] == 1.0]
    for row in clean:
        row["accuracy"] = 0.9
    lost = {"full-finetune": 0.3, "reprogramming": 0.25}
    noisy = [
        row
        | {
            "noise": f"{kind}:{s}@test",
            "accuracy": 0.9 - lost[row["method"]] - shift,
            "n_test": 100,
        }
        for row in clean
        for shift in [0.0001 * (row["seed"] % 2) * (row["method"] == "reprogramming")]
        for kind in ("gaussian", "blur", "fog", "frost")
        for s in range(1, 6)
    ]
    section = noise_section(panels(clean + noisy))
    assert section is not None
    robust, accurate = section.sentences[0].split(". The highest accuracy")
    assert "over 20 noises" in robust
    assert robust.endswith("not resolved against full-finetune (n = 3, Holm)")
    assert accurate.endswith("not resolved against full-finetune (n = 3, Holm).")


def test_the_floor_of_a_ratio_is_that_of_the_clean_hits():
    group = group_of(noisy_rows(n_test=100))
    summary = group.clean_entry("full-finetune").summary
    assert summary is not None
    hits = group.clean_hits(["full-finetune", "reprogramming"])
    assert hits == pytest.approx(100 * summary.mean)


def test_many_kinds_become_small_multiples(tmp_path):
    kinds = ("gaussian", "blur", "fog", "frost")
    page = write_report(noisy_rows(kinds), tmp_path)["report.html"].read_text(encoding="utf-8")
    assert 'class="multiples small"' in page and "mean over 4 kinds" in page


def test_a_method_near_chance_is_not_the_most_robust():
    rows = noisy_rows()
    for row in rows:
        if row["method"] == "none+ilm":  # ten classes: guessing keeps all of its accuracy
            row["accuracy"] = 0.1 + 0.002 * row["seed"]
    section = noise_section(panels(rows))
    assert section is not None
    assert "reprogramming keeps 87.8" in section.sentences[0]
    assert "cannot be told from chance: none+ilm." in section.sentences[0]


def test_notes_that_differ_in_the_noise_alone_are_one():
    rows = noisy_rows(("fog", "frost", "snow"))
    for row in rows:
        if row["noise"] != "clean":
            kind = row["noise"].split(":")[0]
            row["noise_note"] = f"images of 28 px enlarged to 32 px before {kind}"
    section = noise_section(panels(rows))
    assert section is not None
    notes = [text for text in section.sentences if "enlarged" in text]
    assert notes == ["Images of 28 px enlarged to 32 px before fog, frost and snow."]
