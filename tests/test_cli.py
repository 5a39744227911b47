"""The command line as a user meets it: results, files, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CANVAS
from PIL import Image

from reprogram.cli import run
from reprogram.cli.demo import demo
from reprogram.cli.fit import fit
from reprogram.methods import BASELINES, METHODS, SMALL_SET, get_method
from reprogram.settings import Settings
from reprogram.sources import create_network, write_source_directory

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source directory as train-source writes it, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_network("cifar_resnet20", 12, {})
    return write_source_directory(
        tmp_path_factory.mktemp("source") / "tiny", network, architecture="cifar_resnet20",
        mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), image_size=CANVAS,
        class_names=[f"s{i}" for i in range(12)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's images: two classes, several sizes and modes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, colour in (("ant", 0), ("bee", 2)):
        (root / label).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 100, (10 + i % 3, 12, 3), dtype=np.uint8)
            pixels[..., colour] += 120
            Image.fromarray(pixels).convert("RGBA" if i % 5 == 0 else "RGB").save(
                root / label / f"{i}.png"
            )
    return root


def command(*words: object) -> list[str]:
    return [str(word) for word in words]


def test_fit_evaluate_predict_show_export(
    source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    fit = command("fit", "--target", photos, "--source", source, "--method", "pad+ilm", "--epochs", 2,
                  "--batch-size", 8, "--set", "size=12", "--out", out, "--json", "--quiet")  # fmt: skip
    assert run(fit) == 0
    row = json.loads(capsys.readouterr().out)
    assert 0 <= row["accuracy"] <= 1 and row["n_test"] == 8 and row["settings"]["size"] == 12
    assert {"config.json", "model.safetensors", "README.md", "result.json"} <= set(os.listdir(out))

    written = (out / "model.safetensors").stat().st_mtime_ns
    assert run(fit) == 0  # the same command returns the finished run
    again = json.loads(capsys.readouterr().out)
    assert again["resumed_finished"] and again["accuracy"] == row["accuracy"]
    assert (out / "model.safetensors").stat().st_mtime_ns == written

    assert run(command("evaluate", out, "--target", photos, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == row["accuracy"] and (found["n"], found["split"]) == (8, "test")

    # Validation was cut from this folder by the run: the same images, the same figure.
    # Without --target, of the target that the run recorded.
    assert run(command("evaluate", out, "--split", "val", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(row["val_accuracy"])
    assert (found["n"], found["split"]) == (row["n_val"], "val")

    assert run(command("evaluate", out, "--split", "train", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["split"]) == (row["n_train"], "train")

    image = next((photos / "bee").iterdir())
    assert run(command("predict", out, image, "--top", 2, "--json")) == 0
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    assert {p["class"] for p in answer["predictions"]} == {"ant", "bee"}
    assert sum(p["probability"] for p in answer["predictions"]) == pytest.approx(1, abs=1e-4)

    assert run(command("show", out)) == 0  # it remembers its target
    with Image.open(out / "show.png") as picture:
        assert min(picture.size) > 300
    capsys.readouterr()

    assert run(command("export", out, "--to", "pt2", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["difference"] < 1e-4


@pytest.mark.parametrize(("method", "said"), [("none+flm", True), ("pad+flm", False)])
def test_fit_says_which_settings_nothing_reads(
    method: str, said: bool, source: Path, photos: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fit = command("fit", "--target", photos, "--source", source, "--method", method, "--epochs", 1,
                  "--lr", 0.1, "--batch-size", 8, "--out", tmp_path)  # fmt: skip
    assert run(fit) == 0
    line = f"{method} trains nothing: it does not read epochs, lr\n"
    assert (line in capsys.readouterr().err) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "1.5"], "--epochs: must be a whole number, got '1.5'"),
        (["--seed", "0.5"], "--seed: must be a whole number"),
        (["--epochs", "3", "--set", "steps=5"], "epochs and steps both say how long"),
        (["--method", "pad+ilm@steps"], "nothing says how many. Give --set steps=N"),
        (["--set", "label_smoothing=1"], "must be below 1"),
        (["digits"], "fit takes no 'digits'"),
    ],
)
def test_what_fit_cannot_mean_is_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["fit", "--target", "digits", *words, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_of_the_user_s_is_not_written_into(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(photos.rglob("*"))
    training = command("train-source", "--target", "digits", "--network", "cnn-1", "--width", 2)
    grid = command("bench", "run", "--target", "digits", "--source", "embedded")
    for words, what in ((training, "training of a source"), (grid, "grid")):
        assert run([*words, "--out", str(photos)]) == 2
        assert f"is not empty and holds no {what}" in capsys.readouterr().err
    assert sorted(photos.rglob("*")) == before


def test_a_target_that_moved_is_named_by_target(
    source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved, out = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "run"
    assert run(command("fit", "--target", moved, "--source", source, "--method", "none+flm",
                       "--out", out, "--quiet")) == 0  # fmt: skip
    there = moved.rename(tmp_path / "there")
    assert run(command("evaluate", out)) == 2
    assert "--target names where it is now" in capsys.readouterr().err
    assert run(command("evaluate", out, "--target", there)) == 0
    assert run(command("export", out, "--to", "pt2", "--out", tmp_path)) == 2
    assert "is a directory. Give a file" in capsys.readouterr().err


def test_other_settings_in_a_used_directory_need_overwrite(
    source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*more: object) -> int:
        return run(command("fit", "--target", photos, "--source", source, "--epochs", 1,
                           "--batch-size", 8, "--out", tmp_path / "run", "--quiet", *more))  # fmt: skip

    assert fit() == 0
    assert fit("--lr", 0.5) == 2
    message = capsys.readouterr().err
    assert "holds another run: lr 0.01, now 0.5." in message and "--overwrite" in message
    before = (tmp_path / "run" / "result.json").read_text()
    assert fit("--set", "size=99", "--overwrite") == 2  # refused before anything is replaced
    assert (tmp_path / "run" / "result.json").read_text() == before
    assert fit("--lr", 0.5, "--overwrite") == 0
    after = (tmp_path / "run" / "result.json").read_text()
    assert after != before
    assert fit("--lr", 0.5, "--overwrite") == 0  # it is this run: nothing is trained again
    assert (tmp_path / "run" / "result.json").read_text() == after
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    assert fit("--out", tmp_path / "foreign", "--overwrite") == 2
    assert (tmp_path / "foreign" / "thesis.txt").read_text() == "mine"


def test_changed_images_are_not_taken_for_those_held_out(
    source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    here, moved = tmp_path / "photos", tmp_path / "elsewhere" / "renamed"
    shutil.copytree(photos, here)
    out = tmp_path / "run"
    assert run(command("fit", "--target", here, "--source", source, "--epochs", 1, "--batch-size", 8,
                       "--out", out, "--quiet")) == 0  # fmt: skip

    def held(target: Path) -> str:
        assert run(command("evaluate", out, "--target", target, "--split", "val", "--json")) == 0
        return json.loads(capsys.readouterr().out)["n"]

    capsys.readouterr()
    shutil.copytree(here, moved)
    assert held(moved) == held(here)  # the same images under another name
    assert run(command("evaluate", out)) == 0
    assert "not those that the model was fitted to" not in capsys.readouterr().err
    image = next((here / "ant").iterdir())
    shutil.copy(image, image.with_name("another.png"))
    assert run(command("evaluate", out)) == 0
    assert "not those that the model was fitted to" in capsys.readouterr().err
    assert run(command("evaluate", out, "--split", "val")) == 2
    assert "cannot be found again" in capsys.readouterr().err


def test_train_source_makes_what_evaluate_source_and_fit_take(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    train = command("train-source", "--target", photos, "--out", out, "--epochs", 1, "--image-size", 16,
                    "--batch-size", 8, "--half", "--json", "--quiet")  # fmt: skip
    assert run(train) == 0
    made = json.loads(capsys.readouterr().out)
    assert run(command("evaluate-source", out, "--target", photos, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == made["test_accuracy"] and found["n"] == made["num_test"]
    weights = (out / "model.safetensors").read_bytes()
    assert run(train) == 0 and (out / "model.safetensors").read_bytes() == weights
    capsys.readouterr()
    assert run([*train, "--lr", "0.01"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(command("fit", "--source", out, "--target", photos, "--method", "linear-probe",
                       "--epochs", 1, "--out", tmp_path / "run", "--quiet")) == 0  # fmt: skip


def test_fit_takes_one_of_several_trainings_of_a_source(
    source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        shutil.copytree(source, tmp_path / "mine" / f"seed-{seed}")
    words = command("fit", "--source", tmp_path / "mine", "--target", photos, "--method", "none+ilm",
                    "--out", tmp_path / "run", "--json", "--quiet")  # fmt: skip
    assert run(words) == 2
    assert "Choose one (--source-seed)" in capsys.readouterr().err
    assert run([*words, "--source-seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["source"].endswith("seed-1")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--target", "digits", "--method", "pad+ilmm"], "Did you mean"),
        (["fit", "--target", "digts"], "digits"),
        (["fit", "--target", "digits", "--set", "sise=3"], "size"),
        (["fit", "--target", "digits", "--set", "size=abc"], "whole number"),
        (["fit", "--target", "digits", "--set", "foo=3"], "Settings: epochs, steps, batch_size"),
        (["fit", "--target", "digits", "--fraction", "1.5"], "(0, 1]"),
        (
            ["fit", "--target", "digits", "--fraction", "20"],
            "--fraction must be in (0, 1], got 20: for 20 % write 0.2.",
        ),
        (["fit", "--target", "fotos"], "No folder is called so"),
        (["fit", "--target", "digits", "--fraction", "lots"], "lots"),
        (["fit", "--target", "digits", "--method", "pad+ilm@twice"], "refit"),
        (["fit", "--target", "digits", "--source", "resnet81"], "resnet18"),
        (["fit", "--target", "digits", "--max-memory", "lots"], "4GiB"),
        (["fit", "--target", "no/such/folder"], "no/such/folder"),
        (["fit", "--target", "digits", "--set", "rank=3"], "lowrank"),
        (
            ["fit", "--target", "digits", "--epochs", "1", "--set", "epochs=3"],
            "--set epochs=3 and --epochs 1 are one setting",
        ),
        (["fit", "--target", "digits", "--source-seed", "3"], "Leave it out"),
        (["fit", "--target", "digits", "--set", "lr_mask=1"], "It belongs to smm"),
        (["evaluate", "nowhere", "--target", "digits"], "nowhere"),
        (["predict", "nowhere", "x.png"], "nowhere"),
        (["train-source", "--target", "digits", "--out", "x", "--lr", "-1"], "at least 0"),
        (["train-source", "--target", "digits", "--out", "x", "--weights", "w"], "--extractor"),
        (["doctor", "--weights", "w.pth"], "need --engine"),
        (["ntk", "--target", "digits", "--out", "x.pdf"], "must end in .png or .svg"),
        (["frobnicate"], "frobnicate"),
        (["fit"], "fit needs --target. "),
        (["fit", "photos"], "fit needs --target (got 'photos' without it)."),
        (["fit", "--target"], "--target requires an argument"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    source: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if words[0] == "fit" and "--source" not in words and len(words) > 1:
        words = [*words, "--source", str(source)]
    assert run(words) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("reprogram fit")]
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    assert expected in lines[0]
    assert captured.out == "" and os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [16, 17, 40])
def test_a_padding_size_that_the_canvas_cannot_hold_names_full(
    size: int, source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(command("fit", "--target", photos, "--source", source, "--set", f"size={size}",
                       "--out", out, "--quiet")) == 2  # fmt: skip
    assert "full" in capsys.readouterr().err


def test_a_truncated_image_is_named(
    source: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    image = broken / "ant" / "3.png"
    image.write_bytes(image.read_bytes()[:60])
    out = tmp_path / "run"
    assert (
        run(command("fit", "--target", broken, "--source", source, "--epochs", 1, "--out", out))
        == 2
    )
    assert str(image) in capsys.readouterr().err
    assert not (out / "result.json").exists()


def test_no_permission_is_exit_code_1(
    source: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import reprogram.files

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reprogram.files.os, "replace", full)
    assert run(command("fit", "--target", photos, "--source", source, "--epochs", 1,
                       "--out", tmp_path / "run", "--quiet")) == 1  # fmt: skip
    assert "No space left" in capsys.readouterr().err


def test_lists_and_doctor(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    assert run(["list", "methods", "--source", str(source)]) == 0
    text = capsys.readouterr().out
    assert all(
        name in text
        for name in ("pad", "smm", "ilm", "blm+", "full-finetune", "Cai et al. 2024", "@steps")
    )
    assert f"parameters ({source}, 10 classes)" in text
    assert run(["list", "methods", "--source", str(source), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["methods"]
    assert {"pad+ilm", "linear-probe"} <= {row["method"] for row in rows}
    members = {
        "sources": "resnet18", "targets": "digits", "settings": "Pixels of the random crop's margin",
        "noises": "salt-and-pepper",
    }  # fmt: skip
    for table, member in members.items():
        assert run(["list", table]) == 0
        assert member in capsys.readouterr().out
        assert run(["list", table, "--json"]) == 0
        assert member in json.dumps(json.loads(capsys.readouterr().out))
    assert run(["list", "settings", "--method", "pad+blm", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["settings"]
    found = {row["setting"]: row for row in rows}
    read = set(get_method("pad+blm").settings_read(Settings().to_dict()))
    assert set(found) == read and {"size", "smoothing"} <= read and "rank" not in read
    assert all(row["what it is"] for row in rows)
    told = [f"{name}={row['value']}" for name, row in found.items()]
    assert Settings().updated(Settings.parse(told)) == get_method("pad+blm").settings
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].keys() - {"dev", "docs"}
    assert all(name in text for name in ["torch", *(f"extra {extra}" for extra in extras)])


def subprocess_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}


def test_help_of_fit_names_the_defaults_that_methods_set() -> None:
    said = " ".join((fit.__doc__ or "").split())
    assert "50 for the four baselines, 200 for most PROMPT+MAPPING" in said
    assert {m.settings.epochs for m in BASELINES.values()} == {50} and len(BASELINES) == 4
    pairs = [m.settings.epochs for name, m in METHODS.items() if name not in BASELINES]
    assert pairs.count(200) > len(pairs) / 2
    assert "64 below 10,000 training images, else 256" in said and SMALL_SET == 10_000
    assert "ignored where the set has a validation split of its own" in said
    assert "The report's" not in (demo.__doc__ or "")


def test_help_does_not_import_torch() -> None:
    code = "import sys; from reprogram.cli import run; run(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=subprocess_environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"train-source" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent to a child process")
def test_ctrl_c_keeps_finished_epochs_and_the_same_command_goes_on(
    source: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = command(sys.executable, "-m", "reprogram", "fit", "--target", photos, "--source", source,
                    "--epochs", 500, "--batch-size", 8, "--out", out, "--json")  # fmt: skip
    process = subprocess.Popen(
        words,
        env=subprocess_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if (out / "checkpoint.pt").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err and "Traceback" not in err
    assert (out / "checkpoint.pt").exists() and not (out / "result.json").exists()
