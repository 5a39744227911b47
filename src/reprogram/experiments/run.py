"""run_cell: split, fit, select on validation, test once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from reprogram.data import TargetTask, load_target, plan_split
from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import BatchPlan, ResidentData
from reprogram.engine import FeatureStore, choose_engine
from reprogram.environment import environment, resolve_device
from reprogram.evaluation import evaluate
from reprogram.experiments.cell import Cell
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, count_parameters
from reprogram.seeds import generator_for
from reprogram.sources import Source, load_source, preprocessing_of
from reprogram.training import Epoch, Progress, Trace, train

__all__ = ["DEFAULT_MAX_MEMORY", "Result", "identity_of", "run_cell", "trial_images"]

DEFAULT_MAX_MEMORY = 4 << 30
ROW_SCHEMA = 1


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
    checkpoint: Path | None = None,
    on_start: Callable[[], None] = lambda: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Result:
    """Run one cell from its start, or from `checkpoint` where that holds an unfinished run.

    Args:
        cell: What to run.
        source: The cell's source where the caller has it already; left bitwise as it is.
        task: The cell's target where the caller has it already.
        device: "auto" (cuda, else cpu), "cpu", "cuda", "mps".
        max_memory: Bytes above which a prompt is refused; None refuses none.
        store: Stored features that several cells share.
        checkpoint: File to resume from and to write after every epoch.
        on_start: Called when everything is checked and training begins.
        on_progress: Called after every optimiser step.
        on_epoch: Called with every finished state.
    """
    started = time.perf_counter()
    source = source or load_source(cell.source)
    task = task or load_target(cell.target)
    on = resolve_device(device)
    method = get_method(cell.method)
    train_index, val_split, val_index = trial_images(
        task, cell.data_fraction, cell.seed, cell.val_share, cell.train_pool
    )
    # Of the set, so that the batch size is the same at every fraction.
    pool = cell.train_pool or len(task.train)
    settings = method.resolve(source, task.native_size, pool, cell.settings)
    assert settings.batch_size is not None
    init = generator_for("init", task.name, method.name, cell.seed)
    model = method.build(source, task.class_names, settings, init, max_memory).to(on)
    splits = {name: task.split(name) for name in dict.fromkeys(("train", val_split, "test"))}
    augmentation = Augmentation(settings.margin or 0, flip=settings.augment != "none")
    data = ResidentData(splits, model.input_transform.image_size, augmentation)
    engine = choose_engine(settings.engine, model, data, on, settings.precision, store)
    identity = identity_of(cell, source, task)
    on_start()
    plan = BatchPlan(
        torch.as_tensor(train_index), settings.batch_size, augmentation, task.name, cell.seed
    )
    trace = train(
        model, engine, data.labels, plan, torch.as_tensor(val_index, dtype=torch.int64), settings,
        val_split=val_split, track_test=cell.track_test, checkpoint=checkpoint, identity=identity,
        on_progress=on_progress, on_epoch=on_epoch,
    )  # fmt: skip
    test = evaluate(model, task.test)
    own = model.own_tensors()
    row = cell.to_dict() | {
        "schema": ROW_SCHEMA,
        "status": "done",
        "settings": settings.to_dict(),
        "accuracy": test.accuracy,
        "loss": test.loss,
        "val_accuracy": _val_accuracy(trace),
        "selection_rule": trace.selection_rule,
        "selected_epoch": trace.selected_epoch,
        "history": trace.to_dict()["history"],
        "num_classes": task.num_classes,
        "n_train": len(train_index),
        "n_val": len(val_index),
        "n_test": test.n,
        "steps": trace.steps,
        "trainable_parameters": count_parameters(model),
        "stored_bytes": sum(t.numel() * t.element_size() for t in own.values()),
        "images_per_second": trace.images_per_second,
        "seconds": time.perf_counter() - started,
        "engine": engine.name,
        "source_fingerprint": source.fingerprint,
        "target_fingerprint": task.fingerprint,
        **environment(on),
    }
    model.record = row
    return Result(row, model, trace)


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


def identity_of(cell: Cell, source: Source, task: TargetTask) -> str:
    """The cell's key with everything of source and target that determines its result."""
    return cell.key(
        source.fingerprint, preprocessing_of(source), task.fingerprint, f"schema {ROW_SCHEMA}"
    )


def _val_accuracy(trace: Trace) -> float | None:
    val = trace.history[trace.selected_epoch].val
    return val.accuracy if val else None
