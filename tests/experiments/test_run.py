"""run_cell: noise, a pool of test images, a source that was trained per seed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import tiny_source, tiny_task
from experiments.conftest import Small

from reprogram.data.noise import Noise
from reprogram.data.resized import ResizedImages
from reprogram.engine import FeatureStore
from reprogram.errors import InputError
from reprogram.evaluation import evaluate
from reprogram.experiments import Cell, Result, run_cell
from reprogram.experiments import run as experiments_run
from reprogram.experiments.run import balanced_accuracy, with_test_pool
from reprogram.methods import get_method
from reprogram.settings import Settings
from reprogram.training import Epoch

CELL = Cell("tiny", "tiny", "linear-probe", settings=Settings(epochs=2))


def run(cell: Cell = CELL, **options: object) -> dict:
    return run_cell(cell, source=tiny_source(), task=tiny_task(), **options).row  # type: ignore[arg-type]


def test_a_pool_of_test_images_is_stratified_and_the_same_for_every_seed() -> None:
    task = tiny_task()
    assert with_test_pool(task, None) is task
    pool = with_test_pool(task, 9)
    assert np.bincount(pool.test.labels).tolist() == [3, 3, 3]
    assert pool.name == task.name and pool.train.fingerprint == task.train.fingerprint
    rows = [run(replace(CELL, test_pool=9, seed=seed)) for seed in (0, 1)]
    assert [row["n_test"] for row in rows] == [9, 9]
    with pytest.raises(InputError, match="a subset takes 1 to 30 images here, got 31"):
        run(replace(CELL, test_pool=31))


def test_noise_on_test_leaves_the_training_as_it_is() -> None:
    clean, noisy, both = (
        run(replace(CELL, noise=noise))
        for noise in (Noise(), Noise("gaussian", 5, "test"), Noise("gaussian", 5, "both"))
    )
    assert noisy["history"] == clean["history"] != both["history"]
    assert noisy["loss"] != clean["loss"]
    assert noisy["target_fingerprint"] == clean["target_fingerprint"]
    assert str(noisy["noise"]) == "gaussian:5@test"


def test_label_noise_leaves_the_test_labels() -> None:
    clean, noisy = (run(replace(CELL, noise=n)) for n in (Noise(), Noise("symmetric", 5, "train")))
    assert noisy["history"] != clean["history"] and noisy["n_test"] == clean["n_test"]


def test_images_held_out_of_noisy_labels_are_those_that_validated() -> None:
    from reprogram.cli.fit import its_images

    cell = replace(CELL, noise=Noise("symmetric", 5, "train"), val_share=0.3)
    result = run_cell(cell, source=tiny_source(), task=tiny_task())
    found = evaluate(result.model, its_images(result.model, tiny_task(), "val"))
    assert found.n == result.row["n_val"]
    assert found.accuracy == pytest.approx(result.row["val_accuracy"])


def test_without_test_no_test_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from reprogram.data import TargetTask

    split = TargetTask.split

    def guarded(self: TargetTask, name: str) -> object:
        assert name != "test"
        return split(self, name)

    monkeypatch.setattr(TargetTask, "split", guarded)
    assert "accuracy" not in run(test=False)


def test_balanced_accuracy_counts_every_class_alike() -> None:
    logits = torch.eye(3)[[0, 0, 0, 0, 2]]
    assert balanced_accuracy(logits, torch.tensor([0, 0, 0, 0, 1])) == 0.5
    assert balanced_accuracy(logits, torch.tensor([0, 0, 1, 1, 2])) == pytest.approx(2 / 3)


def test_source_seed_chooses_a_training(small: Small, tmp_path: Path) -> None:
    home = tmp_path / "domain"
    for seed in (0, 1):
        shutil.copytree(small.source, home / f"seed-{seed}")
    cell = Cell(str(home), small.target, "none+ilm", settings=Settings(epochs=1))
    assert run_cell(replace(cell, source_seed=1)).row["source_seed"] == 1
    with pytest.raises(InputError, match="Choose one .--source-seed"):
        run_cell(cell)
    with pytest.raises(InputError, match="no training with seed 7"):
        run_cell(replace(cell, source_seed=7))


@pytest.mark.parametrize("method", ["linear-probe", "none+ilm", "pad+ilm", "reprogramming"])
@pytest.mark.parametrize("val", [False, True])
def test_only_the_pool_is_resized_and_the_result_is_the_same(
    method: str, val: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    get = ResizedImages.get

    def recorded(self: ResizedImages, *arguments: object) -> torch.Tensor:
        sizes.append(len(self.store))
        return get(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ResizedImages, "get", recorded)

    def once() -> Result:
        sizes.clear()
        settings = get_method(method).settings.updated({"epochs": 2, "batch_size": 16})
        cell = replace(CELL, method=method, settings=settings, train_pool=40, data_fraction=0.5)
        return run_cell(
            cell, source=tiny_source(), task=tiny_task(n_train=250, val=val), test=False
        )

    cut = once()
    assert max(sizes) == 40
    monkeypatch.setattr(experiments_run, "pool_pays", lambda *_, **__: False)
    whole = once()
    assert max(sizes) == 250
    own = whole.model.own_tensors()
    assert all(torch.equal(tensor, own[name]) for name, tensor in cut.model.own_tensors().items())
    assert cut.row["history"] == whole.row["history"] and cut.row["n_train"] == whole.row["n_train"]


def test_fractions_of_a_trial_share_what_was_resized_and_stored() -> None:
    store, task = FeatureStore(), tiny_task(n_train=250)
    for fraction in (0.5, 1.0):
        cell = replace(CELL, train_pool=40, data_fraction=fraction)
        run_cell(cell, source=tiny_source(), task=task, store=store, test=False)
    assert [len(rows) for rows in store._entries.values()] == [40]


def test_seconds_of_a_resumed_run_are_those_of_all_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"

    def stop(state: Epoch) -> None:
        if state.epoch == 2:
            raise KeyboardInterrupt

    cell = replace(CELL, settings=Settings(epochs=3))
    with pytest.raises(KeyboardInterrupt):
        run(cell, checkpoint=path, on_epoch=stop)
    state = torch.load(path, weights_only=True)
    trace = json.loads(state["trace"])
    torch.save(state | {"trace": json.dumps(trace | {"seconds": 1000.0})}, path)
    assert run(cell, checkpoint=path, test=False)["seconds"] > 1000
    torch.save(state | {"trace": json.dumps(trace | {"seconds": 1000.0})}, path)
    row = run(cell, checkpoint=path)
    assert 1000 < row["seconds"] < 1000 + 60 and row["test_seconds"] > 0
