"""Tables and sentences as people and programs read them."""

from __future__ import annotations

import csv
import io
import random

import pytest
from report.sample_rows import sample_rows

from reprogram.data.noise import CLEAN, Noise
from reprogram.errors import InputError
from reprogram.report import write_report
from reprogram.report.advantage import Budget, advantage, budgets
from reprogram.report.headline import Finals, answer
from reprogram.report.panels import clean_panels, noise_of, panels, source_names
from reprogram.report.sentence import certainty
from reprogram.report.tables import (
    markdown_table,
    rows_csv,
    table_csv,
    tex_table,
    text_table,
)
from reprogram.report.takeaway import pair_takeaways, takeaway
from reprogram.report.verdict import leader


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("sizes", [3, 5, 12])
def test_text_table_fits_80_columns(seeds: int, sizes: int):
    rows = sample_rows(seeds)
    fractions = [i / sizes for i in range(1, sizes + 1)]
    rows = [r | {"data_fraction": f} for r in rows if r["data_fraction"] == 1.0 for f in fractions]
    rows += [
        r | {"method": "full+blm+@linearized-at-start"} for r in rows if r["method"] == "none+ilm"
    ]
    text = text_table(panels(rows)[0])
    assert max(map(len, text.splitlines())) <= 80
    for head in ("100%", "trained", "stored", "full+blm+@linearized-at-start"):
        assert head in text
    assert ("±" in text) == (seeds > 1)


def test_text_table_shows_what_is_missing():
    rows = [r for r in sample_rows(1) if (r["method"], r["data_fraction"]) != ("linear-probe", 0.6)]
    rows[0] |= {"status": "failed", "accuracy": None}
    text = text_table(panels(rows)[0])
    probe = next(line for line in text.splitlines() if "linear-probe" in line)
    assert probe.split()[1:4] == ["80.0", "-", "88.0"]
    assert "fail" in text and "1 cell has no run" in text


def test_n_is_shown_where_cells_differ():
    rows = [r for r in sample_rows(3) if r["method"] != "linear-probe" or r["seed"] == 0]
    text = text_table(panels(rows)[0])
    assert "n = 1 to 3" in text and "n=1" in text and "n=3" in text


def test_a_method_of_one_target_is_missing_on_the_other():
    rows = sample_rows(1, ("digits", "gtsrb"))
    rows = [r for r in rows if (r["target"], r["method"]) != ("gtsrb", "none+ilm")]
    found = {panel.target: panel for panel in panels(rows)}
    assert found["gtsrb"].methods == found["digits"].methods
    assert found["gtsrb"].entry("none+ilm", 1.0).status == "missing"


def test_csv_is_the_same_for_every_order_and_every_time():
    rows = sample_rows(3, ("digits", "gtsrb"))
    expected = table_csv(panels(rows)), rows_csv(rows)
    shuffled = [dict(r) for r in rows]
    random.Random(0).shuffle(shuffled)
    assert (table_csv(panels(shuffled)), rows_csv(shuffled)) == expected
    slower = [r | {"seconds": r["seconds"] * 2} for r in rows]
    assert table_csv(panels(slower)) == expected[0]
    table = list(csv.DictReader(io.StringIO(expected[0])))
    keys = [(r["target"], r["noise"], r["method"], float(r["data_fraction"])) for r in table]
    assert keys == sorted(keys) and len(keys) == 2 * 4 * 3
    assert len(list(csv.DictReader(io.StringIO(expected[1])))) == len(rows)


def test_numbers_of_the_csv():
    rows = [
        r for r in sample_rows(3) if r["method"] == "linear-probe" and r["data_fraction"] == 1.0
    ]
    for row, accuracy in zip(rows, (0.90, 0.92, 0.94), strict=True):
        row["accuracy"] = accuracy
    line = next(csv.DictReader(io.StringIO(table_csv(panels(rows)))))
    assert (line["n"], line["mean"], line["half_width"]) == ("3", "0.920000", "0.049683")


def test_markup_cannot_be_broken_out_of():
    rows = [r | {"method": "a|b<i>&_%\\"} for r in sample_rows(1) if r["method"] == "none+ilm"]
    panel = panels(rows)[0]
    assert r"a\|b&lt;i>&amp;_%" in markdown_table(panel)
    assert r"a|b\textless{}i\textgreater{}\&\_\%\textbackslash{}" in tex_table(panel)


def test_the_same_run_twice_is_an_error():
    rows = sample_rows(1)
    with pytest.raises(InputError, match="two rows for embedded -> digits"):
        panels([*rows, dict(rows[0])])
    trained_per_seed = [rows[0] | {"source_seed": s} for s in (0, 1)]
    assert panels(trained_per_seed)[0].counts == (2, 2)


@pytest.mark.parametrize("accuracy", [None, 97.8, float("nan")])
def test_an_accuracy_outside_its_range_is_an_error(accuracy: float | None):
    with pytest.raises((InputError, TypeError), match="accuracy|None"):
        panels([sample_rows(1)[0] | {"accuracy": accuracy}])


def test_noise_in_all_its_forms():
    noise = Noise("gaussian", 3, "train", 1)
    assert noise_of({"noise": str(noise)}) == noise_of({"noise": noise}) == noise
    assert {noise_of({"noise": n}) for n in (None, "", "clean", CLEAN)} == {CLEAN}
    with pytest.raises(InputError, match="unknown noise 'gausian'"):
        panels([sample_rows(1)[0] | {"noise": "gausian:3@test"}])


def test_the_answer_is_computed():
    text = answer(clean_panels(sample_rows(1)))
    assert text.startswith(
        "With the network frozen, a 29,571-parameter prompt (reprogramming) reads 96.8 % of the "
        "digits; a linear probe on the same network 88.0 %."
    )
    assert "272,474" in text and "n = 1" in text and "±" not in text
    text = answer(clean_panels(sample_rows(3)))
    assert "points ahead of linear-probe (n = 3, paired by seed, Holm p" in text


def test_the_answer_admits_what_is_not_resolved():
    rows = sample_rows(2)
    for row in rows:
        if row["method"] == "reprogramming":
            row["accuracy"] = 0.8 + 0.1 * row["seed"]
    assert "not resolved; n = 2" in answer(clean_panels(rows))


def test_without_a_prompt_validation_chooses_and_the_next_is_tested_against():
    rows = [r for r in sample_rows(3) if r["method"] != "reprogramming"]
    for row in rows:
        row["val_accuracy"] = {"linear-probe": 0.9}.get(row["method"], 0.5)
    text = answer(clean_panels(rows))
    assert text.startswith("linear-probe, which validation chose of 3 methods, reads 86.8")
    assert "linear-probe is " in text and "points behind full-finetune (n = 3, paired" in text
    alone = [r for r in rows if r["method"] == "none+ilm"]
    assert answer(clean_panels(alone)).startswith("none+ilm reads ")
    for row in rows:
        row["val_accuracy"] = None
    assert "the first by name of 3 methods" in answer(clean_panels(rows))


def test_the_answer_over_many_targets_is_a_tally():
    rows = sample_rows(3, ("digits", "gtsrb", "usps"))
    for row in rows:
        if row["method"] == "reprogramming" and row["target"] == "usps":
            row["accuracy"] = 0.3 - 0.01 * row["seed"]
    text = answer(clean_panels(rows))
    assert "ahead of the best probe on digits (" in text and "and gtsrb (" in text
    assert "behind it on usps (" in text and "n = 3" in text


def test_the_map_respects_its_budget():
    panel = clean_panels(sample_rows(3))[0]
    free = advantage(panel, 1.0)
    assert (free.kind, free.candidates) == ("resolved", ("full-finetune",))
    small = advantage(panel, 1.0, Budget("trainable_parameters", 30_000))
    assert small.candidates == ("reprogramming",)
    assert small.against is not None and small.against.other == "linear-probe"
    assert advantage(panel, 1.0, Budget("trainable_parameters", 0)).kind == "only"
    assert advantage(panel, 1.0, Budget("stored_bytes", 1)).kind == "empty"
    limits = [b.limit for b in budgets([panel]) if b.cost == "trainable_parameters"]
    assert limits == [0, 1_100, 30_000]


def test_the_map_does_not_resolve_a_single_run():
    assert advantage(clean_panels(sample_rows(1))[0], 1.0).kind == "single"


def test_the_map_names_all_who_may_be_best():
    rows = sample_rows(3)
    for row in rows:
        if row["method"] == "reprogramming":
            row["accuracy"] = 0.99 - 0.03 * ((row["seed"] + 1) % 3)
    verdict = advantage(clean_panels(rows)[0], 1.0)
    assert verdict.kind == "unresolved"
    assert set(verdict.candidates) == {"full-finetune", "reprogramming"}


def test_a_budget_is_of_the_size_that_is_asked_about():
    rows = sample_rows(3)
    for row in rows:
        much = 1e13 if row["method"] == "full-finetune" else 1e12
        row["training_flops"] = row["data_fraction"] * much
    panel = clean_panels(rows)[0]
    some = Budget("training_flops", 6e12)
    assert advantage(panel, 0.6, some).candidates == ("full-finetune",)
    assert advantage(panel, 1.0, some).candidates == ("reprogramming",)


def test_methods_of_nearly_one_cost_share_a_limit():
    rows = sample_rows(3)
    rows += [
        r | {"method": "smm+ilm", "trainable_parameters": 29_000}
        for r in rows
        if r["method"] == "reprogramming"
    ]
    limits = [b.limit for b in budgets(clean_panels(rows)) if b.cost == "trainable_parameters"]
    assert limits == [0, 1_100, 30_000]


def test_the_takeaway_names_sizes_and_the_parameters_allowed():
    rows = sample_rows(3, ("gtsrb",))
    for row in rows:
        if row["method"] == "reprogramming" and row["data_fraction"] == 1.0:
            row["accuracy"] = 0.88 - 0.01 * row["seed"] + 0.02 * ((row["seed"] + 1) % 3)
    clean = clean_panels(rows)
    (text,) = pair_takeaways(clean, budgets(clean))
    within, free = text.split(". With ")
    # up to 72: 9 points less what the seeds wobble: 8.8, 8.8, 9.4; at 120: 2.0, 4.2, 0.4. The
    # intervals are what 3,600 test images allow: 4.303 sqrt(d (1 - d) / 3600)
    assert within.startswith(
        "On gtsrb (from embedded), with at most 30,000 trained parameters: "
        "reprogramming beats linear-probe by 9.0 ± 2.1 points or more up to 72 images a class; "
        "not resolved at 120 images a class"
    )
    assert free == (
        "0.27 M trained parameters allowed: full-finetune beats reprogramming by 2.0 ± 1.0 points "
        "or more at every size."
    )


def test_a_path_is_called_by_its_last_part():
    assert source_names(["embedded"]) == {"embedded": "embedded"}
    assert source_names(["a\\b", "b"]) == {"a\\b": "a\\b", "b": "b"}
    rows = [r | {"source": "sources/photo"} for r in sample_rows(1)]
    assert panels(rows)[0].pair == "photo → digits"


def test_pairs_at_one_size_share_a_table(tmp_path):
    rows = [r for r in sample_rows(3, ("digits", "gtsrb")) if r["data_fraction"] == 1.0]
    rows = [r for r in rows if "ilm" not in r["method"] and "probe" not in r["method"]]
    rows += [r | {"source": "other"} for r in rows if r["target"] == "digits"]
    files = write_report(rows, tmp_path)
    text = files["report.md"].read_text(encoding="utf-8")
    assert "## Every pair" in text and "| other → digits | 97.8 ± 2.3 |" in text
    assert "(reprogramming) is behind full fine-tuning on" in text
    page = files["report.html"].read_text(encoding="utf-8")
    assert page.count('<table class="results">') == 1 and 'id="size"' not in page
    assert "not run" in page  # other -> gtsrb in the map of sources and targets


def test_an_unresolved_field_names_no_cost():
    rows = sample_rows(3, ("gtsrb",))
    for row in rows:  # head first at every size, the seeds as far apart as the methods
        if row["method"] == "full-finetune":
            row["accuracy"] = 0.6 + 0.1 * ((row["seed"] + 1) % 3)
        if row["method"] == "linear-probe":
            row["accuracy"] = 0.75 + 0.1 * row["seed"]
        if row["method"] == "reprogramming":
            row["accuracy"] = 0.5
    clean = clean_panels(rows)
    (text,) = pair_takeaways(clean, budgets(clean))
    assert "trained parameters allowed" not in text
    assert text.endswith(". With no limit: not resolved at any size.")


def test_a_single_run_is_no_win():
    rows = [
        row for row in sample_rows(3, ("gtsrb",)) if row["data_fraction"] == 1.0 or row["seed"] == 0
    ]
    clean = clean_panels(rows)
    assert takeaway(clean, []) == (
        "With no limit, full-finetune is ahead in 1 of 1 tested field; "
        "2 fields with one run a method are not tested."
    )


def test_n_is_that_of_the_test():
    best, other = {0: 0.9, 1: 0.91, 2: 0.93}, {0: 0.5, 1: 0.52}
    assert certainty(leader({"a": best, "b": other})) == (
        "resolved against every other method (n = 2, Holm)"
    )
    assert certainty(leader({"a": best, "b": {0: 0.5}})).startswith("n = 1: one run in common")
    assert "no seed in common" in certainty(leader({"a": best, "b": {7: 0.5}}))


def test_a_method_is_no_leader_by_a_seed_that_the_others_lack():
    worse, better = {0: 0.80, 1: 0.81, 3: 0.805}, {0: 0.85, 1: 0.862, 2: 0.30, 3: 0.853}
    verdict = leader({"worse": worse, "better": better})
    assert (verdict.kind, verdict.candidates) == ("resolved", ("better",))
    assert verdict.against is not None and verdict.against.gap == pytest.approx(0.05)
    assert verdict.summary is not None and verdict.summary.n == 4


def test_a_method_that_is_resolved_to_be_behind_does_not_win():
    a = {0: 0.9, 1: 0.5, 2: 0.51, 3: 0.52}
    b = {1: 0.55, 2: 0.561, 3: 0.57, 4: 0.1}
    c = {0: 0.4, 4: 0.2}
    verdict = leader({"a": a, "b": b, "c": c})  # no seed in all: a has the highest mean of its own
    assert verdict.candidates[:2] == ("a", "b") and verdict.kind == "unresolved"
    behind = leader({"a": {0: 0.9, 1: 0.5}, "b": {1: 0.6, 2: 0.3}, "c": {0: 0.1}})
    assert behind.kind == "unresolved"


def test_pools_are_panels_of_their_own(tmp_path):
    rows = [row | {"train_pool": 2000} for row in sample_rows(3) if row["data_fraction"] == 1.0]
    full = [row | {"train_pool": None, "accuracy": row["accuracy"] + 0.005} for row in rows]
    full = [row for row in full if row["method"] == "linear-probe"]
    titles = [panel.title for panel in panels(rows + full)]
    assert titles == [
        "embedded → digits, pool of 2,000 training images",
        "embedded → digits, all training images",
    ]
    assert [panel.title for panel in panels(full)] == ["embedded → digits"]
    files = write_report(rows + full, tmp_path)
    table = list(csv.DictReader(io.StringIO(files["table.csv"].read_text(encoding="utf-8"))))
    assert {row["train_pool"] for row in table} == {title.split(", ", 1)[1] for title in titles}
    assert "Of 5 cells" not in files["report.html"].read_text(encoding="utf-8")
    longer = [row | {"settings": {"epochs": 30}} for row in rows]
    with pytest.raises(InputError, match="another --out"):
        panels(rows + longer)


def test_pools_of_other_sizes_stand_under_their_own_sizes(tmp_path):
    pool = [r | {"train_pool": 2000} for r in sample_rows(3) if r["data_fraction"] == 0.2]
    full = [r | {"train_pool": None} for r in sample_rows(3) if r["data_fraction"] == 1.0]
    text = write_report(pool + full, tmp_path)["report.md"].read_text(encoding="utf-8")
    assert "## Every pair" not in text
    heads = next(line for line in text.splitlines() if line.startswith("| clean data |"))
    assert heads == "| clean data | 20% of the images | 100% of the images |"
    lines = [line for line in text.splitlines() if "training images from embedded |" in line]
    assert [line.split(" | ")[1 + (i % 2)] for i, line in enumerate(lines)].count("not run") == 0
    assert all(line.count("not run") == 1 for line in lines) and len(lines) >= 2


def test_the_prompt_is_chosen_on_validation():
    rows = sample_rows(3)
    for row in rows:
        row["val_accuracy"] = {"reprogramming": 0.7, "pad+ilm": 0.8}.get(row["method"], 0.5)
    rows += [
        row | {"method": "pad+ilm", "accuracy": row["accuracy"] - 0.02, "val_accuracy": 0.8}
        for row in rows
        if row["method"] == "reprogramming"
    ]
    assert "prompt (pad+ilm) reads 93.8 ± 2.3 %" in answer(clean_panels(rows))


def test_without_validation_test_images_choose_nothing_and_the_first_by_name_stands():
    def rows_of(targets: tuple[str, ...]) -> list[dict]:
        rows = sample_rows(3, targets)
        better = [r | {"method": "smm+ilm", "accuracy": r["accuracy"] + 0.01} for r in rows
                  if r["method"] == "reprogramming"]  # fmt: skip
        return rows + better

    one, many = rows_of(("digits",)), rows_of(("digits", "gtsrb", "usps"))
    assert "; methods chosen on validation)" in answer(clean_panels(many))
    for row in [*one, *many]:
        if row["method"] == "smm+ilm" and row["target"] == "digits":
            row["val_accuracy"] = None
    assert "prompt (reprogramming) reads 95.8" in answer(clean_panels(one))
    told = answer(clean_panels(many))
    assert "validation is missing, the first method by name)" in told
    assert "chosen on validation" not in told


def test_equal_validation_figures_are_no_choice_by_test_images():
    rows = sample_rows(3)
    rows += [r | {"method": m, "accuracy": r["accuracy"] + d} for r in rows
             if r["method"] == "none+ilm" for m, d in (("none+flm", -0.01), ("none+blm", -0.02))]  # fmt: skip
    rows = [r for r in rows if r["method"] != "none+ilm"]
    (panel,) = clean_panels(rows)
    finals = Finals(panel)
    assert finals.best(["none+flm", "none+blm"]) == "none+blm"
    assert finals.unprompted("reprogramming") == "none+blm"  # its own mapping was not run


def test_the_headline_names_pairs_where_sources_differ():
    rows = [row | {"source": source} for source in "abc" for row in sample_rows(3, ("usps",))]
    for row in rows:
        if row["method"] == "reprogramming":
            row["accuracy"] = 0.10 - 0.005 * row["seed"]
    told = answer(clean_panels(rows))
    assert "worse than no prompt (none+ilm) on a → usps (" in told and "on usps" not in told


def test_the_headline_names_prompts_and_tells_what_they_are_worth():
    rows = sample_rows(3, ("digits", "gtsrb", "usps"))
    rows += [row | {"method": "smm+linear"} for row in rows if row["method"] == "linear-probe"]
    for row in rows:
        if row["target"] == "usps" and row["method"] == "reprogramming":
            row["accuracy"] = 0.10 - 0.005 * row["seed"]
    text = answer(clean_panels(rows))
    assert (
        "the best prompt with a fitted mapping (reprogramming) is ahead of the best probe on"
        in text
    )
    assert "A probe with a prompt (smm+linear) is not resolved against the best probe on" in text
    assert "A prompt with a fitted mapping is worse than no prompt (none+ilm) on usps (" in text
    one = answer(clean_panels([row for row in rows if row["target"] == "usps"]))
    assert "a probe with a prompt (smm+linear) 86.8" in one
    assert one.endswith("It is worse than no prompt (none+ilm, 16.8 ± 2.3 %).")
