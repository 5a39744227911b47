"""What a grid will cost: time and storage, from one step of each method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from reprogram.data import TargetTask
from reprogram.data.batches import BatchPlan, ResidentData, epoch_batches, in_order
from reprogram.data.noise import noisy
from reprogram.engine import Engine, FeatureStore, SplittingEngine, StoreEngine, choose_engine
from reprogram.environment import resolve_device
from reprogram.experiments.cell import Cell
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.experiments.results import Entry
from reprogram.experiments.run import (
    DEFAULT_MAX_MEMORY,
    augmentation_of,
    pool_pays,
    resolved_settings,
    trial_images,
)
from reprogram.experiments.work import work_of
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, trainable
from reprogram.seeds import generator_for
from reprogram.settings import Settings
from reprogram.sources import Source
from reprogram.training import loss_sum, make_optimizer

__all__ = ["Cost", "Estimate", "estimate"]

PROBE = 256  # images that a step is measured on
NOISY_PROBE = 8  # images that a noise is measured on


@dataclass(frozen=True)
class Cost:
    """What was measured of one method on one pair.

    Attributes:
        step: Seconds an image in a training step.
        look: Seconds an image in a forward pass.
        stored: Whether such a pass runs once for all cells of the pair, and is looked up then.
        bytes: That a fitted model takes on disk.
        row: Bytes an image in the feature cache.
    """

    step: float
    look: float
    stored: bool
    bytes: int
    row: int = 0


@dataclass(frozen=True)
class Estimate:
    """Of a grid that finds empty caches.

    Attributes:
        seconds: Of one worker.
        noise_seconds: Those of them that make noisy images.
        bytes: Of the fitted models.
        feature_bytes: Of the stored features.
        noise_bytes: Of the noisy images.
        costs: By source, target and method.
        refused: What cannot be run, and why.
    """

    seconds: float
    noise_seconds: float
    bytes: int
    feature_bytes: int
    noise_bytes: int
    costs: dict[tuple[str, str, str], Cost]
    refused: dict[tuple[str, str, str], str]


def estimate(
    entries: Sequence[Entry],
    context: Context,
    on_pair: Callable[[str], None] = lambda _: None,
    *,
    fitted: Callable[[str], bool] = lambda _: False,
) -> Estimate:
    """Measure one step of each method of a grid, and add up its cells.

    Args:
        entries: Cells to run.
        context: How.
        on_pair: Told what is measured next.
        fitted: Whether a fit is there already, by its key.
    """
    torch.set_num_threads(context.threads)
    costs: dict[tuple[str, str, str], Cost] = {}
    refused: dict[tuple[str, str, str], str] = {}
    parts: dict[tuple[object, ...], _Part] = {}
    for entry in entries:
        cell = entry.cell
        place = (cell.source, cell.target, cell.method)
        if place in refused:
            continue
        source, task = cell_source(cell, context), cell_task(cell, context)
        try:
            if place not in costs:
                on_pair(f"{cell.source} -> {cell.target}  {cell.method}")
                costs[place] = measure(cell, source, task, context)
            for split, n in _noisy_splits(cell, task).items():
                kept = ("noise", cell.target, str(replace(cell.noise, on="both")), split, n)
                if kept not in parts:
                    parts[kept] = _noise_part(cell, task, split, n)
        except ValueError as error:  # InputError: this cell will be skipped
            refused[place] = str(error)
            continue
        cost = costs[place]
        if ("fit", entry.fit) not in parts and not fitted(entry.fit):
            seconds = training_seconds(cell, source, task, cost)
            parts["fit", entry.fit] = _Part(seconds, cost.bytes)
        for view, n in _looks(cell, task, cost, entry.key).items():
            parts[view] = _Part(cost.look * n, cost.row * n)

    def total(kinds: str, of: str) -> float:
        return sum(getattr(part, of) for (kind, *_), part in parts.items() if kind in kinds.split())

    return Estimate(
        total("fit look features noise", "seconds"), total("noise", "seconds"),
        int(total("fit", "bytes")), int(total("features", "bytes")), int(total("noise", "bytes")),
        costs, refused,
    )  # fmt: skip


class _Part(NamedTuple):
    """Something that a grid makes once."""

    seconds: float
    bytes: int


def _looks(cell: Cell, task: TargetTask, cost: Cost, key: str) -> dict[tuple[object, ...], int]:
    """Passes that a cell asks for and shares by their key, and of how many images."""
    n_test = cell.test_pool or len(task.test)
    if not cost.stored:
        return {("look", key): n_test}
    pair = ("features", cell.source, cell.source_seed, cell.target)
    pool, seed = len(task.train), None
    if pool_pays(cell.train_pool, pool, stored=True):
        assert cell.train_pool is not None
        pool, seed = cell.train_pool, cell.seed
    trained = (*pair, str(cell.noise.training), "train", seed)
    looks: dict[tuple[object, ...], int] = {
        (*pair, str(cell.noise), "test", n_test): n_test,
        trained: pool,
    }
    if (cell.settings or get_method(cell.method).settings).augment != "none":
        looks[(*trained, "mirrored")] = pool
    return looks


def _noisy_splits(cell: Cell, task: TargetTask) -> dict[str, int]:
    """How many images of each split a cell needs with noise."""
    if not cell.noise.changes_images:
        return {}
    counts = {name: len(task.split(name)) for name in task.split_names if cell.noise.touches(name)}
    if "test" in counts:
        counts["test"] = cell.test_pool or counts["test"]
    return counts


def _noise_part(cell: Cell, task: TargetTask, split: str, n: int) -> _Part:
    """Seconds and bytes of a split's noisy images, from a few of them."""
    store = noisy(task, cell.noise).part(split).store
    few = range(min(NOISY_PROBE, n))
    size = np.asarray(store.image(0)).nbytes
    return _Part(_seconds(lambda: [store.image(i) for i in few]) / len(few) * n, size * n)


def training_seconds(cell: Cell, source: Source, task: TargetTask, cost: Cost) -> float:
    """Seconds of a fit: steps, validation passes, mapping passes."""
    train, _, val = trial_images(
        task, cell.data_fraction, cell.seed, cell.val_share, cell.train_pool
    )
    settings = resolved_settings(cell, source, task)
    assert settings.batch_size is not None
    steps = settings.steps
    if steps is None:
        steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
    build = get_method(cell.method).mapping.build
    refit = build(source, task.num_classes, settings, torch.Generator()).refit
    work = work_of(
        steps if cost.step else 0, settings.batch_size, len(train), len(val), refit,
        settings.final_refit,
    )  # fmt: skip
    passes = 0 if cost.stored else work.validated + work.fitted
    return cost.step * work.trained + cost.look * passes


def measure(cell: Cell, source: Source, task: TargetTask, context: Context) -> Cost:
    """Time one training step and one pass of a cell, on a few of its images."""
    device = resolve_device(context.device)
    method = get_method(cell.method)
    settings = resolved_settings(cell, source, task)
    assert settings.batch_size is not None
    model = method.build(
        source, task.class_names, settings, generator_for("estimate"), DEFAULT_MAX_MEMORY
    ).to(device)
    few = task.train.subset(range(min(PROBE, len(task.train))))
    augmentation = augmentation_of(settings)
    data = ResidentData({"train": few}, model.input_transform.image_size, augmentation)
    engine = choose_engine(settings.engine, model, data, device, settings.precision, FeatureStore())
    index = torch.arange(len(few))
    inner = engine.engine if isinstance(engine, SplittingEngine) else engine
    stored = isinstance(inner, StoreEngine)
    look = _seconds(lambda: _look(model, engine, index), repeat=not stored) / len(few)
    step = 0.0
    if trainable(model):
        plan = BatchPlan(index, settings.batch_size, augmentation, task.name, 0)
        step = _step_seconds(model, engine, data, plan, settings)
    row = inner.width * inner.dtype.itemsize if isinstance(inner, StoreEngine) else 0
    return Cost(step, look, stored, model.stored_bytes, row)


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


def _seconds(work: Callable[[], object], repeat: bool = True) -> float:
    """Wall time of the second of two runs; of the only one where a second would look things up."""
    if repeat:
        work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
