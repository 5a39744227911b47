"""run_cell: noise, a pool of test images, a source that was trained per seed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import tiny_source, tiny_task
from experiments.conftest import Small

from reprogram.data.noise import Noise
from reprogram.errors import InputError
from reprogram.experiments import Cell, run_cell
from reprogram.experiments.run import balanced_accuracy, with_test_pool
from reprogram.settings import Settings

CELL = Cell("tiny", "tiny", "linear-probe", settings=Settings(epochs=2))


def run(cell: Cell = CELL, **options: object) -> dict:
    return run_cell(cell, source=tiny_source(), task=tiny_task(), **options).row  # type: ignore[arg-type]


def test_a_pool_of_test_images_is_stratified_and_the_same_for_every_seed() -> None:
    task = tiny_task()
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
    with pytest.raises(InputError, match="Choose a source seed"):
        run_cell(cell)
    with pytest.raises(InputError, match="no training with seed 7"):
        run_cell(replace(cell, source_seed=7))
