"""The loop: which mapping belongs to which epoch, what is selected, and that a killed run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import tiny_source, tiny_task

from reprogram import training
from reprogram.data import plan_split
from reprogram.errors import InputError
from reprogram.evaluation import evaluate
from reprogram.experiments import Cell, run_cell
from reprogram.methods import get_method
from reprogram.settings import Settings
from reprogram.training import Epoch, Score, is_better, loss_sum, rate_factor

CIRCUMSTANCES = {"seconds", "test_seconds", "images_per_second"}


def run(method: str = "pad+ilm", **changes):
    settings = {"epochs": 3, "batch_size": 16} | {
        k: changes.pop(k) for k in list(changes) if k in Settings().to_dict()
    }
    options = {k: changes.pop(k) for k in list(changes) if k.startswith(("on_", "checkpoint"))}
    task = changes.pop("task", None) or tiny_task()
    cell = Cell(
        "tiny", "tiny", method, settings=get_method(method).settings.updated(settings), **changes
    )
    return run_cell(cell, source=tiny_source(), task=task, **options)


def trial(seed: int = 0):
    """The tiny task's training and validation images of a seed."""
    whole = tiny_task().train
    index = plan_split(
        whole.labels,
        None,
        fraction=1.0,
        seed=seed,
        val_share=0.1,
        train_pool=None,
        target_name="tiny",
    )
    return [whole.subset(part) for part in index]


def without_circumstances(row: dict) -> dict:
    return {k: v for k, v in row.items() if k not in CIRCUMSTANCES}


def state(epoch: int, accuracy: float, loss: float) -> Epoch:
    return Epoch(epoch, 0.0, Score(accuracy, loss, 10))


def test_state_0_is_scored_before_any_step_and_can_be_selected() -> None:
    result = run(lr=1e4)  # a rate that ruins the prompt at once
    history = result.row["history"]
    assert [h["epoch"] for h in history] == [0, 1, 2, 3]
    assert history[0]["train_loss"] is None
    best = max(h["val"]["accuracy"] for h in history)
    assert history[result.row["selected_epoch"]]["val"]["accuracy"] == best
    assert best >= history[0]["val"]["accuracy"]


def test_the_selected_state_is_the_one_returned() -> None:
    result = run(lr=1.0, epochs=5)
    selected = result.row["history"][result.row["selected_epoch"]]["val"]
    val = trial()[1]
    assert evaluate(result.model, val).accuracy == pytest.approx(selected["accuracy"])
    assert evaluate(result.model, val).loss == pytest.approx(selected["loss"], rel=1e-5)


def test_selection_prefers_accuracy_then_loss_then_the_earlier_state() -> None:
    assert is_better(state(2, 0.6, 9.0), state(1, 0.5, 1.0))
    assert is_better(state(2, 0.5, 0.9), state(1, 0.5, 1.0))
    assert not is_better(state(2, 0.5, 1.0), state(1, 0.5, 1.0))


def test_without_validation_the_last_epoch_is_taken_and_said() -> None:
    row = run(val_share=0.0, track_test=True).row
    assert row["selected_epoch"] == 3 and row["n_val"] == 0
    assert "last epoch" in row["selection_rule"]
    assert all(h["test"] is not None for h in row["history"])
    assert row["accuracy"] == pytest.approx(row["history"][-1]["test"]["accuracy"])


def test_a_sets_own_validation_split_is_the_validation_whole() -> None:
    row = run(task=tiny_task(val=True)).row
    assert (row["n_train"], row["n_val"]) == (60, 15)


@pytest.mark.parametrize(
    ("method", "fits"),
    [("pad+rlm", 0), ("pad+flm", 1), ("pad+ilm", 3), ("pad+ilm@refit", 4), ("pad+blm+", 3)],
)
def test_when_mappings_are_fitted(method: str, fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """State 0's fit serves epoch 1; epochs 2 and 3 refit; @refit adds one at the end."""
    from reprogram import output_mappings as om

    calls = []
    for kind in (om.FrequencyMapping, om.BayesianPlusMapping):
        original = kind.fit
        monkeypatch.setattr(
            kind, "fit", lambda self, o, y, f=original: (calls.append(len(y)), f(self, o, y))[1]
        )
    result = run(method)
    assert len(calls) == fits
    assert set(calls) <= {result.row["n_train"]}


def test_a_last_refit_is_scored_as_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from reprogram.output_mappings import FrequencyMapping

    fit, calls = FrequencyMapping.fit, []

    def worse_at_the_end(self: FrequencyMapping, outputs: torch.Tensor, labels: torch.Tensor):
        calls.append(1)
        fit(self, outputs, labels)
        if len(calls) == 4:
            self.weight.copy_(self.weight.roll(1, dims=1))

    monkeypatch.setattr(FrequencyMapping, "fit", worse_at_the_end)
    result = run("pad+ilm@refit", lr=0.3)
    row = result.row
    assert row["val_accuracy"] == pytest.approx(evaluate(result.model, trial()[1]).accuracy)
    assert row["val_accuracy"] < row["history"][row["selected_epoch"]]["val"]["accuracy"]


def test_mapping_pass_sees_unaugmented_images_in_eval_mode() -> None:
    """With augmentation on, state 0's mapping equals the one computed by hand without it."""
    from reprogram.output_mappings import frequency_matrix

    result = run("smm+ilm", epochs=0, augment="crop-flip")
    model, train = result.model, trial()[0]
    x = train.images(model.input_transform.image_size).float() / 255
    with torch.no_grad():
        predictions = model.source(model.input_transform(x)).argmax(1)
    by_hand = frequency_matrix(predictions, torch.from_numpy(train.labels), 12, 3)
    assert torch.equal(model.mapping.weight, by_hand.to(model.mapping.weight.dtype))


@pytest.mark.parametrize("method", ["smm+ilm", "full-finetune", "pad+linear", "patch+ilm"])
def test_a_run_killed_after_any_epoch_ends_as_if_it_had_not_been(
    method: str, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    extra = {"position": "random"} if method == "patch+ilm" else {}
    whole = run(method, augment="crop-flip", **extra)
    for last in (1, 2):
        checkpoint = tmp_path / f"{last}.pt"

        def stop(epoch: Epoch, last: int = last) -> None:
            # on_epoch comes before the checkpoint of its epoch: die while epoch `last` + 1 is new
            if epoch.epoch == last + 1:
                raise Killed

        with pytest.raises(Killed):
            run(method, augment="crop-flip", checkpoint=checkpoint, on_epoch=stop, **extra)
        resumed = run(method, augment="crop-flip", checkpoint=checkpoint, **extra)
        assert without_circumstances(resumed.row) == without_circumstances(whole.row)
        for (a, x), (b, y) in zip(
            whole.model.own_tensors().items(), resumed.model.own_tensors().items(), strict=True
        ):
            assert a == b and torch.equal(x, y)


def test_large_checkpoints_are_written_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    original = training.save_checkpoint

    def save(path: Path, *parts: Any) -> None:
        written.append(path)
        original(path, *parts)

    monkeypatch.setattr(training, "save_checkpoint", save)
    epochs = run(checkpoint=tmp_path / "small.pt").row["settings"]["epochs"]
    assert len(written) == epochs > 1
    monkeypatch.setattr(training, "SMALL_CHECKPOINT", 0)
    monkeypatch.setattr(training, "CHECKPOINT_RATE", 1.0)
    written.clear()
    run(checkpoint=tmp_path / "large.pt")
    assert len(written) == 1


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    run(checkpoint=file)
    with pytest.raises(InputError, match="other settings or data"):
        run(checkpoint=file, lr=0.5)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        run(checkpoint=file)


def test_steps_cut_the_last_epoch_short() -> None:
    row = run(steps=5).row  # 54 images, 16 a step: 4 steps an epoch
    assert row["steps"] == 5
    assert [h["epoch"] for h in row["history"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1.0), (999, 1.0), (1000, 0.1), (1439, 0.1), (1440, 0.01), (1999, 0.01)]
)
def test_multistep_falls_after_half_and_72_percent(step: int, factor: float) -> None:
    assert rate_factor(Settings(), step, 2000) == pytest.approx(factor)


def test_a_single_step_is_taken_at_the_full_rate() -> None:
    assert rate_factor(Settings(), 0, 1) == 1.0


def test_cosine_starts_at_the_rate_and_ends_near_zero() -> None:
    settings = Settings(schedule="cosine")
    assert rate_factor(settings, 0, 100) == 1.0
    assert rate_factor(settings, 99, 100) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("val_share", [0.0, 0.1])
def test_a_run_that_diverges_says_so_and_names_the_rate(val_share: float) -> None:
    with pytest.raises(InputError, match="Lower the learning rate"):
        run("linear-probe", optimizer="sgd", lr=1e14, epochs=20, loss="mse", val_share=val_share)


def test_the_batch_size_is_that_of_the_set_not_of_the_fraction() -> None:
    rows = [run(data_fraction=f, batch_size=None).row for f in (0.2, 1.0)]
    assert {row["settings"]["batch_size"] for row in rows} == {64}


def test_losses_equal_torchs_own_means() -> None:
    logits, labels = torch.randn(7, 4), torch.randint(4, (7,))
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    mse = loss_sum(logits, labels, Settings(loss="mse")) / 7
    assert torch.allclose(mse, torch.nn.functional.mse_loss(logits, one_hot))
    ce = loss_sum(logits, labels, Settings(label_smoothing=0.1)) / 7
    assert torch.allclose(
        ce, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    )


def test_methods_of_a_seed_see_the_same_images_in_the_same_order() -> None:
    from reprogram.data.augmentation import Augmentation
    from reprogram.data.batches import BatchPlan, epoch_batches

    plan = BatchPlan(torch.arange(50), 16, Augmentation(2, True), "tiny", seed=3)
    first, second = list(epoch_batches(plan, 1)), list(epoch_batches(plan, 1))
    assert all(torch.equal(a.index, b.index) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a.draw.top, b.draw.top) for a, b in zip(first, second, strict=True))
    assert sorted(torch.cat([b.index for b in first]).tolist()) == list(range(50))
    third = next(epoch_batches(plan, 2))
    assert not torch.equal(first[0].index, third.index)


def test_bf16_is_recorded_and_finite() -> None:
    row = run("pad+ilm", precision="bf16").row
    assert row["settings"]["precision"] == "bf16"
    assert all(h["val"]["loss"] < 1e6 for h in row["history"])
