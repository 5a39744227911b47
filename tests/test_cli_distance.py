"""reprogram distance: a table, one JSON document, one-line errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cases import CANVAS

from reprogram.cli import run
from reprogram.sources import create_network, write_source_directory


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_network("cifar_resnet20", 12, {})
    directory = write_source_directory(
        tmp_path_factory.mktemp("source") / "tiny", network, architecture="cifar_resnet20",
        mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), image_size=CANVAS,
        class_names=[f"s{i}" for i in range(12)],
    )  # fmt: skip
    return str(directory)


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
