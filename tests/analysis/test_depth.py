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
from reprogram.analysis.depth import (
    choices_of,
    claims_of,
    comparisons_of,
    depth_of,
    lines_of,
    markdown,
    text,
)
from reprogram.analysis.depth import measure as depth_measure
from reprogram.analysis.forecast import Forecast
from reprogram.cli import run
from reprogram.errors import InputError
from reprogram.experiments.jobs import Context, cell_source
from reprogram.experiments.results import ResultStore
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
            "lambda_min": smallest(level),
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
    assert "does not hold: the opposite does (Spearman +1.00, p = 0.011" in text(made())
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
    difference = found["cnn", "usps"].difference
    assert (difference.n, difference.mean) == (3, pytest.approx(0.1))
    assert "pad+first minus fc+first, cnn on usps: +10.0" in text(made())
    missing = [p for p in made() if (p["method"], p["level"]) != ("fc+first", 3)]
    found = comparisons_of(missing, "pad+first", "fc+first")
    assert found["cnn", "usps"].difference.mean == pytest.approx(0.1)


def test_a_comparison_is_as_uncertain_as_the_test_images_allow() -> None:
    points = [p | {"n_test": 400} for p in made()]
    found = comparisons_of(points, "pad+first", "fc+first")["cnn", "usps"]
    # d = 0.1 for every seed: t(0.975, 2) sqrt(0.1 * 0.9 / 400)
    assert found.difference.half_width == pytest.approx(4.30265 * 0.015)
    # Two places are tested: t = 0.1 / 0.015 has p = 0.0217 with 2 degrees of freedom.
    assert found.p_value == pytest.approx(2 * 0.0217, abs=1e-3)
    unknown = comparisons_of(made(), "pad+first", "fc+first")["cnn", "usps"]
    assert unknown.difference.half_width == pytest.approx(0, abs=1e-12)


def test_a_name_does_not_break_the_table() -> None:
    points = [p | {"target": "a|b"} for p in made() if p["target"] == "usps"]
    assert r"| cnn | a\|b | `pad+first` | 2 |" in markdown(points)


def test_lines_are_means_over_seeds() -> None:
    (line, *_) = lines_of(made())
    accuracy = line.values[2]["accuracy"]
    assert (accuracy.n, accuracy.mean) == (3, pytest.approx(0.31))
    assert accuracy.half_width == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    table = markdown(made())
    assert "| cnn | usps | `pad+first` | 2 | 40.1 +- 0.2 | 31.0 +- 2.5 |" in table


def test_eigenvalues_within_the_noise_are_said_to_be() -> None:
    points = made()
    points[0]["smallest_nonzero"] = 0.0
    assert "cannot be told from 0 in 1 of 72 runs" in text(points)


def test_the_full_kernel_s_smallest_is_tested_once() -> None:
    points = made()
    for point in points:  # VP, whose rank lies below its rows
        point["lambda_min"] = 0.0 if point["method"] == "pad+first" else point["lambda_min"]
    words = [claim.words for claim in claims_of(points)]
    assert len(words) == len(set(words)) == 5
    assert len(claims_of(points)[SMALLEST].groups) == 4  # VP has one that is above 0


def test_what_is_below_the_noise_ties_and_says_nothing() -> None:
    claim = claims_of(made(smallest=lambda _: 0.0))[SMALLEST]
    assert claim.correlation is None and claim.p_value is None


Value = Callable[[str, dict[str, Any]], float]


def choosing(smallest: Value, loss: Value) -> list[dict[str, Any]]:
    """Points whose smallest eigenvalue and training loss depend on method and place too."""
    return [
        p | {"smallest_nonzero": smallest(p["method"], p), "train_loss": loss(p["method"], p)}
        for p in made()
    ]


def sign(m: str, p: dict[str, Any]) -> float:
    """1 for VP in three levels and for FC in the three others, else 0."""
    return float((m == "pad+first") == (p["level"] <= 3))


def test_the_smallest_eigenvalue_is_held_against_which_method_loses_less() -> None:
    points = choosing(lambda m, p: 1.0 + sign(m, p), lambda m, p: 1.0 - sign(m, p))
    found = {c.criterion: c for c in choices_of(points, "pad+first", "fc+first")}
    choice = found["smallest_nonzero"]
    # 6 levels and 2 targets are 12 places, whatever the number of seeds.
    assert (choice.places, choice.agree, choice.runs, choice.runs_agree) == (12, 12, 36, 36)
    assert (choice.verdict, choice.first_larger, choice.first_lower) == ("tells", 6, 6)
    # Of the 924 ways to choose 6 of 12 places one agrees everywhere and one nowhere; the others tie,
    # so it is a family of one.
    assert choice.p_value == pytest.approx(2 / 924)
    assert choices_of(points, "fc+first", "pad+first")[1].agree == 12
    said = "pad+first or fc+first? tells (12 of 12 places, p = 0.002, Holm"
    assert said in text(points)
    # Equal everywhere: nothing to tell.
    assert (found["alignment"].places, found["alignment"].ties) == (0, 12)
    assert found["alignment"].verdict.startswith("cannot be tested")
    against = choosing(lambda m, p: 1.0 + sign(m, p), lambda m, p: 1.0 + sign(m, p))
    opposite = choices_of(against, "pad+first", "fc+first")[1]
    assert (opposite.agree, opposite.verdict) == (0, "does not tell: the opposite does")


def test_what_is_larger_for_the_one_that_always_loses_less_tells_nothing() -> None:
    # Of such a pair the number of parameters would "tell" as well.
    points = choosing(lambda m, p: 1.0 + sign(m, p), lambda m, p: 1.0 - (m == "pad+first"))
    choice = choices_of(points, "pad+first", "fc+first")[1]
    assert (choice.first_larger, choice.first_lower, choice.p_value) == (6, 12, None)
    assert choice.verdict.startswith("cannot be tested")
    points = choosing(lambda m, p: 1.0 + (m == "pad+first"), lambda m, p: 1.0 - sign(m, p))
    assert choices_of(points, "pad+first", "fc+first")[1].p_value is None


def test_the_seeds_of_a_place_are_one_observation() -> None:
    points = choosing(
        lambda m, p: (1.0 + (p["seed"] == 0)) if m == "pad+first" else 1.5,
        lambda m, p: 1.0 - (m == "pad+first"),
    )
    choice = choices_of(points, "pad+first", "fc+first")[1]
    # Seed 0 has the larger value and seeds 1 and 2 the smaller: the mean is the smaller one.
    assert (choice.places, choice.agree, choice.runs, choice.runs_agree) == (12, 0, 36, 12)


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


def test_an_eigenvalue_of_zero_stays_in_the_picture() -> None:
    points = [Point(level, mean, 0.0) for level, mean in [(1, 1e-9), (2, 0.0), (3, 1e-6)]]
    figure = depth_picture({"cnn": {"a": {"pad+first usps": points}}}, logarithmic=["a"])
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "symlog" and low < 0 < 1e-6 < high
    heights = axes.transData.transform([(p.x, p.mean) for p in points])[:, 1]
    assert (
        heights[1] < heights[0] < heights[2] and heights[2] - heights[0] > heights[0] - heights[1]
    )
    assert all(tick == int(tick) for tick in axes.get_xticks())


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
    assert "over the trace) mean the lower training loss, pad+first or fc+first? " in out
    points = [json.loads(p.read_text()) for p in (tmp_path / "rows").iterdir()]
    assert sorted(p["source_accuracy"] for p in points) == pytest.approx(
        [0.3] * 2 + [0.4] * 2 + [0.5] * 2
    )
    assert {p["n_test"] for p in points} == {30}
    vp = {p["level"]: p for p in points if p["method"] == "pad+first"}
    # 10 images with 3 classes are 30 rows.
    assert len(json.loads((tmp_path / "claims.json").read_text())["choices"]) == 5
    assert vp[2]["parameters"] == 3 * (CANVAS**2 - 12**2) and vp[2]["rank"] <= 30
    for name in ("rows.csv", "claims.md", "claims.json", "depth.png", "depth.svg"):
        assert (tmp_path / name).stat().st_size > 0
    monkeypatch.setattr(depth, "measure_point", lambda *_, **__: pytest.fail("measured again"))
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 6


def test_gradients_are_in_float64_and_what_is_noise_is_zero(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore.existing(trained / "results")
    context = Context(device="cpu")
    made: list[Forecast] = []
    original = depth_measure.forecast
    monkeypatch.setattr(
        depth_measure, "forecast", lambda *a, **k: made.append(original(*a, **k)) or made[-1]
    )
    for entry in store.entries()[:2]:
        point = depth.measure_point(entry.cell, store.read(entry.key), context, images=20)
        spectrum = made[-1].spectrum
        assert made[-1].precision == torch.float64
        # The eigenvalue is a number of this kernel, not of float32's rounding.
        floor = spectrum.noise_floor / spectrum.trace
        assert point["smallest_nonzero"] == 0 or point["smallest_nonzero"] > floor
        assert (point["lambda_min"] == 0) == (spectrum.lambda_min <= spectrum.noise_floor)
        assert cell_source(entry.cell, context).mean.dtype == torch.float32


def test_a_directory_without_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ntk-depth", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "holds no grid" in capsys.readouterr().err
