"""Sensitivity to data size: gains paired by seed, the equal-steps control, and who gains the most."""

from __future__ import annotations

import pytest
import scipy.stats
from report.sample_rows import sample_rows

from reprogram.report import panels, table_csv, text_table, write_report
from reprogram.report.panels import clean_panels
from reprogram.report.sensitivity import sensitivities, sensitivity_section
from reprogram.statistics import summarise

STEPS = {0.2: 60, 0.6: 180, 1.0: 300}


def rows_with_control(targets: tuple[str, ...] = ("digits",), seeds: int = 3) -> list[dict]:
    """Rows of four methods; the control of two of them wins back 4 of 10 points by steps alone."""
    rows = [r | {"steps": STEPS[r["data_fraction"]]} for r in sample_rows(seeds, targets)]
    for row in rows:
        if row["method"] == "none+ilm":
            row["steps"] = 0
        if row["method"] == "reprogramming" and row["data_fraction"] == 0.2:
            row["accuracy"] -= 0.1 + 0.01 * row["seed"]
    trained = ("full-finetune", "reprogramming")
    control = [r for r in rows if r["method"] in trained and r["data_fraction"] == 0.2]
    return rows + [
        r | {"method": f"{r['method']}@steps", "steps": 300, "accuracy": r["accuracy"] + 0.04}
        for r in control
    ]


def test_gains_are_paired_by_seed():
    found = {s.method: s for s in sensitivities(clean_panels(rows_with_control())[0])}
    # 0.08 from 20 % to 100 %, and for the prompt 0.1 + 0.01 seed more
    assert list(found["full-finetune"].gains.values()) == pytest.approx([0.08] * 3)
    gains = list(found["reprogramming"].gains.values())
    assert gains == pytest.approx([0.18, 0.19, 0.20])
    low, high = scipy.stats.t.interval(0.95, 2, loc=0.19, scale=0.01 / 3**0.5)
    summary = summarise(gains)
    assert summary.half_width == pytest.approx((high - low) / 2)


def test_a_gain_is_what_steps_bring_plus_what_images_bring():
    for one in sensitivities(clean_panels(rows_with_control())[0]):
        for run, gain in one.gains.items():
            if run in one.by_images:
                assert one.by_steps[run] + one.by_images[run] == pytest.approx(gain)
    found = {s.method: s for s in sensitivities(clean_panels(rows_with_control())[0])}
    assert list(found["full-finetune"].by_images.values()) == pytest.approx([0.04] * 3)
    assert not found["linear-probe"].by_images  # has no control
    assert found["none+ilm"].by_images == found["none+ilm"].gains  # trains nothing: its own control


def test_a_control_of_other_steps_is_none():
    rows = [r | {"steps": 200} if "@" in r["method"] else r for r in rows_with_control()]
    assert not any(
        s.by_images for s in sensitivities(clean_panels(rows)[0]) if s.method != "none+ilm"
    )


def test_a_control_of_other_steps_is_named():
    rows = [r | {"steps": 200} if r["method"] == "reprogramming@steps" else r
            for r in rows_with_control()]  # fmt: skip
    section = sensitivity_section(clean_panels(rows))
    assert section is not None
    assert section.sentences[1].endswith(
        "their steps are not equal: reprogramming at 20% (200 steps, 300 at 100%)."
    )
    assert [line[0] for line in section.tables[1].lines] == ["full-finetune"]


def test_equal_steps_stand_beside_equal_epochs_at_every_size():
    rows = rows_with_control()
    rows += [
        r | {"method": f"{r['method']}@steps", "steps": 300, "accuracy": r["accuracy"] + 0.01}
        for r in rows
        if r["method"] == "full-finetune" and r["data_fraction"] == 0.6
    ]
    section = sensitivity_section(clean_panels(rows))
    assert section is not None
    table = section.tables[1]
    assert list(table.heads) == ["method", "20%", "60%", "100%"]
    cells = {line[0]: line[1:] for line in table.lines}["full-finetune"]
    assert cells[0].split("\n") == ["89.8 ± 2.3", "93.8 ± 2.3 at equal steps"]
    assert cells[1].split("\n") == ["93.8 ± 2.3", "94.8 ± 2.3 at equal steps"]
    assert cells[2] == "97.8 ± 2.3"


def test_the_most_sensitive_method_is_tested():
    section = sensitivity_section(clean_panels(rows_with_control()))
    assert section is not None
    (sentence,) = section.sentences
    assert "reprogramming gains the most, 19.0 ± 2.5 points; resolved against every" in sentence
    assert "more images bring +15.0 ± 2.5 points at equal steps" in sentence
    assert "more steps on the same images +4.0 ± 0.0" in sentence
    rows = rows_with_control()
    for row in rows:
        if row["method"] == "linear-probe" and row["data_fraction"] == 0.2:
            row["accuracy"] -= 0.1 * ((row["seed"] + 1) % 3)
    section = sensitivity_section(clean_panels(rows))
    assert (
        section is not None and "not resolved against linear-probe (n = 3" in section.sentences[0]
    )


def test_many_pairs_are_concluded_first():
    section = sensitivity_section(clean_panels(rows_with_control(("digits", "gtsrb"))))
    assert section is not None and len(section.sentences) == 3 and len(section.tables) == 4
    assert section.sentences[0].startswith("Which method is the most sensitive to data size? At")
    assert "reprogramming on embedded → digits and embedded → gtsrb" in section.sentences[0]
    single = sensitivity_section(clean_panels(rows_with_control(("digits", "gtsrb"), 1)))
    assert single is not None and "cannot be resolved from single runs" in single.sentences[0]


def test_a_control_is_no_method_of_its_own(tmp_path):
    rows = rows_with_control()
    (panel,) = panels(rows)
    assert "@steps" not in text_table(panel) and len(panel.methods) == 4
    assert "full-finetune@steps,0.2,done,3" in table_csv([panel])
    files = write_report(rows, tmp_path)
    page = files["report.html"].read_text(encoding="utf-8")
    assert 'id="sensitivity"' in page and "Of 12 cells" not in page  # no cell counts as missing
    for name in ("report.md", "report.tex"):
        assert "by more images" in files[name].read_text(encoding="utf-8")
    alone = [r for r in rows if r["method"] == "full-finetune@steps"]
    assert panels(alone)[0].methods == ("full-finetune@steps",)


def test_half_a_grid_has_the_gains_that_are_there():
    rows = rows_with_control()
    for row in rows:
        if row["seed"] == 2 and row["data_fraction"] == 1.0 and row["method"] != "linear-probe":
            row |= {"status": "missing", "accuracy": None}
        if row["method"] == "none+ilm":
            row |= {"status": "failed", "accuracy": None}
    found = {s.method: s for s in sensitivities(clean_panels(rows)[0])}
    assert "none+ilm" not in found
    assert len(found["full-finetune"].gains) == 2 and len(found["linear-probe"].gains) == 3
    assert sensitivity_section(clean_panels([r for r in rows if r["data_fraction"] == 1])) is None
