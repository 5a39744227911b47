"""What a grid will cost: time and storage, from one step of each method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from reprogram.data import TargetTask
from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import BatchPlan, ResidentData, epoch_batches, in_order
from reprogram.engine import Engine, FeatureStore, StoreEngine, choose_engine
from reprogram.environment import resolve_device
from reprogram.experiments.cell import Cell
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.experiments.results import Entry
from reprogram.experiments.run import DEFAULT_MAX_MEMORY, trial_images
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, trainable
from reprogram.seeds import generator_for
from reprogram.settings import Settings
from reprogram.sources import Source
from reprogram.training import loss_sum, make_optimizer

__all__ = ["Cost", "Estimate", "estimate"]

PROBE = 256  # images that a step is measured on


@dataclass(frozen=True)
class Cost:
    """What was measured of one method on one pair.

    Attributes:
        step: Seconds an image in a training step.
        look: Seconds an image in a pass without gradients.
        stored: Whether such a pass runs once for all cells of the pair, and is looked up then.
        bytes: That a fitted model takes on disk.
    """

    step: float
    look: float
    stored: bool
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """Of a grid: seconds of one worker, and bytes of the artefacts."""

    seconds: float
    bytes: int
    costs: dict[tuple[str, str, str], Cost]
    refused: dict[tuple[str, str, str], str]


def estimate(
    entries: Sequence[Entry], context: Context, on_pair: Callable[[str], None] = lambda _: None
) -> Estimate:
    """Measure one step of each method of a grid, and add up its cells."""
    torch.set_num_threads(context.threads)
    costs: dict[tuple[str, str, str], Cost] = {}
    refused: dict[tuple[str, str, str], str] = {}
    seconds, size, fits, stored = 0.0, 0, set(), set()
    for entry in entries:
        cell = entry.cell
        place = (cell.source, cell.target, cell.method)
        if place in refused:
            continue
        source, task = cell_source(cell, context), cell_task(cell, context)
        if place not in costs:
            on_pair(f"{cell.source} -> {cell.target}  {cell.method}")
            try:
                costs[place] = measure(cell, source, task, context)
            except ValueError as error:  # InputError: this cell will be skipped
                refused[place] = str(error)
                continue
        cost = costs[place]
        n_test = cell.test_pool or len(task.test)
        if cost.stored:
            view = (cell.source, cell.source_seed, cell.target, str(cell.noise))
            if view not in stored:
                stored.add(view)
                seconds += cost.look * n_test
                seconds += 0 if cell.noise.training == cell.noise else cost.look * len(task.train)
        else:
            seconds += cost.look * n_test
        if entry.fit not in fits:
            fits.add(entry.fit)
            seconds += training_seconds(cell, source, task, cost)
            size += cost.bytes
    return Estimate(seconds, size, costs, refused)


def training_seconds(cell: Cell, source: Source, task: TargetTask, cost: Cost) -> float:
    """Seconds of a fit: steps, validation passes, mapping passes."""
    train, _, val = trial_images(
        task, cell.data_fraction, cell.seed, cell.val_share, cell.train_pool
    )
    method = get_method(cell.method)
    settings = method.resolve(
        source, task.native_size, cell.train_pool or len(task.train), cell.settings
    )
    assert settings.batch_size is not None
    epochs = float(settings.epochs)
    if settings.steps is not None:
        epochs = settings.steps / math.ceil(len(train) / settings.batch_size)
    if not cost.step:
        epochs = 0.0
    looks = 0.0 if cost.stored else (epochs + 1) * len(val)
    mapping = method.mapping.build(source, task.num_classes, settings, torch.Generator())
    if mapping.refit != "never" and not cost.stored:
        looks += len(train) * (max(epochs, 1) if mapping.refit == "epoch" else 1)
    return cost.step * epochs * len(train) + cost.look * looks


def measure(cell: Cell, source: Source, task: TargetTask, context: Context) -> Cost:
    """Time one training step and one pass of a cell, on a few of its images."""
    device = resolve_device(context.device)
    method = get_method(cell.method)
    settings = method.resolve(
        source, task.native_size, cell.train_pool or len(task.train), cell.settings
    )
    assert settings.batch_size is not None
    model = method.build(
        source, task.class_names, settings, generator_for("estimate"), DEFAULT_MAX_MEMORY
    ).to(device)
    few = task.train.subset(range(min(PROBE, len(task.train))))
    augmentation = Augmentation(settings.margin or 0, flip=settings.augment != "none")
    data = ResidentData({"train": few}, model.input_transform.image_size, augmentation)
    engine = choose_engine(settings.engine, model, data, device, settings.precision, FeatureStore())
    index = torch.arange(len(few))
    own = sum(t.numel() * t.element_size() for t in model.own_tensors().values())
    looked = _seconds(
        lambda: _look(model, engine, index), repeat=not isinstance(engine, StoreEngine)
    )
    look = looked / len(few)
    step = 0.0
    if trainable(model):
        plan = BatchPlan(index, settings.batch_size, augmentation, task.name, 0)
        step = _step_seconds(model, engine, data, plan, settings)
    return Cost(step, look, isinstance(engine, StoreEngine), own)


def _look(model: Reprogrammed, engine: Engine, index: torch.Tensor) -> None:
    model.eval()
    with torch.no_grad():
        for batch in in_order("train", index, PROBE):
            engine.outputs(model, batch)


def _step_seconds(
    model: Reprogrammed, engine: Engine, data: ResidentData, plan: BatchPlan, settings: Settings
) -> float:
    """Seconds an image of one optimiser step, the second of two."""
    optimizer = make_optimizer(model, settings)
    batch = next(iter(epoch_batches(plan, 1)))

    def step() -> None:
        model.train()
        logits = model.mapping(engine.outputs(model, batch))
        labels = data.labels["train"][batch.index].to(logits.device)
        loss = loss_sum(logits, labels, settings) / len(batch.index)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return _seconds(step) / len(batch.index)


def _seconds(work: Callable[[], None], repeat: bool = True) -> float:
    """Wall time of the second of two runs; of the only one where a second would look things up."""
    if repeat:
        work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
