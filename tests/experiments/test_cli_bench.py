"""The verbs of `reprogram bench`: what they print, write and return."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from experiments.conftest import Small, write_target

from reprogram.cli import run


def bench(small: Small, verb: str, *more: str, out: bool = True) -> list[str]:
    words = ["bench", verb, "--source", small.source, "--target", small.target, "--methods"]
    words += [
        "none+ilm,pad+ilm",
        "--set",
        "size=8",
        "batch_size=16",
        "--epochs",
        "2",
        "--executor",
        "inline",
    ]
    return [*words, *(["--out", str(small.out)] if out else []), *more]


def printed(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_plan_lists_cells_and_starts_nothing(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bench(small, "plan", "--seeds", "0,1", "--json")) == 0
    found = printed(capsys)
    assert len(found["cells"]) == found["to_run"] == 4
    assert found["seconds_of_one_worker"] > 0 and found["bytes"] > 0
    assert not small.out.exists()
    words = [
        "bench",
        "plan",
        "--source",
        small.source,
        "--target",
        small.target,
        "--methods",
        "pad+ilm",
    ]
    assert run([*words, "--set", "size=16"]) == 0
    assert "skipped: " in (text := capsys.readouterr().out) and "1 cell, 1 to run" in text


def test_run_status_report(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bench(small, "run", "--fractions", "0.5,1.0", "--json")) == 0
    assert printed(capsys)["done"] == 4
    assert run(["bench", "status", str(small.out), "--json"]) == 0
    found = printed(capsys)
    assert (found["done"], found["missing"], found["active"], found["broken"]) == (4, 0, False, [])
    assert run(["bench", "report", str(small.out)]) == 0
    text = capsys.readouterr().out
    assert "pad+ilm" in text and "100%" in text and "report.html" in text
    for name in ("report.html", "report.md", "report.tex", "table.csv", "rows.csv"):
        assert (small.out / "report" / name).stat().st_size > 100
    head = (small.out / "report" / "rows.csv").read_text().splitlines()[0].split(",")
    assert {"source", "target", "method", "data_fraction", "noise", "seed", "status"} <= set(head)
    assert "data:image/png" in (small.out / "report" / "report.html").read_text()
    shutil.rmtree(small.out / "fits")  # never committed: the report is made of rows
    assert run(["bench", "report", str(small.out), "--json"]) == 0


def test_rows_hold_what_a_reader_asks_for(small: Small) -> None:
    assert run(bench(small, "run", "--quiet")) == 0
    (row, _) = (json.loads(p.read_text()) for p in sorted(small.out.glob("cells/*/result.json")))
    wanted = {
        "source", "target", "method", "data_fraction", "noise", "seed", "source_seed", "train_pool",
        "settings", "status", "selection_rule", "accuracy", "balanced_accuracy", "loss",
        "val_accuracy", "n_train", "n_val", "n_test", "steps", "trainable_parameters",
        "stored_bytes", "images_per_second", "seconds", "peak_memory", "engine", "threads",
        "git_sha", "versions", "fit",
    }  # fmt: skip
    assert wanted <= set(row)


def test_a_grid_of_which_nothing_could_be_run_says_why(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "run", "--source", small.source, "--target", small.target]
    words += ["--methods", "pad+ilm", "--out", str(small.out), "--executor", "inline"]
    assert run([*words, "--set", "size=64"]) == 1
    text = capsys.readouterr().out
    assert "1 skipped" in text and "  skipped: " in text and "bench report" not in text
    assert run([*words, "--set", "size=65"]) == 1  # of its own cell, in the same folder
    assert capsys.readouterr().out.count("  skipped: ") == 1
    steps = [word.replace("pad+ilm", "pad+ilm@steps") for word in words]
    assert run(steps) == 2
    assert "nothing says how many" in capsys.readouterr().err
    assert run([*words, "--set", "patch=8"]) == 2
    assert "none of pad+ilm has a patch" in capsys.readouterr().err
    assert run([*words, "--seeds", "0,0"]) == 2
    assert "holds a cell twice: " in (said := capsys.readouterr().err)
    assert "pad+ilm 100% seed 0. Every" in said


def test_failed_cells_exit_1_and_retry_mends_them(
    small: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprogram.experiments import jobs

    def broken(*arguments: object, **options: object) -> dict:
        raise RuntimeError("no luck")

    monkeypatch.setattr(jobs, "score_test", broken)
    assert run(bench(small, "run")) == 1
    assert "bench retry" in capsys.readouterr().out
    assert run(["bench", "status", str(small.out)]) == 1
    assert "no luck" in capsys.readouterr().out
    monkeypatch.undo()
    assert run(bench(small, "run", "--quiet")) == 1  # what failed is not missing
    assert run(["bench", "retry", str(small.out), "--executor", "inline", "--json"]) == 0
    capsys.readouterr()
    assert run(["bench", "status", str(small.out), "--json"]) == 0
    assert printed(capsys)["done"] == 2


def test_retry_follows_the_data_and_says_so(
    small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from reprogram.experiments import jobs
    from reprogram.experiments.results import ResultStore

    here = replace(small, target=str(write_target(tmp_path / "colours.npz")))
    assert run(bench(here, "run", "--quiet")) == 0
    store = ResultStore(here.out)
    old = {entry.key for entry in store.entries()}
    command, rows = store.command, [store.read(key) for key in old]
    write_target(Path(here.target), seed=5)
    jobs._loaded_task.cache_clear()
    assert run(["bench", "retry", str(here.out), "--executor", "inline", "--quiet"]) == 0
    assert "2 results were made from other data" in caplog.text
    new = {entry.key for entry in store.entries()}
    assert len(new) == 2 and old.isdisjoint(new) and store.command == command
    assert [store.read(key) for key in old] == rows
    prints = {row["target_fingerprint"] for row in store.rows()}
    assert len(prints) == 1 and prints.isdisjoint(row["target_fingerprint"] for row in rows if row)


def test_retry_and_plan_use_the_fits_of_another_directory(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reprogram.experiments.results import ResultStore

    assert run(bench(small, "run", "--quiet")) == 0
    noisy, fits = tmp_path / "noisy", ["--fits", str(small.out)]
    more = ["--noises", "blur:1@test", "--json"]
    capsys.readouterr()
    assert run(bench(small, "plan", *more, out=False)) == 0
    without = printed(capsys)
    assert run(bench(small, "plan", *more, *fits, out=False)) == 0
    found = printed(capsys)
    assert without["bytes"] > found["bytes"] == 0 and found["to_run"] == 2
    words = bench(small, "run", *more, *fits, "--out", str(noisy), out=False)
    assert run(words) == 0
    store = ResultStore(noisy)
    for entry in store.entries():
        store.discard(entry.key)
    assert run(["bench", "retry", str(noisy), *fits, "--executor", "inline", "--quiet"]) == 0
    assert len(store.rows()) == 2 and not (noisy / "fits").exists()


def test_plan_counts_the_caches(
    small: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["bench", "plan", "--source", small.source, "--target", small.target, "--methods"]
    words += ["linear-probe", "--noises", "clean,gaussian:1@test,gaussian:1@both"]
    assert run([*words, "--json"]) == 0
    found = printed(capsys)
    # Test images clean and noisy, training images clean and noisy: logits and features of each.
    # The noisy test images of `test` and `both` are the same, but each has its own training.
    views = 30 + 2 * 30 + 2 * 60
    assert found["feature_bytes"] == views * (12 + 64) * 4
    assert (
        found["noise_bytes"] == (30 + 60) * 8 * 8 * 3 and found["noise_seconds_of_one_worker"] > 0
    )
    assert run([*words[:-2], "--set", "augment=flip", "--json"]) == 0
    assert printed(capsys)["feature_bytes"] == (30 + 2 * 60) * (12 + 64) * 4  # and mirrored ones
    monkeypatch.setattr("sys.argv", ["reprogram", *words, "--workers", "2"])
    assert run([*words, "--workers", "2"]) == 0
    assert "MB of stored features" in (text := capsys.readouterr().out)
    assert "MB of noisy images" in text and "linear-probe" in text and "stored" in text
    assert text.rstrip().endswith(
        "--noises clean,gaussian:1@test,gaussian:1@both --workers 2 --out DIR"
    )
    assert "next: reprogram bench run --source " in text


def test_tune_keeps_what_could_be_chosen(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "tune", "--source", small.source, "--target", small.target, "--out"]
    words += [str(small.out), "--methods", "pad+ilm,pad+many", "--executor", "inline", "--set"]
    words += ["size=8", "batch_size=16", "sources_per_target=5", "--epochs", "1"]
    assert run(words) == 1
    text = capsys.readouterr().out
    assert "no rate: method pad+many: sources_per_target must be in 1 to 4" in text
    document = json.loads((small.out / "rates.json").read_text())
    assert [row["method"] for row in document["rates"]] == ["pad+ilm"]
    assert [row["method"] for row in document["not_chosen"]] == ["pad+many"]


def test_tune_writes_rates_that_a_config_reads(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "from pathlib import Path\nfrom reprogram.experiments import Rates, product\n"
        f"RATES = Rates(Path({str(small.out)!r}) / 'rates.json')\n"
        "def grid():\n"
        f"    return product(sources=[{small.source!r}], targets=[{small.target!r}], rates=RATES,\n"
        "        methods=['none+ilm', 'pad+ilm'], settings={'epochs': 2, 'size': 8}, seeds=(0, 1))\n"
    )
    place = ["--out", str(small.out), "--executor", "inline"]
    assert run(["bench", "tune", str(config), *place, "--json"]) == 0
    (chosen,) = printed(capsys)["rates"]
    assert chosen["method"] == "pad+ilm" and set(chosen["val_accuracy"]) == {"1", "3", "10"}
    tuned = [json.loads(p.read_text()) for p in small.out.glob("tune/cells/*/result.json")]
    assert len(tuned) == 3 and not any("accuracy" in row for row in tuned)
    fits = len(list(small.out.glob("fits/*")))
    assert run(["bench", "run", str(config), *place, "--json"]) == 0
    rates = {
        row["settings"]["lr"]
        for row in map(json.loads, (p.read_text() for p in small.out.glob("cells/*/result.json")))
        if row["method"] == "pad+ilm"
    }
    assert rates == {chosen["rates"]["lr"]}
    # pad+ilm seed 0 was trained while tuning; none+ilm twice and pad+ilm seed 1 are new.
    assert len(list(small.out.glob("fits/*"))) == fits + 3


def test_fits_of_the_same_directory_are_its_own(small: Small) -> None:
    same = str(small.out.parent / "." / small.out.name / ".." / small.out.name)
    assert run(bench(small, "run", "--quiet", "--fits", same)) == 0
    assert len(list(small.out.glob("fits/*"))) == 2


def test_the_verbs_open_a_fit_of_a_grid(small: Small) -> None:
    assert run(bench(small, "run", "--quiet")) == 0
    fit = next(small.out.glob("fits/*"))
    assert run(["show", str(fit), "--quiet"]) == 0  # its target is a file, which nobody names again
    assert (fit / "show.png").stat().st_size > 1000
    assert run(["evaluate", str(fit), "--quiet"]) == 0


def test_fits_of_another_directory_are_used(small: Small, tmp_path: Path) -> None:
    assert run(bench(small, "run", "--quiet")) == 0
    fits = sorted(small.out.glob("fits/*"))
    noisy = [
        "--noises",
        "clean,blur:1@test",
        "--fits",
        str(small.out),
        "--out",
        str(tmp_path / "noisy"),
    ]
    assert run(bench(small, "run", *noisy, "--quiet", out=False)) == 0
    assert sorted(small.out.glob("fits/*")) == fits
    assert len(list((tmp_path / "noisy").glob("cells/*"))) == 4
    assert not (tmp_path / "noisy" / "fits").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--out", "x"], "nothing to run"),
        (["run", "absent.py", "--out", "x"], "is no file"),
        (["run", "absent.py", "--source", "s", "--out", "x"], "a config holds the whole grid"),
        (
            ["plan", "--source", "embedded", "--target", "digits", "--seeds", "a"],
            "--seeds takes numbers",
        ),
        (
            ["plan", "--source", "embedded", "--target", "digits", "--methods", "pad+ilk"],
            "Did you mean",
        ),
        (
            ["plan", "--source", "embedded", "--target", "digits", "--noises", "fog"],
            "KIND:SEVERITY",
        ),
        (["plan", "--source", "embedded", "--target", "digits", "--workers", "0"], "at least 1"),
        (
            ["run", "--source", "embedded", "--target", "digits", "--gpus", "1", "--out", "x"],
            "belongs to --executor ray, not to process",
        ),
        (["status", "nowhere"], "holds no grid"),
        (["report", "nowhere"], "holds no grid"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["bench", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
