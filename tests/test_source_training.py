"""Training a source: resumed exactly, normalised by its own data, refused on other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import tiny_part, tiny_source, tiny_task

from reprogram.data import TargetTask
from reprogram.errors import InputError
from reprogram.evaluation import source_outputs
from reprogram.source_training import (
    Recipe,
    evaluate_source,
    one_cycle,
    pixel_statistics,
    train_source,
)
from reprogram.sources import load_source, training_record

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


def test_classes_of_a_source_are_found_by_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe(epochs=8, batch_size=16, lr=0.05, augment="none")
    train(tmp_path, recipe=recipe)
    source, task = load_source(tmp_path), tiny_task()
    whole = source_outputs(source, task.test.images(16))[0].argmax(1)
    for classes in ([2, 0, 1], [1, 2]):
        some = task.select(classes).test
        wanted = [int(c) for c in task.test.labels if c in classes]
        found = evaluate_source(source, some)
        hits = [int(a) == c for a, c in zip(whole, task.test.labels, strict=True) if c in classes]
        assert found["n"] == len(wanted) and found["accuracy"] == pytest.approx(np.mean(hits))
    assert not caplog.text
    parts = {"test": lambda: tiny_part(30, 1)}
    evaluate_source(source, TargetTask("other", ["a", "b", "c"], parts).test)
    assert "matched by their order" in caplog.text


def test_a_finished_training_is_scored_on_the_images_asked_for(tmp_path: Path) -> None:
    some = train_source(tiny_task(), tmp_path, RECIPE, image_size=16, test_pool=9)
    every = train_source(tiny_task(), tmp_path, RECIPE, image_size=16)
    assert (some["num_test"], every["num_test"]) == (9, 30)
    found = evaluate_source(load_source(tmp_path), tiny_task().test)
    assert every["test_accuracy"] == found["accuracy"]


def test_dropout_is_drawn_from_the_recipes_seed(tmp_path: Path) -> None:
    recipe = Recipe("mobilenet_v2", epochs=2, batch_size=16, lr=0.01)
    torch.manual_seed(0)
    train(tmp_path / "whole", recipe=recipe)
    torch.manual_seed(1)
    with pytest.raises(Killed):
        train(tmp_path / "killed", die_in_epoch=1, recipe=recipe)
    before = torch.random.get_rng_state()
    train(tmp_path / "killed", recipe=recipe)
    assert torch.equal(torch.random.get_rng_state(), before)
    one, two = (load_source(tmp_path / name) for name in ("whole", "killed"))
    assert one.fingerprint == two.fingerprint


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


def patient(out: Path, die_in_epoch: int | None = None, **changes: Any) -> dict:
    recipe = Recipe(**{
        "architecture": "vgg-1", "epochs": 60, "batch_size": 16, "lr": 0.01, "augment": "none",
        "optimizer": "adam", "schedule": "constant", "val_share": 0.2, "patience": 2, **changes,
    })  # fmt: skip
    return train(out, die_in_epoch, recipe)


def test_patience_stops_and_keeps_the_lowest_validation_loss(tmp_path: Path) -> None:
    selection = patient(tmp_path / "stopped")["selection"]
    assert selection["epochs"] == selection["selected_epoch"] + 2 < 60
    # The same run cut off at the epoch that was kept ends with the same weights.
    until = patient(tmp_path / "cut", epochs=selection["selected_epoch"])["selection"]
    assert until["val_loss"] == selection["val_loss"]
    one, two = (load_source(tmp_path / name) for name in ("stopped", "cut"))
    assert one.fingerprint == two.fingerprint


def test_a_killed_training_remembers_its_best_state(tmp_path: Path) -> None:
    whole = patient(tmp_path / "whole")
    with pytest.raises(Killed):
        last = whole["selection"]["epochs"] - 1  # epochs count from 0; the best one lies before it
        patient(tmp_path / "killed", die_in_epoch=last)
    assert patient(tmp_path / "killed") == whole
    one, two = (load_source(tmp_path / name) for name in ("whole", "killed"))
    assert one.fingerprint == two.fingerprint


def test_a_sets_own_validation_split_validates(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=16, lr=0.05, val_share=0.1)
    training = train_source(tiny_task(val=True), tmp_path, recipe, image_size=16)
    assert (training["num_train"], training["num_val"]) == (60, 15)


def test_a_test_pool_scores_fewer_images(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=16)
    training = train_source(tiny_task(), tmp_path, recipe, image_size=16, test_pool=9)
    assert training["num_test"] == 9


def test_squared_error_is_the_mean_over_images_and_classes(tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = Recipe(epochs=1, batch_size=60, lr=0.0, augment="none", loss="mse")
    train_source(
        tiny_task(), tmp_path, recipe, image_size=16, on_batch=lambda *step: losses.append(step[2])
    )
    task = tiny_task()
    source = load_source(tmp_path)
    source.network.train()  # the loss was that of the batch's own statistics
    with torch.no_grad():
        logits = source(task.train.images(16).float() / 255)
    one_hot = torch.eye(3)[torch.as_tensor(task.train.labels)]
    assert losses == [pytest.approx(float((logits - one_hot).square().mean()), rel=1e-4)]


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=16, lr=1e30, augment="none", optimizer="adam")
    with pytest.raises(InputError, match="loss became (nan|inf) at lr=1e.30. Lower"):
        train(tmp_path, recipe=recipe)


def test_patience_needs_validation_images() -> None:
    with pytest.raises(InputError, match="needs validation images"):
        Recipe(patience=3)


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch_size": 0}])
def test_an_impossible_recipe_is_refused(bad: dict) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Recipe(**bad)


def test_overwrite_goes_on_with_this_training_and_replaces_another(tmp_path: Path) -> None:
    def again(recipe: Recipe = RECIPE, die_in_epoch: int | None = None) -> list[int]:
        epochs: list[int] = []

        def on_batch(epoch: int, images: int, loss: float) -> None:
            epochs.append(epoch)
            if epoch == die_in_epoch:
                raise Killed

        train_source(
            tiny_task(), tmp_path, recipe, image_size=16, overwrite=True, on_batch=on_batch
        )
        return epochs

    with pytest.raises(Killed):
        again(die_in_epoch=2)
    assert set(again()) == {2} and again() == []
    other = Recipe(epochs=2, batch_size=16, lr=0.1)
    with pytest.raises(Killed):
        again(other, die_in_epoch=1)
    assert set(again(other)) == {1}
    third = Recipe(epochs=1, batch_size=16, lr=0.2)
    with pytest.raises(Killed):  # before there is a checkpoint
        again(third, die_in_epoch=0)
    assert set(again(third)) == {0}
