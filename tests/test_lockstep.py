"""Several runs in one batch end where each ends alone, in float64; one that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import tiny_source, tiny_task
from torch import Tensor, nn

from benchmarks import gpu, growth, ours
from benchmarks.scale import Scale
from benchmarks.several import round_seconds
from reprogram import lockstep
from reprogram.data import plan_split
from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import Batch, BatchPlan, ResidentData
from reprogram.engine import choose_engine
from reprogram.errors import InputError
from reprogram.lockstep import train_several
from reprogram.methods import get_method
from reprogram.seeds import generator_for
from reprogram.settings import Settings
from reprogram.sources import NetworkSource
from reprogram.training import Epoch, Run, Trace, train

CPU = torch.device("cpu")
ROUNDING = {"rtol": 0, "atol": 1e-12}

Case = dict[str, object]
SEEDS_AND_RATES: list[Case] = [{"seed": s, "lr": lr} for s in (0, 1) for lr in (0.01, 0.1)]
# A bias in front of BatchNorm has no gradient but rounding, of which Adam would make steps.
SMM: Case = {"method": "smm+ilm", "optimizer": "sgd"}
CASES: dict[str, list[Case]] = {
    "seeds and learning rates": SEEDS_AND_RATES,
    "augmentation": [c | {"augment": "crop-flip"} for c in SEEDS_AND_RATES[1:3]],
    "lengths and batch sizes": [
        {"epochs": 1}, {"epochs": 3, "seed": 1}, {"steps": 6, "batch_size": 7},
        {"fraction": 0.5, "seed": 2}, {"epochs": 0},
    ],
    "random patches": [{"method": "patch+ilm", "position": "random", "seed": s} for s in (0, 1)],
    "trained BatchNorm": [SMM | {"method": "smm+blm+", "seed": s} for s in (0, 1)],
    "several methods": [
        {"method": "full+ilm"}, SMM, {"method": "full+linear"}, {"method": "head-finetune"},
    ],
    "other engines": [
        {"engine": "window", "size": 6}, {"engine": "plain"},
        {"engine": "store", "method": "linear-probe"},
    ],
}  # fmt: skip


def build(
    source: NetworkSource, seed: int = 0, method: str = "pad+ilm", fraction: float = 1.0, **changes
) -> Run:
    """A run as `run_cell` makes it; 54 images do not divide into batches."""
    callbacks = {k: changes.pop(k) for k in list(changes) if k not in Settings().to_dict()}
    chosen, task = get_method(method), tiny_task()
    changes = {"epochs": 2, "batch_size": 16, "augment": "none", "engine": "folded"} | changes
    settings = chosen.resolve(source, 8, 60, chosen.settings.updated(changes))
    init = generator_for("init", task.name, method, seed)
    model = chosen.build(source, task.class_names, settings, init)
    augmentation = Augmentation(settings.margin or 0, flip=settings.augment != "none")
    data = ResidentData({"train": task.train}, model.input_transform.image_size, augmentation)
    engine = choose_engine(settings.engine, model, data, CPU, settings.precision)
    index, val = plan_split(
        task.train.labels, None, fraction=fraction, seed=seed, val_share=0.1, train_pool=None,
        target_name=task.name,
    )  # fmt: skip
    plan = BatchPlan(torch.as_tensor(index), settings.batch_size, augmentation, task.name, seed)
    return Run(model, engine, data.labels, plan, torch.as_tensor(val), settings, **callbacks)


def alone(run: Run) -> Trace:
    return train(run.model, run.engine, run.labels, run.plan, run.val_index, run.settings)


def assert_same(found: Run, trace: Trace | InputError, expected: Run, whole: Trace) -> None:
    assert isinstance(trace, Trace)
    assert trace.selected_epoch == whole.selected_epoch
    assert (trace.steps, trace.images) == (whole.steps, whole.images)
    for a, b in zip(trace.history, whole.history, strict=True):
        assert a.val.accuracy == b.val.accuracy
        assert a.val.loss == pytest.approx(b.val.loss, abs=1e-12)
        assert a.train_loss == (None if a.epoch == 0 else pytest.approx(b.train_loss, abs=1e-12))
    tensors = expected.model.own_tensors()
    assert found.model.own_tensors().keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found.model.own_tensors()[name], tensor, msg=name, **ROUNDING)


@pytest.mark.parametrize("name", CASES)
def test_runs_end_where_each_ends_alone(name: str) -> None:
    source = tiny_source().double()
    runs = [build(source, **case) for case in CASES[name]]
    expected = [build(source, **case) for case in CASES[name]]
    wholes = [alone(run) for run in expected]
    before = torch.get_rng_state()
    traces = train_several(runs)
    assert torch.equal(torch.get_rng_state(), before)
    for each in zip(runs, traces, expected, wholes, strict=True):
        assert_same(*each)


class Passes:
    """Images of every training pass of the source, which fails where it is told to."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fail: Callable[[int], bool] = lambda _: False
    ) -> None:
        self.images: list[int] = []
        forward = NetworkSource.forward

        def counted(source: NetworkSource, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                self.images.append(len(x))
                if fail(len(x)):
                    raise torch.OutOfMemoryError("simulated")
            return forward(source, x)

        monkeypatch.setattr(NetworkSource, "forward", counted)


def test_a_step_of_all_runs_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_source().double()
    runs = [build(source, seed, epochs=1) for seed in range(3)]
    passes = Passes(monkeypatch)
    train_several(runs)
    assert passes.images == [48, 48, 48, 3 * 6]


@pytest.mark.parametrize("changes", [{"method": "patch+ilm", "position": "random"}, SMM])
def test_fewer_runs_at_once_where_memory_runs_out(
    changes: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed pass drew at random, or added to BatchNorm's statistics, is undone."""
    source = tiny_source().double()
    expected = [build(source, seed, **changes) for seed in range(3)]
    wholes = [alone(run) for run in expected]
    runs = [build(source, seed, **changes) for seed in range(3)]
    passes = Passes(monkeypatch, fail=lambda images: images > 32)
    for each in zip(runs, train_several(runs), expected, wholes, strict=True):
        assert_same(*each)
    assert passes.images[:5] == [48, 32, 16, 32, 16]


def test_a_cpu_takes_as_many_runs_at_once_as_its_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def require(model: nn.Module, engine: object, batch: Batch) -> None:
        if len(batch.index) > 40:
            raise InputError("simulated")

    monkeypatch.setattr(lockstep, "require_memory", require)
    source = tiny_source()
    runs = [build(source, seed, epochs=1) for seed in range(4)]
    passes = Passes(monkeypatch)
    train_several(runs)
    assert passes.images == [32] * 6 + [12] * 2


def test_a_rate_that_diverges_stops_no_other() -> None:
    source = tiny_source().double()
    changes = {"method": "full+linear", "optimizer": "sgd", "loss": "mse", "epochs": 4}
    rates = (0.01, 1e14, 0.02)
    runs = [build(source, lr=lr, lr_mapping=lr, **changes) for lr in rates]
    expected = [build(source, lr=lr, lr_mapping=lr, **changes) for lr in rates[::2]]
    first, broken, last = train_several(runs)
    assert isinstance(broken, InputError) and "lr=1e+14" in str(broken)
    for run, trace, other in zip(runs[::2], (first, last), expected, strict=True):
        assert_same(run, trace, other, alone(other))


def test_a_group_that_was_killed_goes_on_from_each_runs_checkpoint(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(state: Epoch) -> None:
        if state.epoch == 2:
            raise Killed

    source = tiny_source().double()
    cases: list[Case] = [{"seed": 0}, {"seed": 1, "batch_size": 7}]
    kept = [c | {"checkpoint": tmp_path / f"{i}.pt"} for i, c in enumerate(cases)]
    before = torch.get_rng_state()
    with pytest.raises(Killed):
        train_several([build(source, on_epoch=stop, **case) for case in kept])
    assert torch.equal(torch.get_rng_state(), before)
    assert (tmp_path / "0.pt").exists()
    runs = [build(source, **case) for case in kept]
    expected = [build(source, **case) for case in cases]
    for run, trace, other in zip(runs, train_several(runs), expected, strict=True):
        assert_same(run, trace, other, alone(other))


def test_what_cannot_be_trained_together_is_refused() -> None:
    source = tiny_source()
    one = build(source)
    with pytest.raises(InputError, match="share one frozen source, got 2"):
        train_several([one, build(tiny_source())])
    with pytest.raises(InputError, match="full fine-tuning by itself"):
        train_several([build(source, method="full-finetune", engine="plain")])
    with pytest.raises(InputError, match="one twice"):
        train_several([one, one])
    assert train_several([]) == []


def test_the_benchmark_times_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of the source's training passes between two ticks."""
    source, options = tiny_source(), {"size": 8, "engine": "folded", "batch_size": 8, "epochs": 3}
    trials = [ours.prepare(source, tiny_task(8), "pad+rlm", **options) for _ in range(3)]
    passes = Passes(monkeypatch)
    assert round_seconds(trials, meter=lambda: sum(passes.images)) == [24, 24, 24]
    assert passes.images == [24, 24, 24]
    monkeypatch.setattr(gpu, "PROMPTS", 2)
    few = Scale(batch=4, repetitions=1, canvas=64, classes=2)
    assert gpu.several_prompts(few).our_value > 0
    assert min(growth.together(2, few)) > 0
