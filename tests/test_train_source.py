"""Training a source: resumed exactly, normalised by its own data, refused on other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import tiny_source, tiny_task

from reprogram.errors import InputError
from reprogram.sources import load_source, training_record
from reprogram.train_source import (
    Recipe,
    evaluate_source,
    one_cycle,
    pixel_statistics,
    train_source,
)

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05)


class Killed(Exception):
    """Stands for SIGKILL between two steps."""


def train(out: Path, die_in_epoch: int | None = None, recipe: Recipe = RECIPE) -> dict:
    def on_batch(epoch: int, images: int, loss: float) -> None:
        if epoch == die_in_epoch and images > 16:
            raise Killed

    return train_source(tiny_task(), out, recipe, image_size=16, on_batch=on_batch)


def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", die_in_epoch=2)
    assert not (tmp_path / "killed" / "config.json").exists()
    assert train(tmp_path / "killed") == whole
    one, two = (load_source(tmp_path / name) for name in ("whole", "killed"))
    assert one.fingerprint == two.fingerprint
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()
    assert training_record(tmp_path / "killed")["test_accuracy"] == whole["test_accuracy"]


def test_other_settings_do_not_continue_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, die_in_epoch=1)
    with pytest.raises(InputError, match="other settings"):
        train(tmp_path, recipe=Recipe(epochs=3, batch_size=16, lr=0.1))


def test_it_learns_and_reports_what_evaluate_source_finds(tmp_path: Path) -> None:
    recipe = Recipe(epochs=8, batch_size=16, lr=0.05, augment="none")
    reported = train(tmp_path, recipe=recipe)["test_accuracy"]
    found = evaluate_source(load_source(tmp_path), tiny_task().test)["accuracy"]
    assert reported == found > 0.6  # three classes told apart by colour; chance is 0.33


def test_half_precision_reports_the_stored_weights(tmp_path: Path) -> None:
    training = train_source(tiny_task(), tmp_path, RECIPE, image_size=16, half=True)
    found = evaluate_source(load_source(tmp_path), tiny_task().test)
    assert training["test_accuracy"] == found["accuracy"]


def test_labels_outside_the_sources_classes_are_refused() -> None:
    with pytest.raises(InputError, match="the source's own classes"):
        evaluate_source(tiny_source(num_classes=2), tiny_task().test)


def test_pixel_statistics_are_the_channels_mean_and_standard_deviation() -> None:
    images = torch.randint(0, 256, (20, 3, 5, 7), dtype=torch.uint8)
    mean, std = pixel_statistics(images)
    x = images.double() / 255
    torch.testing.assert_close(mean.flatten().double(), x.mean((0, 2, 3)), rtol=0, atol=6e-5)
    by_hand = x.std((0, 2, 3), correction=0)
    torch.testing.assert_close(std.flatten().double(), by_hand, rtol=0, atol=6e-5)


def test_one_cycle_rises_falls_and_ends_at_zero() -> None:
    shares = [one_cycle(step, 100) for step in range(101)]
    top = shares.index(max(shares))
    assert shares[top] == pytest.approx(1.0, abs=0.02) and 13 <= top <= 16
    assert shares[:top] == sorted(shares[:top])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert shares[100] == 0.0


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch_size": 0}])
def test_an_impossible_recipe_is_refused(bad: dict) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Recipe(**bad)
