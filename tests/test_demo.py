"""The demo in small: every file it promises, a table of 80 columns, a computed sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reprogram.cli import run
from reprogram.experiments import demo as small


def test_demo_writes_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(small, "FRACTIONS", (0.5, 1.0))
    short = {name: changes | {"steps": 2} for name, changes in small.METHODS.items()}
    monkeypatch.setattr(small, "METHODS", short)
    out = tmp_path / "demo"
    assert run(["demo", "--out", str(out), "--budget", "0"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines[: lines.index("") + 9])) <= 80
    for method in small.METHODS:
        assert method in text
    assert "50%" in text and "100%" in text and "reprogram fit --target" in text
    rows = json.loads((out / "rows.json").read_text())
    assert len(rows) == 2 * len(small.METHODS)
    best = max(r["accuracy"] for r in rows if r["method"] == "reprogramming")
    assert f"{100 * best:.1f} %" in text or f"{100 * best:.1f}" in text
    for name in ("digits.png", "prompt.png", "report/report.html", "report/table.csv"):
        assert (out / name).stat().st_size > 200
    assert (out / "report" / "report.html").stat().st_size < 5_000_000


def test_a_stopped_demo_keeps_its_finished_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {name: small.METHODS[name] | {"steps": 2} for name in ("linear-probe", "reprogramming")}
    monkeypatch.setattr(small, "METHODS", short)
    monkeypatch.setattr(small, "FRACTIONS", (0.5,))

    def run_cell(cell: small.Cell, **options: object) -> small.Result:
        if cell.method == "reprogramming":
            raise KeyboardInterrupt
        return whole(cell, **options)  # type: ignore[arg-type]

    whole = small.run_cell
    monkeypatch.setattr(small, "run_cell", run_cell)
    assert run(["demo", "--out", str(tmp_path), "--device", "cpu"]) == 130
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["method"] for row in rows] == ["linear-probe"]
    assert "Finished runs (1) are kept in" in capsys.readouterr().err
