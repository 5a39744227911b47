"""The depth report: claims against permutations, means with intervals, and a tiny run of the command."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import CANVAS, tiny_part
from scipy.stats import spearmanr

from reprogram.analysis import depth
from reprogram.analysis.depth import claims_of, comparisons_of, depth_of, lines_of, markdown, text
from reprogram.cli import run
from reprogram.errors import InputError
from reprogram.figures.curves import Point
from reprogram.figures.depth import depth_picture
from reprogram.sources import create_network, write_source_directory
from reprogram.sources.depth import depth_arguments

SOURCE, SMALLEST = 0, 1  # of the claims


def made(
    accuracy: Callable[[int], float] = lambda level: level / 10,
    smallest: Callable[[int], float] = lambda level: 1 / level,
    levels: int = 6,
) -> list[dict[str, Any]]:
    """Points of two methods on two targets, three seeds: the loss falls with depth."""
    return [
        {
            "kind": "cnn", "level": level, "target": target, "method": method, "seed": seed,
            "source_accuracy": 0.3 + level / 20 + seed / 1000,
            "accuracy": accuracy(level) + 0.1 * (method == "pad+first") + seed / 100,
            "loss": 2 - level / 10, "train_loss": 1 - level / 10, "images": 64,
            "lambda_min": smallest(level), "lambda_min_over_noise": 10.0,
            "smallest_nonzero": smallest(level), "lambda_min_trace_kernel": smallest(level),
            "alignment": 0.5, "effective_dimension": 3.0,
        }
        for method in ("pad+first", "fc+first")
        for target in ("usps", "gtsrb")
        for level in range(1, levels + 1)
        for seed in range(3)
    ]  # fmt: skip


def test_a_claim_holds_only_in_its_own_direction() -> None:
    claims = claims_of(made())
    assert (claims[SOURCE].correlation, claims[SOURCE].verdict) == (pytest.approx(1), "holds")
    assert claims[SOURCE].levels == 6 and len(claims[SOURCE].groups) == 4
    # The smallest eigenvalue falls with depth, and so does the loss.
    assert claims[SMALLEST].verdict == "does not hold: the opposite does"
    assert "does not hold: the opposite does (Spearman +1.00, p = 0.014" in text(made())
    assert claims[-1].correlation is None  # every alignment is the same
    assert "too few depths, or no spread, to say" in text(made())


def test_the_p_value_is_that_of_permuting_depths() -> None:
    heights = [0.1, 0.4, 0.2, 0.5, 0.3, 0.35]
    claim = claims_of(made(lambda level: heights[level - 1]))[SOURCE]
    every = [spearmanr(order, heights).statistic for order in itertools.permutations(range(6))]
    assert claim.correlation == pytest.approx(every[0])
    plain = np.mean(np.abs(every) >= abs(every[0]) - 1e-9)
    # Four groups that share their sources say no more than one; Holm leaves the largest p as it is.
    assert claim.p_value == pytest.approx(plain)
    assert claim.verdict == "does not hold: not resolved"


def test_kinds_of_sources_are_permuted_apart() -> None:
    points = made()
    both = points + [p | {"kind": "dnn"} for p in points]
    assert claims_of(both)[SOURCE].p_value < claims_of(points)[SOURCE].p_value


def test_two_depths_say_nothing() -> None:
    assert claims_of(made(levels=2))[SOURCE].correlation is None


def test_methods_are_compared_in_pairs_by_seed() -> None:
    found = comparisons_of(made(), "pad+first", "fc+first")
    assert set(found) == {("cnn", "usps"), ("cnn", "gtsrb")}
    assert (found["cnn", "usps"].n, found["cnn", "usps"].mean) == (3, pytest.approx(0.1))
    assert "pad+first minus fc+first, cnn on usps: +10.0" in text(made())
    missing = [p for p in made() if (p["method"], p["level"]) != ("fc+first", 3)]
    assert comparisons_of(missing, "pad+first", "fc+first")["cnn", "usps"].mean == pytest.approx(
        0.1
    )


def test_lines_are_means_over_seeds() -> None:
    (line, *_) = lines_of(made())
    accuracy = line.values[2]["accuracy"]
    assert (accuracy.n, accuracy.mean) == (3, pytest.approx(0.31))
    assert accuracy.half_width == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    table = markdown(made())
    assert "| cnn | usps | `pad+first` | 2 | 40.1 +- 0.2 | 31.0 +- 2.5 |" in table


def test_eigenvalues_within_the_noise_are_said_to_be() -> None:
    points = made()
    points[0]["lambda_min_over_noise"] = 0.5
    assert "cannot be told from 0 in 1 of 72 runs" in text(points)


def test_a_source_without_a_level_is_refused() -> None:
    with pytest.raises(InputError, match="does not say its depth"):
        depth_of("embedded")


def test_the_picture_has_a_row_a_kind_and_bands_where_there_are_intervals() -> None:
    panel = {"pad+first usps": [Point(1, 0.5, 0.1), Point(2, 0.6, 0.1)]}
    figure = depth_picture(
        {"cnn": {"a": panel, "b": panel}, "dnn": {"a": panel, "b": {}}},
        percent=["a"],
        logarithmic=["b"],
    )
    assert len(figure.axes) == 4
    first, second = figure.axes[:2]
    assert first.lines[0].get_ydata().tolist() == [50, 60] and len(first.collections) == 1
    assert second.get_yscale() == "log" and first.get_yscale() == "linear"
    with pytest.raises(InputError, match="nothing to draw"):
        depth_picture({})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three depths, two epochs each."""
    folder = tmp_path_factory.mktemp("depth")
    for level in (1, 2, 3):
        torch.manual_seed(level)
        arguments = depth_arguments(f"cnn-{level}", 4, CANVAS)
        write_source_directory(
            folder / f"cnn-{level}", create_network(f"cnn-{level}", 3, arguments),
            architecture=f"cnn-{level}", model_args=arguments, mean=(0.5,) * 3, std=(0.25,) * 3,
            image_size=CANVAS, class_names=list("abc"),
            training={"test_accuracy": 0.2 + 0.1 * level},
        )  # fmt: skip
    parts = {"train": tiny_part(60, 0), "test": tiny_part(30, 1)}
    arrays = {f"{name}_labels": part.labels for name, part in parts.items()}
    for name, part in parts.items():
        images = [np.asarray(part.store.image(i)) for i in range(len(part.labels))]
        arrays[f"{name}_images"] = np.stack(images)
    np.savez(folder / "colours.npz", **arrays)
    sources = ",".join(f"{folder}/cnn-{level}" for level in (1, 2, 3))
    code = run(
        ["bench", "run", "--source", sources, "--target", f"{folder}/colours.npz", "--methods",
         "pad+first,fc+first", "--epochs", "2", "--set", "size=12", "--out",
         str(folder / "results"), "--executor", "inline", "--device", "cpu", "--quiet"]
    )  # fmt: skip
    assert code == 0
    return folder


def test_the_command_measures_tests_and_draws(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    command = ["ntk-depth", str(trained / "results"), "--out", str(tmp_path), "--images", "10",
               "--device", "cpu", "--quiet"]  # fmt: skip
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "a more accurate source, a more accurate target: " in out
    assert "pad+first minus fc+first, cnn on colours: " in out
    assert "6 of 6 cells" in out
    points = [json.loads(p.read_text()) for p in (tmp_path / "rows").iterdir()]
    assert sorted(p["source_accuracy"] for p in points) == pytest.approx(
        [0.3] * 2 + [0.4] * 2 + [0.5] * 2
    )
    vp = {p["level"]: p for p in points if p["method"] == "pad+first"}
    # 10 images with 3 classes are 30 rows.
    assert vp[2]["parameters"] == 3 * (CANVAS**2 - 12**2) and vp[2]["rank"] <= 30
    for name in ("rows.csv", "claims.md", "claims.json", "depth.png", "depth.svg"):
        assert (tmp_path / name).stat().st_size > 0
    monkeypatch.setattr(depth, "measure_point", lambda *_, **__: pytest.fail("measured again"))
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 6


def test_a_directory_without_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ntk-depth", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "holds no grid" in capsys.readouterr().err
