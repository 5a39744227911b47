"""reprogram ntk: the spectrum, the prediction, the picture; one JSON document; one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reprogram.analysis import calibration
from reprogram.cli import run
from reprogram.sources import create_network, write_source_directory
from reprogram.sources.depth import depth_arguments


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CNN of level 1 on 16 px, two trainings."""
    folder = tmp_path_factory.mktemp("cnn-1")
    arguments = depth_arguments("cnn-1", 6, 16)
    for seed in (0, 1):
        torch.manual_seed(seed)
        write_source_directory(
            folder / f"seed-{seed}", create_network("cnn-1", 10, arguments), architecture="cnn-1",
            model_args=arguments, mean=(0.5,) * 3, std=(0.25,) * 3, image_size=16,
            class_names=[f"s{i}" for i in range(10)],
        )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ntk(source: Path, *more: str, images: int = 20) -> int:
    more = more if "--method" in more else ("--method", "pad+flm", *more)
    return run(
        ["ntk", "--source", str(source), "--target", "digits", "--images", str(images),
         "--mapping-images", "40", "--device", "cpu", *more]
    )  # fmt: skip


def test_it_prints_the_spectrum_and_the_prediction_and_draws(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ntk(sources / "seed-0", "--method", "pad+flm") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"full kernel, 200 rows, {3 * (16**2 - 14**2)} parameters, rank ")
    for words in ("largest eigenvalue", "eigenvalue 180 (P)", "noise floor", "effective dimension",
                  "alignment, full kernel", "residual in the top 10"):  # fmt: skip
        assert words in out
    assert "leave-one-out accuracy " in out and "uncalibrated: how far training ends" in out
    assert "predicted" not in out
    assert "mapping fitted on 40 other images" in out
    assert out.rstrip().endswith(f"fit --source {sources}/seed-0 --target digits --method pad+flm")
    assert Path("ntk-digits-pad+flm.png").read_bytes().startswith(b"\x89PNG")
    assert err.count("\n") == 1


def test_json_is_one_document_and_the_seed_picks_the_source(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prints = []
    for seed in ("0", "1"):
        assert ntk(sources, "--source-seed", seed, "--json", "--out", "s.svg", "--by-trace") == 0
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert not err and found["source"] == f"{sources}/seed-{seed}"
        assert found["predicted_accuracy"] == found["accuracy"] and found["predicted_error"] is None
        assert found["spectrum"]["rank"] <= found["kernel"]["parameters"] == 180
        prints.append(found["source_fingerprint"])
    assert prints[0] != prints[1] and "<svg" in Path("s.svg").read_text()


def constant_fit(intercept: float, pairs: int) -> dict[str, float]:
    """A calibration that predicts the same whatever the parts are."""
    return {
        "intercept": intercept, **dict.fromkeys(calibration.PARTS, 0), "error": 0.04, "pairs": pairs,
    }  # fmt: skip


def test_a_calibration_file_makes_the_prediction(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = constant_fit(0.5, pairs=24)
    Path("c.json").write_text(json.dumps(values))
    assert ntk(sources / "seed-0", "--calibration", "c.json") == 0
    out = capsys.readouterr().out
    assert (
        "predicted accuracy 50.0 %   +- 4.0 points (95 %)\ncalibrated on 24 pairs: from nothing"
        in out
    )
    assert "uncalibrated" not in out


@pytest.mark.parametrize(
    "more, message",
    [
        (["--method", "none+flm"], "no trainable parameters"),
        (["--method", "pad+fml"], "Did you mean pad+flm"),
        (["--val-share", "1.5"], "val_share must be in [0, 1)"),
        (["--calibration", "absent.json"], "calibration 'absent.json' cannot be read"),
        (["--set", "size=99"], "size"),
        (["--source-seed", "7"], "no training with seed 7"),
        (["--max-memory", "1MiB", "--kind", "full"], "ridge regression on the full kernel of 20"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    sources: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert ntk(sources / "seed-0", *more) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_calibration_of_other_forecasts_is_refused(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = constant_fit(0.5, pairs=24)
    made = {"method": "full+ilm", "images": 20, "mapping_images": 40}
    Path("c.json").write_text(json.dumps(values | made))
    assert ntk(sources / "seed-0", "--calibration", "c.json", "--method", "pad+flm") == 2
    assert "made for --method full+ilm (not pad+flm)" in capsys.readouterr().err
    Path("c.json").write_text(json.dumps(values | made | {"images": 200, "method": "pad+flm"}))
    assert ntk(sources / "seed-0", "--calibration", "c.json", "--method", "pad+flm") == 2
    assert "made for --images 200 (not 20)" in capsys.readouterr().err


def test_a_set_with_fewer_images_than_the_calibration_s_is_not_calibrated(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"method": "pad+flm", "images": 20, "mapping_images": 40}
    Path("c.json").write_text(json.dumps(constant_fit(0.5, pairs=24) | made))
    more = ("--calibration", "c.json", "--method", "pad+flm", "--train-pool", "30")
    assert ntk(sources / "seed-0", *more) == 0
    out, err = capsys.readouterr()
    assert "too few images for the calibration, which was made for --images 20" in err
    assert "uncalibrated" in out and "predicted accuracy" not in out


def test_the_package_s_own_calibration_serves_where_it_has_one(
    sources: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = constant_fit(0.4, pairs=9)
    made = {
        "images": 20,
        "mapping_images": 40,
        "training": "5 epochs on up to 99 images",
        "epochs": 5,
        "n_train": 9,
    }
    shipped = {"pad+flm": values | made}
    Path("calibrations.json").write_text(json.dumps(shipped))
    monkeypatch.setattr(calibration, "SHIPPED", str(Path("calibrations.json").absolute()))
    assert ntk(sources / "seed-0", "--method", "pad+flm", "--quiet") == 0
    assert (
        "predicted accuracy 40.0 %   +- 4.0 points (95 %) after 5 epochs on up to 99 images\n"
        "calibrated on 9 pairs: from "
    ) in (out := capsys.readouterr().out)
    assert "--epochs 5 --train-pool 10" in out.splitlines()[-1]  # 10 %, so 1, validates
    assert ntk(sources / "seed-0", "--method", "pad+flm", "--quiet", images=10) == 0
    assert "uncalibrated" in capsys.readouterr().out
    assert ntk(sources / "seed-0", "--method", "full+flm", "--quiet") == 0
    assert "uncalibrated" in capsys.readouterr().out


def test_the_package_holds_the_calibration_of_the_committed_study() -> None:
    study = Path(__file__).parents[1] / "results" / "ntk" / "study" / "calibration.json"
    fit = calibration.Calibration.read(study)
    assert fit.method == "full+ilm"
    assert calibration.Calibration.shipped("full+ilm", 200, 512) == fit
    assert calibration.Calibration.shipped("full+ilm", 200, 100) is None
    assert calibration.Calibration.shipped("pad+ilm", 200, 512) is None


def test_one_image_is_ordinary(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ntk(sources / "seed-0", "--json", images=1) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["probe"], found["spectrum"]["size"]) == (1, 0.1, 10)
    assert found["accuracy"] == found["start"]  # nothing is left to learn from


def test_the_next_command_trains_what_was_forecast(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seed", "3", "--train-pool", "100", "--set", "size=12"]
    assert ntk(sources / "seed-0", *options) == 0
    out = capsys.readouterr().out.rstrip()
    assert out.endswith("--method pad+flm --seed 3 --train-pool 100 --set size=12")
    assert " s, with spectrum and picture " in out


def test_the_jacobian_can_be_kept_and_taken_up_again(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--store", "j", "--rows", "jacobian", "--json"]
    documents = []
    for _ in range(2):
        assert ntk(sources / "seed-0", *kept, images=6) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert Path("j/progress.json").exists()
    assert documents[0]["kernel"]["rows"] == "jacobian"
    assert documents[0]["spectrum"] == documents[1]["spectrum"]


def test_several_trainings_need_a_seed(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ntk(sources) == 2
    assert "trained with seeds 0, 1" in capsys.readouterr().err
