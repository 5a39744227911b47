"""run_cell: split, fit, select on validation, test once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from reprogram.data import Split, TargetTask, load_target, plan_split, stratified_subset
from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import BatchPlan, ResidentData, in_order
from reprogram.data.noise import CLEAN, Noise, noise_note, noisy
from reprogram.engine import FeatureStore, StoreEngine, choose_engine
from reprogram.environment import environment, resolve_device
from reprogram.experiments.cell import Cell
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, count_parameters
from reprogram.seeds import generator_for, seed_for
from reprogram.settings import Settings
from reprogram.sources import Source, load_source, preprocessing_of, resolve_seeded
from reprogram.training import Epoch, Progress, Trace, score, train

__all__ = [
    "DEFAULT_MAX_MEMORY",
    "Result",
    "augmentation_of",
    "identity_of",
    "load_cell_source",
    "pool_pays",
    "resolved_settings",
    "run_cell",
    "score_test",
    "trial_images",
    "with_test_pool",
]

DEFAULT_MAX_MEMORY = 4 << 30
ROW_SCHEMA = 2
TEST_BATCH = 256


@dataclass
class Result:
    """A finished cell: its row (JSON values only), the trained model, the run's trace."""

    row: dict[str, Any]
    model: Reprogrammed
    trace: Trace


def run_cell(
    cell: Cell,
    *,
    source: Source | None = None,
    task: TargetTask | None = None,
    device: str = "auto",
    max_memory: int | None = DEFAULT_MAX_MEMORY,
    store: FeatureStore | None = None,
    noise_cache: Path | None = None,
    test: bool = True,
    checkpoint: Path | None = None,
    on_start: Callable[[], None] = lambda: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Result:
    """Run one cell from its start, or from `checkpoint` where that holds an unfinished run.

    A row's `seconds` are those of training, over all parts of a run that was resumed: optimiser
    steps and the mapping fits between them. What is loaded, stored or validated beside them is not
    in it, so that neither a shared cache nor the order of cells enters; `test_seconds` are those of
    scoring the test images.

    Args:
        cell: What to run.
        source: The cell's source where the caller has it already; left bitwise as it is.
        task: The cell's target, without noise, where the caller has it already.
        device: "auto" (cuda, else cpu), "cpu", "cuda", "mps".
        max_memory: Bytes above which a prompt is refused; None refuses none.
        store: Stored features that several cells share.
        noise_cache: Folder of noisy images that several cells share; None keeps them in memory.
        test: Whether the test images are looked at; without, the row has no accuracy yet.
        checkpoint: File to resume from and to write after every epoch.
        on_start: Called when everything is checked and training begins.
        on_progress: Called after every optimiser step.
        on_epoch: Called with every finished state.
    """
    source = source or load_cell_source(cell.source, cell.source_seed)
    task = task or load_target(cell.target)
    store = store or FeatureStore()
    on = resolve_device(device)
    method = get_method(cell.method)
    identity = identity_of(cell, source, task)
    clean, task = task, noisy(task, cell.noise, cache=noise_cache)
    settings = resolved_settings(cell, source, task)
    assert settings.batch_size is not None
    init = generator_for("init", task.name, method.drawn_as, cell.seed)
    model = method.build(source, task.class_names, settings, init, max_memory).to(on)
    data, train_index, val_split, val_index = _resident(cell, task, model, settings)
    engine = choose_engine(settings.engine, model, data, on, settings.precision, store)
    on_start()
    plan = BatchPlan(
        torch.as_tensor(train_index), settings.batch_size, data.augmentation, task.name, cell.seed
    )
    trace = train(
        model, engine, data.labels, plan, torch.as_tensor(val_index, dtype=torch.int64), settings,
        val_split=val_split, track_test=cell.track_test, checkpoint=checkpoint, identity=identity,
        on_progress=on_progress, on_epoch=on_epoch,
    )  # fmt: skip
    row = cell.to_dict() | {
        "target": task.name,
        "schema": ROW_SCHEMA,
        "status": "done",
        "settings": settings.to_dict(),
        "val_accuracy": trace.val_accuracy,
        "selection_rule": trace.selection_rule,
        "selected_epoch": trace.selected_epoch,
        "history": trace.to_dict()["history"],
        "num_classes": task.num_classes,
        "n_train": len(train_index),
        "n_val": len(val_index),
        "steps": trace.steps,
        "trainable_parameters": count_parameters(model),
        "stored_bytes": model.stored_bytes,
        "images_per_second": trace.images_per_second,
        "seconds": trace.seconds,
        "engine": engine.name,
        "source_fingerprint": source.fingerprint,
        "target_fingerprint": clean.fingerprint,
        **environment(on),
    }
    model.record = row
    if test:
        row |= score_test(
            model,
            clean,
            cell.noise,
            cell.test_pool,
            device=device,
            store=store,
            noise_cache=noise_cache,
        )
    return Result(row, model, trace)


def score_test(
    model: Reprogrammed,
    task: TargetTask,
    noise: Noise = CLEAN,
    test_pool: int | None = None,
    *,
    device: str = "auto",
    store: FeatureStore | None = None,
    noise_cache: Path | None = None,
) -> dict[str, Any]:
    """What a row says about the test images, through the engine that serves them best.

    Args:
        model: A fitted model; its record's settings are read.
        task: Its target, without noise.
        noise: What is done to the images.
        test_pool: Stratified number of test images; None takes all. The same for every seed.
        device: As for :func:`run_cell`.
        store: As for :func:`run_cell`.
        noise_cache: As for :func:`run_cell`.
    """
    started = time.perf_counter()
    task = with_test_pool(task, test_pool)
    note, task = noise_note(task, noise), noisy(task, noise, cache=noise_cache)
    assert model.record is not None
    settings = Settings.from_dict(model.record["settings"])
    data = ResidentData({"test": task.test}, model.input_transform.image_size, Augmentation())
    engine = choose_engine(
        settings.engine, model, data, resolve_device(device), settings.precision, store
    )
    model.eval()
    with torch.no_grad():
        batches = in_order("test", torch.arange(len(task.test)), TEST_BATCH)
        logits = torch.cat([model.mapping(engine.outputs(model, batch)) for batch in batches])
    labels = data.labels["test"]
    found = score(logits, labels)
    return {
        "accuracy": found.accuracy,
        "balanced_accuracy": balanced_accuracy(logits, labels),
        "loss": found.loss,
        "n_test": found.n,
        "test_seconds": time.perf_counter() - started,
        "noise_note": note,
    }


def with_test_pool(task: TargetTask, n: int | None) -> TargetTask:
    """The task with a stratified number of its test images, the same for every trial; None is all."""
    if n is None:
        return task
    index = stratified_subset(task.test.labels, n, seed=seed_for("test pool", task.name))
    return task.replacing({"test": lambda: task.part("test").take(index)})


def balanced_accuracy(logits: Float[Tensor, "n target"], labels: Int[Tensor, " n"]) -> float:
    """Mean over the classes that are there of the share of a class that is recognised."""
    hits = (logits.argmax(1).cpu() == labels).double()
    return float(torch.stack([hits[labels == c].mean() for c in labels.unique()]).mean())


def resolved_settings(cell: Cell, source: Source, task: TargetTask) -> Settings:
    """The cell's settings with what depends on its source and target filled in."""
    # Of the set, so that the batch size is the same at every fraction.
    n = cell.train_pool or len(task.train)
    return get_method(cell.method).resolve(source, task.native_size, n, cell.settings)


def augmentation_of(settings: Settings) -> Augmentation:
    """What resolved settings do to training images."""
    return Augmentation(settings.margin or 0, flip=settings.augment != "none")


def load_cell_source(name: str, source_seed: int | None, **options: Any) -> Source:
    """The source of a cell: of several trainings of one source, the one with that seed."""
    return load_source(resolve_seeded(name, source_seed), **options)


def trial_images(
    task: TargetTask, fraction: float, seed: int, val_share: float, train_pool: int | None
) -> tuple[ndarray, str, ndarray]:
    """Training images of a trial, and the split that its validation images belong to with these.

    A set's own validation split is the validation whole; otherwise it is cut from the training
    split, the same for every fraction and method of a seed. A share of 0 validates on nothing.
    """
    own = task.has("val")
    train, val = plan_split(
        task.train.labels, task.train.groups, fraction=fraction, seed=seed,
        val_share=0.0 if own else val_share, train_pool=train_pool, target_name=task.name,
    )  # fmt: skip
    if own and val_share > 0:
        return train, "val", np.arange(len(task.val))
    return train, "train", val


def _resident(
    cell: Cell, task: TargetTask, model: Reprogrammed, settings: Settings
) -> tuple[ResidentData, ndarray, str, ndarray]:
    """The images that a trial needs, and where among them its own are, as `trial_images` says."""
    train_index, val_split, val_index = trial_images(
        task, cell.data_fraction, cell.seed, cell.val_share, cell.train_pool
    )
    read = ("train", val_split, *(("test",) if cell.track_test else ()))
    splits = {name: task.split(name) for name in dict.fromkeys(read)}
    augmentation = augmentation_of(settings)
    data = ResidentData(splits, model.input_transform.image_size, augmentation)
    stored = settings.engine in ("auto", "store") and StoreEngine.serves(model, data)
    if not pool_pays(cell.train_pool, len(task.train), stored=stored):
        return data, train_index, val_split, val_index
    # Those of every fraction, which share what is resized and stored.
    pool, _, held = trial_images(task, 1.0, cell.seed, cell.val_share, cell.train_pool)
    if val_split == "train":
        pool = np.union1d(pool, held)
        val_index = np.searchsorted(pool, val_index)
    splits["train"] = _cut(task.train, pool.tobytes())
    data = ResidentData(splits, data.size, augmentation)
    return data, np.searchsorted(pool, train_index), val_split, val_index


SEEDS_IN_A_SPLIT = 5


def pool_pays(pool: int | None, split: int, *, stored: bool) -> bool:
    """Whether a run resizes, and passes through the body, its pool rather than the whole split.

    Stored outputs of the whole split serve the pools of all seeds. A few seeds on a small pool cost
    less; five, more than the usual grid has, are where that is taken to turn. Results are the same
    but for the rounding of stored outputs where the last batch has fewer than 16 images.

    >>> pool_pays(2000, 50_000, stored=True), pool_pays(40_000, 50_000, stored=True)
    (True, False)
    >>> pool_pays(40_000, 50_000, stored=False), pool_pays(None, 50_000, stored=False)
    (True, False)
    """
    if pool is None:
        return False
    return SEEDS_IN_A_SPLIT * pool <= split if stored else pool < split


@lru_cache(maxsize=2)
def _cut(split: Split, index: bytes) -> Split:
    """Some images of a split, resized once for the cells of a trial that follow each other."""
    return split.subset(np.frombuffer(index, np.int64).copy())  # a view would be read-only


def identity_of(cell: Cell, source: Source, task: TargetTask) -> str:
    """The cell's key with everything of source and target that determines its result."""
    known = replace(
        cell,
        source=Path(os.path.normpath(cell.source)).as_posix(),  # ./a and a/ are a
        target=task.name,  # not the path that it lies at here
        settings=cell.settings or get_method(cell.method).settings,
    )
    return known.key(
        source.fingerprint, preprocessing_of(source), task.fingerprint, f"schema {ROW_SCHEMA}"
    )
