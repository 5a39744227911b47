"""reprogram distance: a table, one JSON document, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import CANVAS

from reprogram.analysis.distance import grid
from reprogram.cli import run
from reprogram.data import load_target
from reprogram.experiments import Cell
from reprogram.experiments.results import Entry, ResultStore
from reprogram.report import with_distances
from reprogram.sources import create_network, write_source_directory


def make_source(place: Path, training: dict[str, Any] | None = None) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_network("cifar_resnet20", 12, {})
    directory = write_source_directory(
        place, network, architecture="cifar_resnet20", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
        image_size=CANVAS, class_names=[f"s{i}" for i in range(12)], training=training,
    )  # fmt: skip
    return str(directory)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_source(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two sets of the same classes: dark and bright, 60 and 40 training images."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for name, n, brightness in (("dark", 60, 0), ("bright", 40, 120)):
        images = rng.integers(0, 100, (n + 20, 12, 12, 3)) + brightness
        labels = np.arange(n + 20) % 2
        np.savez(
            folder / f"{name}.npz",
            train_images=images[:n].astype(np.uint8), train_labels=labels[:n],
            test_images=images[n:].astype(np.uint8), test_labels=labels[n:],
        )  # fmt: skip
    return [str(folder / f"{name}.npz") for name in ("dark", "bright")]


def distance(source: str, first: str, second: str, *more: str) -> int:
    return run(["distance", "--first", first, "--second", second, "--features", source, "--quiet",
                "--replicates", "4", *more])  # fmt: skip


def test_json_holds_values_intervals_and_what_they_were_measured_on(
    source: str, sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = "fid,kid,mmd,sliced-wasserstein,gaussian-kl,proxy-a"
    assert distance(source, *sets, "--metrics", metrics, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["distances"]) == metrics.split(",")
    assert (found["n"], found["d"], found["split"]) == (40, 64, "train")  # of the smaller set
    for measured in found["distances"].values():
        assert measured["low"] <= measured["value"] <= measured["high"]
    assert list(found["fid_against_n"]) == ["10", "20", "40"]
    assert "below 10 d = 640" in found["fid_warning"]
    assert found["distances"]["proxy-a"]["value"] == 2  # dark and bright

    assert distance(source, sets[0], sets[0], "--metrics", "fid,kid", "--json") == 0
    same = json.loads(capsys.readouterr().out)
    assert same["first_fingerprint"] == same["second_fingerprint"]
    assert same["n"] == 30  # two halves
    assert same["distances"]["fid"]["value"] < 0.2 * found["distances"]["fid"]["value"]
    assert same["distances"]["kid"]["low"] <= 0 <= same["distances"]["kid"]["high"]


def test_table_names_every_distance_and_ends_with_what_to_do_next(
    source: str, sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ot")
    assert distance(source, *sets, "--images", "20") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dark and bright   20 train images each")
    for name in ("fid", "kid", "mmd", "sliced-wasserstein", "gaussian-kl", "otdd", "proxy-a"):
        assert sum(line.startswith(f"  {name} ") for line in lines) >= 1
    assert "fid against n" in lines[-2]
    assert f"next: reprogram fit --target {sets[1]}" in lines[-1]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--metrics", "fif"], "unknown distance 'fif'. Did you mean fid"),
        (["--metrics", ","], "names no distance. Write it like fid,kid"),
        (["--images", "5"], "at least 20 images, got 5 and 5"),
        (["--split", "val"], "has no val split"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    source: str, sets: list[str], more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distance(source, *sets, *more) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out


# A grid


METRICS = "fid,gaussian-kl"


def make_grid(place: Path, sets: list[str], **changed: Any) -> tuple[Path, list[dict[str, Any]]]:
    """Two sources, each trained twice on one of the sets, and a grid that crosses them."""
    entries = []
    for name, trained_on, target in (("a", sets[0], sets[1]), ("b", sets[1], sets[0])):
        data = load_target(trained_on).fingerprint
        for seed in (0, 1):
            record = {"target": trained_on, "data": data, "test_accuracy": 0.5 + seed / 4} | changed
            make_source(place / name / f"seed-{seed}", record)
            for method in ("none+ilm", "linear-probe"):
                cell = Cell(str(place / name), target, method, seed=seed, source_seed=seed)
                key = f"{name}{seed}{method}"
                entries.append(Entry(key, key, cell, Path(target).stem, "test"))
    store = ResultStore(place / "out")
    store.add(entries, "made by a test")
    return store.directory, store.rows()


def of_grid(out: Path, features: str, *more: str) -> int:
    return run(["distance", "--results", str(out), "--features", features, "--quiet",
                "--replicates", "4", *more])  # fmt: skip


def test_a_grid_gets_what_its_report_reads(
    source: str, sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rows = make_grid(tmp_path, sets)
    assert of_grid(out, source, "--metrics", METRICS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("40 train images of each set") and "(d = 64)" in lines[0]
    assert [line.split()[:3] for line in lines[2:4]] == [
        ["dark", "bright", "same"], ["bright", "dark", "same"],
    ]  # fmt: skip
    assert lines[-1].endswith(f"next: reprogram bench report {out}")

    found = json.loads((out / "distances.json").read_text(encoding="utf-8"))
    assert (found["n"], found["d"], found["features"]) == (40, 64, source)
    assert [(p["source_seed"], p["source_accuracy"]) for p in found["pairs"]] == [
        (0, 0.5), (1, 0.75), (0, 0.5), (1, 0.75),
    ]  # fmt: skip
    there, back = found["pairs"][0], found["pairs"][2]
    assert (there["source_domain"], there["target_domain"]) == ("dark", "bright")
    assert there["same_classes"] is True
    assert there["metrics"]["fid"] == back["metrics"]["fid"]  # has no direction
    assert there["metrics"]["gaussian-kl"] != back["metrics"]["gaussian-kl"]
    merged = with_distances(rows, found)
    assert merged[0]["distance"]["fid"] == there["metrics"]["fid"]["value"]
    assert set(merged[0]["distance_interval"]) == {"fid", "gaussian-kl"}
    assert [row["source_accuracy"] for row in merged] == [0.5, 0.5, 0.75, 0.75] * 2

    # the same as of the two sets alone, at the same number of images
    assert distance(source, sets[1], sets[0], "--metrics", "fid", "--json") == 0
    alone = json.loads(capsys.readouterr().out)["distances"]["fid"]
    assert alone == pytest.approx(there["metrics"]["fid"])


def test_each_two_sets_are_measured_once_and_never_again(
    source: str, sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = make_grid(tmp_path, sets)
    measured, features = [], []

    def measure(*args: Any, **options: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(args[2])
        return real_measure(*args, **options)

    def sample_features(*args: Any) -> Any:
        features.append(args[1].task.name)
        return real_features(*args)

    real_measure, real_features = grid.measure, grid.sample_features
    monkeypatch.setattr(grid, "measure", measure)
    monkeypatch.setattr(grid, "sample_features", sample_features)
    assert of_grid(out, source, "--metrics", METRICS) == 130  # stopped at the third
    assert not (out / "distances.json").exists()
    measured.insert(0, "before")
    measured[:] = measured[:1]
    assert of_grid(out, source, "--metrics", METRICS) == 0
    assert measured[1:] == [["gaussian-kl"]]  # fid once, Gaussian KL there, and now back
    assert features == ["dark", "bright"] * 2
    first = (out / "distances.json").read_bytes()
    (out / "cache" / "distances.json").write_text("no JSON")
    monkeypatch.undo()
    assert of_grid(out, source, "--metrics", METRICS) == 0
    assert (out / "distances.json").read_bytes() == first


def test_a_set_has_no_distance_from_itself(source: str, sets: list[str], tmp_path: Path) -> None:
    out, _ = make_grid(tmp_path, [sets[0], sets[0]])
    assert of_grid(out, source, "--metrics", METRICS) == 0
    found = json.loads((out / "distances.json").read_text(encoding="utf-8"))
    assert [pair["metrics"] for pair in found["pairs"]] == [{}] * 4


def test_a_grid_that_cannot_be_measured_is_one_line(
    source: str, sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_grid(tmp_path, source) == 2
    assert "holds no grid" in capsys.readouterr().err
    out, _ = make_grid(tmp_path / "unknown", sets, target=None)
    assert of_grid(out, source) == 2
    assert "no source of" in (told := capsys.readouterr().err) and told.count("\n") == 1
    out, _ = make_grid(tmp_path / "changed", sets, data="0" * 64)
    assert of_grid(out, source) == 2
    assert "was trained on other images than" in capsys.readouterr().err
    assert of_grid(out, source, "--first", sets[0]) == 2
    assert "--first and --second, or the --results of a grid" in capsys.readouterr().err
    assert not (out / "distances.json").exists()
