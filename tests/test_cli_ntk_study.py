"""reprogram ntk-study on four tiny trainings: files, what is printed, resumption, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CANVAS, tiny_part

from reprogram.analysis import study
from reprogram.cli import run
from reprogram.data import TargetTask
from reprogram.sources import create_network, write_source_directory
from reprogram.sources.depth import depth_arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources on two targets, three epochs each."""
    folder = tmp_path_factory.mktemp("study")
    arguments = depth_arguments("cnn-1", 6, CANVAS)
    for seed in (0, 1):
        torch.manual_seed(seed)
        write_source_directory(
            folder / f"source{seed}", create_network("cnn-1", 6, arguments), architecture="cnn-1",
            model_args=arguments, mean=(0.5,) * 3, std=(0.25,) * 3, image_size=CANVAS,
            class_names=[f"s{i}" for i in range(6)],
        )  # fmt: skip
        parts = {"train": tiny_part(60, seed), "test": tiny_part(30, seed + 5)}
        arrays = {f"{name}_labels": part.labels for name, part in parts.items()}
        for name, part in parts.items():
            images = [np.asarray(part.store.image(i)) for i in range(len(part.labels))]
            arrays[f"{name}_images"] = np.stack(images)
        np.savez(folder / f"target{seed}.npz", **arrays)
    code = run(
        ["bench", "run", "--source", f"{folder}/source0,{folder}/source1",
         "--target", f"{folder}/target0.npz,{folder}/target1.npz",
         "--methods", "none+ilm,full+ilm", "--epochs", "3", "--set", "batch_size=16",
         "--out", str(folder / "results"), "--executor", "inline", "--device", "cpu", "--quiet"]
    )  # fmt: skip
    assert code == 0
    return folder


def ntk_study(results: Path, out: Path, *more: str) -> int:
    return run(
        ["ntk-study", str(results), "--out", str(out), "--images", "12", "--mapping-images", "20",
         "--device", "cpu", "--quiet", *more]
    )  # fmt: skip


def test_it_measures_scores_draws_and_calibrates(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        # A prediction before training has no business with test images.
        patch.setattr(TargetTask, "test", property(lambda _: pytest.fail("test images")))
        assert ntk_study(trained / "results", tmp_path) == 0
    out = capsys.readouterr().out
    assert "4 pairs of 2 sources and 2 targets, 4 runs." in out
    assert " wins: " in out and "The kernel's own share" in out and "(projected)" in out
    rows = [json.loads(p.read_text()) for p in (tmp_path / "rows").iterdir()]
    assert len(rows) == 4
    row = rows[0]
    scores = {"logme", "leep", "nce", "h-score", "h-score-shrunk"}
    scores |= {"linear-probe", "ridge-loo", "minus-unprompted"}
    parts = {"unprompted", "gain", "probe", "centroid"}
    parts |= {"kernel", "alignment", "effective-dimension"}
    assert set(row["predictors"]) == scores | parts | {"epoch-1", "epoch-2", "first-steps"}
    assert None not in row["predictors"].values() and min(row["seconds"].values()) > 0
    laps = ("mapping", "pass", "kernel", "probe", "centroid")
    assert row["seconds"]["forecast"] == pytest.approx(sum(row["seconds"][lap] for lap in laps))
    assert {f"score {name}" for name in scores - {"minus-unprompted"}} < set(row["seconds"])
    # The first steps cost what a step costs, whatever the whole split takes to resize and hash.
    assert row["seconds"]["first-steps"] < 3 * row["seconds"]["training-projected"]
    assert row["predictors"]["minus-unprompted"] == -row["predictors"]["unprompted"]
    assert row["epochs"] == 3 and row["first_steps"] >= 1
    for name in ("rows.csv", "table.md", "evaluation.json", "prediction.png", "prediction.svg"):
        assert (tmp_path / name).stat().st_size > 0
    calibration = tmp_path / "calibration.json"
    assert run(
        ["ntk", "--source", f"{trained}/source0", "--target", f"{trained}/target0.npz", "--method",
         "full+ilm", "--images", "12", "--mapping-images", "20", "--calibration", str(calibration),
         "--out", str(tmp_path / "s.svg"), "--quiet"]
    ) == 0  # fmt: skip
    assert "calibrated on 4 pairs" in capsys.readouterr().out
    made = json.loads(calibration.read_text())
    assert (made["method"], made["images"], made["mapping_images"]) == ("full+ilm", 12, 20)
    assert made["training"] == f"3 epochs on up to {max(r['n_train'] for r in rows)} images"

    monkeypatch.setattr(study, "measure_trial", lambda *_, **__: pytest.fail("measured again"))
    assert ntk_study(trained / "results", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["missing"]) == (4, 0)


@pytest.mark.parametrize(
    ("results", "more", "message"),
    [
        ("absent", [], "holds no grid"),
        ("results", ["--threads", "0"], "--threads must be at least 1"),
        ("results", ["--weights", "w.pth"], "--weights cannot be given"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], results: str,
    more: list[str], message: str,
) -> None:  # fmt: skip
    assert ntk_study(trained / results, tmp_path, *more) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
