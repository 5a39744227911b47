"""Training on stored features is the same training: same initialisation, same batches, same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import tiny_source, tiny_task
from safetensors.torch import load_file, save_file
from torch import Tensor

from reprogram.cli import run as run_command
from reprogram.engine import FeatureStore, StoreEngine
from reprogram.engine.feature_file import read_matrix, write_matrix
from reprogram.errors import InputError
from reprogram.experiments import Cell, Result, run_cell
from reprogram.methods import get_method
from reprogram.sources import NetworkSource


def run(
    engine: str,
    method: str,
    store: FeatureStore | None = None,
    augment: str = "none",
    source: NetworkSource | None = None,
    **options,
) -> Result:
    changes = {"epochs": 2, "batch_size": 16, "engine": engine, "augment": augment}
    settings = get_method(method).settings.updated(changes)
    cell = Cell("tiny", "tiny", method, settings=settings, **options)
    return run_cell(cell, source=source or tiny_source().double(), task=tiny_task(), store=store)


def assert_same_training(a: Result, b: Result, tolerance: float) -> None:
    theirs = b.model.own_tensors()
    for name, tensor in a.model.own_tensors().items():
        assert torch.allclose(tensor, theirs[name], rtol=0, atol=tolerance), name
    assert a.row["accuracy"] == b.row["accuracy"]
    assert a.row["loss"] == pytest.approx(b.row["loss"], abs=tolerance)
    for x, y in zip(a.row["history"], b.row["history"], strict=True):
        assert x["val"]["loss"] == pytest.approx(y["val"]["loss"], abs=tolerance)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The views (split, mirrored) that were computed rather than found."""
    views: list[tuple[str, bool]] = []
    original = StoreEngine._compute

    def recording(self, model, split: str, flip: bool) -> Iterator[Tensor]:
        views.append((split, flip))
        return original(self, model, split, flip)

    monkeypatch.setattr(StoreEngine, "_compute", recording)
    return views


# Exactness.


@pytest.mark.parametrize("augment", ["none", "flip"])
@pytest.mark.parametrize("method", ["linear-probe", "head-finetune", "none+blm+"])
def test_stored_training_equals_uncached_training(
    method: str, augment: str, tmp_path: Path
) -> None:
    """The same, to the rounding of a BatchNorm folded into its convolution."""
    plain = run("plain", method, augment=augment)
    stored = run("store", method, augment=augment)
    on_disk = run("store", method, FeatureStore(directory=tmp_path), augment=augment)
    assert [r.row["engine"] for r in (plain, stored, on_disk)] == ["plain", "store", "store"]
    assert_same_training(plain, stored, 1e-12)
    assert_same_training(stored, on_disk, 0)


def test_stored_features_are_the_uncached_ones() -> None:
    store = FeatureStore()
    model = run("store", "head-finetune", store).model
    images = tiny_task().train.images(model.input_transform.image_size)
    (found,) = (t for t in store._entries.values() if len(t) == len(images))
    # uint8 becomes float32 before it becomes float64: 3e-8 of a pixel.
    pixels = images.float().div(255).double()
    expected = torch.cat(model.source.logits_and_features(pixels), 1)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_probe_and_head_share_one_pass_of_the_body(computed: list[tuple[str, bool]]) -> None:
    store = FeatureStore()
    for method in ("linear-probe", "head-finetune", "none+ilm", "none+blm+"):
        run("store", method, store)
    assert sorted(computed) == [("test", False), ("train", False)]


def test_fractions_seeds_and_rates_share_one_pass_of_the_body(
    computed: list[tuple[str, bool]], tmp_path: Path
) -> None:
    for store in (FeatureStore(), FeatureStore(directory=tmp_path)):
        computed.clear()
        for fraction in (0.5, 1.0):
            for seed in (0, 1):
                run("auto", "linear-probe", store, data_fraction=fraction, seed=seed)
        assert computed == [("train", False), ("test", False)]


def test_a_flip_needs_a_second_view(computed: list[tuple[str, bool]]) -> None:
    run("auto", "linear-probe", FeatureStore(), augment="flip")
    assert sorted(computed) == [("test", False), ("train", False), ("train", True)]


def test_another_process_finds_the_files(computed: list[tuple[str, bool]], tmp_path: Path) -> None:
    first = run("store", "linear-probe", FeatureStore(directory=tmp_path))
    computed.clear()
    again = run("store", "linear-probe", FeatureStore(directory=tmp_path))
    assert computed == []
    assert_same_training(first, again, 0)


@pytest.mark.parametrize("change", ["weights", "preprocessing", "precision", "architecture"])
def test_what_was_made_from_something_else_is_not_read(
    change: str, computed: list[tuple[str, bool]], tmp_path: Path
) -> None:
    run("store", "linear-probe", FeatureStore(directory=tmp_path))
    computed.clear()
    source = tiny_source().double()
    if change == "weights":
        source = tiny_source(seed=1).double()
    elif change == "preprocessing":
        source.mean += 0.1
    elif change == "precision":
        source = source.float()
    else:
        source.network.layer1[0].conv1.padding_mode = "reflect"
    stored = run("store", "linear-probe", FeatureStore(directory=tmp_path), source=source)
    assert computed == [("train", False), ("test", False)]
    assert_same_training(run("plain", "linear-probe", source=source), stored, 1e-5)


# Faults.


@pytest.mark.parametrize("damage", ["cut off", "empty", "longer", "other key", "no key"])
def test_a_damaged_file_is_made_again(
    damage: str, computed: list[tuple[str, bool]], tmp_path: Path
) -> None:
    whole = run("store", "linear-probe", FeatureStore(directory=tmp_path))
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        if damage == "cut off":
            path.write_bytes(content[:-8])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "longer":
            path.write_bytes(content + bytes(8))
        else:
            zeros = {"outputs": torch.zeros_like(load_file(path)["outputs"])}
            save_file(zeros, path, {"key": "other weights"} if damage == "other key" else None)
    computed.clear()
    again = run("store", "linear-probe", FeatureStore(directory=tmp_path))
    assert computed == [("train", False), ("test", False)]
    assert_same_training(whole, again, 0)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def blocks() -> Iterator[Tensor]:
        yield torch.ones(2, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_matrix(path, "key", (4, 3), torch.float32, blocks())
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_missing_are_an_error_and_not_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="rows"):
        write_matrix(path, "key", (4, 3), torch.float32, [torch.ones(2, 3)])
    assert list(tmp_path.iterdir()) == []


def test_readers_see_no_file_while_it_is_written(tmp_path: Path) -> None:
    """A second process that makes the same matrix meanwhile gets its own, and one file is left."""
    first, second = FeatureStore(directory=tmp_path), FeatureStore(directory=tmp_path)
    rows = torch.arange(6.0).reshape(2, 3)

    def slow() -> Iterator[Tensor]:
        yield rows[:1]
        assert second.get("key") is None
        yield rows[1:]

    made = first.make("key", (2, 3), torch.float32, slow())
    again = second.make("key", (2, 3), torch.float32, [rows])
    assert torch.equal(made, rows) and torch.equal(again, rows)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_what_safetensors_reads(tmp_path: Path) -> None:
    path, rows = tmp_path / "x.safetensors", torch.randn(5, 3, dtype=torch.float64)
    write_matrix(path, "key", (5, 3), torch.float64, rows.split(2))
    assert torch.equal(load_file(path)["outputs"], rows)
    found = read_matrix(path, "key")
    assert found is not None and torch.equal(found, rows)
    assert read_matrix(path, "another") is None
    assert read_matrix(tmp_path / "absent", "key") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(InputError, match="feature cache"):
        run("store", "linear-probe", FeatureStore(directory=taken))


# Bounds.


def test_the_size_is_announced_before_it_is_made(tmp_path: Path) -> None:
    said: list[str] = []

    def blocks() -> Iterator[Tensor]:
        assert said == [f"storing features of 256 images: 1.0 MiB in {tmp_path}"]
        yield torch.zeros(256, 1024)

    store = FeatureStore(directory=tmp_path, announce=said.append)
    store.make("key", (256, 1024), torch.float32, blocks())
    assert len(said) == 1


def make(store: FeatureStore, key: str) -> None:
    store.make(key, (2, 5), torch.float32, [torch.zeros(2, 5)])  # 40 bytes


def test_memory_drops_what_was_used_least_recently() -> None:
    store = FeatureStore(limit=100)
    make(store, "a")
    make(store, "b")
    assert store.get("a") is not None
    make(store, "c")
    assert store.get("b") is None and store.get("a") is not None


def test_the_folder_stays_within_its_limit_and_keeps_other_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(500))
    make(FeatureStore(directory=tmp_path), "a")
    (one,) = (p.stat().st_size for p in tmp_path.iterdir() if p.name != "model.safetensors")
    limit = 2 * one + one // 2
    for key in "bcd":
        make(FeatureStore(directory=tmp_path, disk_limit=limit), key)
    names = {p.name for p in tmp_path.iterdir()}
    assert len(names) == 3 and "model.safetensors" in names
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) - 500 <= limit
    assert FeatureStore(directory=tmp_path).get("d") is not None
    assert FeatureStore(directory=tmp_path).get("a") is None


def test_processes_that_need_more_than_the_folder_may_hold(tmp_path: Path) -> None:
    """Another process removes the file between its writing and its reading."""
    store = FeatureStore(directory=tmp_path)
    store.get = lambda key: [p.unlink() for p in tmp_path.iterdir()] and None
    with pytest.raises(InputError, match="Raise --feature-cache-size"):
        make(store, "a")


def test_what_does_not_fit_is_recomputed_instead(tmp_path: Path) -> None:
    """60 training images of 12 float64 logits and 64 features."""
    size = 60 * (12 + 64) * 8
    assert run("auto", "linear-probe", FeatureStore(limit=size)).row["engine"] == "store"
    small = FeatureStore(limit=size - 1)
    assert run("auto", "linear-probe", small).row["engine"] == "folded"
    assert run("auto", "linear-probe", small, augment="flip").row["engine"] == "folded"
    on_disk = FeatureStore(limit=0, directory=tmp_path)
    assert run("auto", "linear-probe", on_disk).row["engine"] == "store"
    no_room = FeatureStore(directory=tmp_path, disk_limit=size - 1)
    assert run("auto", "linear-probe", no_room).row["engine"] == "folded"
    with pytest.raises(InputError, match="--feature-cache"):
        run("store", "linear-probe", small)


def test_auto_takes_the_store_only_where_nothing_before_the_mapping_changes() -> None:
    assert run("auto", "linear-probe").row["engine"] == "store"
    assert run("auto", "linear-probe", augment="crop-flip").row["engine"] == "folded"
    assert run("auto", "pad+linear").row["engine"] == "folded"
    with pytest.raises(InputError, match="frozen body"):
        run("store", "pad+ilm")


def test_the_command_line_shares_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], computed: list[tuple[str, bool]]
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels)
    cache = tmp_path / "cache"

    def fit(seed: int, *more: str) -> str:
        words = ["fit", "--target", tmp_path / "set.npz", "--method", "head-finetune", "--epochs", 1,
                 "--seed", seed, "--out", tmp_path / f"run{seed}", *more]  # fmt: skip
        assert run_command([str(word) for word in words]) == 0
        return capsys.readouterr().err

    assert f"MiB in {cache}" in fit(0, "--feature-cache", str(cache))
    assert len(list(cache.glob("*.safetensors"))) == len(computed) == 2  # training and test images
    assert "storing" not in fit(1, "--feature-cache", str(cache))
    assert len(computed) == 2
    assert "in memory" in fit(2)


def test_a_folder_size_that_is_no_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["fit", "--target", "digits", "--feature-cache-size", "much"]) == 2
    assert "--feature-cache-size 'much'" in capsys.readouterr().err
