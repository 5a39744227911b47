"""The library's side: a method's own training, timed from outside at its callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Meter
from reprogram.data import TargetTask
from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import Batch, BatchPlan, ResidentData
from reprogram.engine import Engine, FeatureStore, choose_engine
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, trainable
from reprogram.seeds import generator_for
from reprogram.settings import Settings
from reprogram.sources import NetworkSource
from reprogram.training import Trace, train

__all__ = ["Trial", "change_prompt", "epoch_seconds", "logits", "prepare", "run", "step_seconds"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trial:
    """A method on a task, ready to train."""

    model: Reprogrammed
    engine: Engine
    data: ResidentData
    plan: BatchPlan
    settings: Settings

    @property
    def batch(self) -> Batch:
        """The first batch, un-augmented."""
        return Batch("train", self.plan.index[: self.plan.batch_size])


def prepare(
    source: NetworkSource,
    task: TargetTask,
    method: str,
    *,
    fraction: float = 1.0,
    store: FeatureStore | None = None,
    device: torch.device = CPU,
    **changes: Any,
) -> Trial:
    """What `run_cell` does before it trains; the engine is the one that the library chooses.

    Args:
        source: Frozen.
        task: With a training split, and a validation split where validation is measured.
        method: In METHODS.
        fraction: Share of the training images that is trained on.
        store: Stored outputs that several trials share.
        device: Where it computes.
        changes: Settings that differ from the method's own.
    """
    chosen = get_method(method)
    settings = chosen.settings.updated({"augment": "none"} | changes)
    settings = chosen.resolve(source, task.native_size, len(task.train), settings)
    assert settings.batch_size is not None
    init = generator_for("init", task.name, method, 0)
    model = chosen.build(source, task.class_names, settings, init).to(device)
    splits = {name: task.split(name) for name in task.split_names}
    none = Augmentation()
    data = ResidentData(splits, model.input_transform.image_size, none)
    engine = choose_engine(settings.engine, model, data, device, settings.precision, store)
    index = torch.arange(round(fraction * len(task.train)))
    plan = BatchPlan(index, settings.batch_size, none, task.name, 0)
    return Trial(model, engine, data, plan, settings)


def run(trial: Trial, **callbacks: Any) -> Trace:
    """Train as the library does; epochs are validated where the task has validation images.

    Args:
        trial: What to train.
        callbacks: `on_epoch` and `on_progress`, as in `reprogram.training.train`.
    """
    own_split = "val" in trial.data.splits
    val = torch.arange(len(trial.data.labels["val"]) if own_split else 0)
    return train(
        trial.model, trial.engine, trial.data.labels, trial.plan, val, trial.settings,
        val_split="val" if own_split else "train", **callbacks,
    )  # fmt: skip


def step_seconds(
    trial: Trial, between: Callable[[], None], meter: Meter = time.process_time
) -> list[float]:
    """Seconds of each step of a trial whose epochs are one step: render, forward, backward, Adam.

    Args:
        trial: Without validation images.
        between: Called before each step, outside its time.
        meter: What is read; by default the CPU seconds of this process.
    """
    started = 0.0
    seconds: list[float] = []

    def on_epoch(_: object) -> None:
        nonlocal started
        if len(seconds) < trial.settings.epochs:
            between()
        started = meter()

    run(trial, on_epoch=on_epoch, on_progress=lambda _: seconds.append(meter() - started))
    return seconds


def epoch_seconds(
    trial: Trial, between: Callable[[], None], meter: Meter = time.process_time
) -> list[float]:
    """Seconds of each epoch from the second on: mapping pass, training, validation.

    The first epoch has no mapping pass, since the mapping of the untrained prompt holds for it.

    Args:
        trial: With validation images.
        between: Called before each epoch, outside its time.
        meter: What is read; by default the CPU seconds of this process.
    """
    started = 0.0
    seconds: list[float] = []

    def on_epoch(state: Any) -> None:
        nonlocal started
        if state.epoch > 1:
            seconds.append(meter() - started)
        if 1 <= state.epoch < trial.settings.epochs:
            between()
        started = meter()

    run(trial, on_epoch=on_epoch)
    return seconds


@torch.no_grad()
def change_prompt(trial: Trial) -> None:
    """Move the prompt a little, so that nothing an engine kept for the last one holds."""
    for parameter in trainable(trial.model).values():
        parameter.add_(1e-3)


@torch.no_grad()
def logits(trial: Trial) -> Tensor:
    """Target logits of the first batch as validation computes them."""
    trial.model.eval()
    return trial.model.mapping(trial.engine.outputs(trial.model, trial.batch))
