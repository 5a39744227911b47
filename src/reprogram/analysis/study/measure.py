"""One trial forecast by everything that can be had before training, each with what it costs.

Only training images are looked at: those that the trial trains on, and for the first steps of the
training its validation images, which are a part of them.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from reprogram.analysis.calibration import PARTS
from reprogram.analysis.forecast import Forecast, forecast
from reprogram.analysis.study.trials import Trial
from reprogram.analysis.transferability import SCORES, nearest_centroid
from reprogram.data import TargetTask, stratified_subset
from reprogram.evaluation import source_outputs
from reprogram.experiments.cell import Cell
from reprogram.experiments.estimate import Cost, measure, training_seconds
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.experiments.run import resolved_settings, run_cell, trial_images
from reprogram.methods import get_method
from reprogram.seeds import seed_for
from reprogram.sources import Source

__all__ = ["COMPLETE_EPOCHS", "EARLY_EPOCHS", "measure_trial", "steps_within"]

EARLY_EPOCHS = (1, 2)
COMPLETE_EPOCHS = 50  # of the whole training split, whose time is projected


def measure_trial(
    trial: Trial, context: Context, *, images: int, mapping_images: int
) -> dict[str, Any]:
    """A row of the study: what came out, every predictor, and seconds.

    Forecast and scores are charged with the images that they read, once the set is loaded; trainings,
    their first steps among them, by the pace of a step measured here, without their images.

    Args:
        trial: A training that is done.
        context: Device, threads, memory and where the data lie.
        images: Of the kernel.
        mapping_images: Others that the mapping is fitted on. The scores see as many as both.
    """
    torch.set_num_threads(context.threads)
    cell, row = trial.cell, trial.row
    source, task = cell_source(cell, context), cell_task(cell, context)
    _ = task.train  # loading the set is nobody's time
    found = forecast(
        source, task, cell.method, settings=cell.settings, images=images,
        mapping_images=mapping_images, seed=cell.seed, train_pool=cell.train_pool,
        val_share=cell.val_share, max_memory=context.max_memory,
    )  # fmt: skip
    of_kernel, alignment_seconds = _of_kernel(found)
    of_images, score_seconds = _scores(source, task, cell, found.images + found.mapping_images)
    cost = measure(cell, source, task, context)
    first, steps, first_seconds = _first_steps(cell, source, task, context, cost, found.seconds)
    epochs = _early(row)
    return {
        "source": cell.source, "target": row["target"], "method": cell.method, "seed": cell.seed,
        "source_seed": cell.source_seed, "accuracy": row["accuracy"],
        "unprompted_accuracy": trial.plain["accuracy"], "n_train": row["n_train"],
        "n_test": row["n_test"], "images": found.images, "mapping_images": found.mapping_images,
        "kernel": found.kernel.kind, "first_steps": steps, "epochs": len(row["history"]) - 1,
        "predictors": {
            **{name: getattr(found, name) for name in PARTS}, "kernel": found.accuracy,
            **of_kernel, **of_images, "minus-unprompted": -found.unprompted, **epochs,
            "first-steps": first,
        },
        "seconds": {
            "forecast": found.seconds, **found.laps, "alignment": alignment_seconds,
            **score_seconds, "first-steps": first_seconds,
            "training": row["seconds"],
            "training-projected": training_seconds(cell, source, task, cost),
            "complete-projected": training_seconds(_complete(cell), source, task, cost),
        },
    }  # fmt: skip


def _of_kernel(found: Forecast) -> tuple[dict[str, float | None], float]:
    """Alignment and effective dimension, and the seconds of the former."""
    started = time.perf_counter()
    values = {"alignment": found.alignment()}
    seconds = time.perf_counter() - started
    rows = found.images * found.kernel.outputs
    return values | {"effective-dimension": found.effective_dimension / rows}, seconds


def _scores(
    source: Source, task: TargetTask, cell: Cell, n: int
) -> tuple[dict[str, float | None], dict[str, float]]:
    """Every transferability score on n training images; seconds of the pass and of each of them."""
    started = time.perf_counter()
    train, _, _ = trial_images(task, 1.0, cell.seed, cell.val_share, cell.train_pool)
    labels = task.train.labels[train]
    seed = seed_for("study", task.name, cell.seed)
    index = train[stratified_subset(labels, min(n, len(train)), seed=seed)]
    values, y = _outputs(source, task, index), torch.from_numpy(task.train.labels[index])
    scores: dict[str, float | None] = {}
    seconds = {"scores-pass": time.perf_counter() - started}
    for name, score in SCORES.items():
        if score.reads == "target_logits" or score.function is nearest_centroid:
            continue  # parts of the forecast, on its own images
        started = time.perf_counter()
        scores[name] = score.function(values[score.reads], y) if score.reads in values else None
        seconds[f"score {name}"] = time.perf_counter() - started
    return scores, seconds


def _outputs(
    source: Source, task: TargetTask, index: Int[ndarray, " n"]
) -> dict[str, Float[Tensor, "n _"]]:
    """Features, where the source has them, and probabilities, from one pass over the images."""
    logits, features = source_outputs(source, task.train.subset(index).images(source.image_size))
    found = {"probabilities": logits.double().softmax(1)}
    return found if features is None else found | {"features": features}


def _early(row: dict[str, Any]) -> dict[str, float | None]:
    """The best validation accuracy after the first epochs of the training itself."""
    scores = [state["val"] for state in row["history"]]
    return {
        f"epoch-{epoch}": max(score["accuracy"] for score in scores[: epoch + 1])
        if epoch < len(scores) and scores[0] is not None
        else None
        for epoch in EARLY_EPOCHS
    }


def _first_steps(
    cell: Cell, source: Source, task: TargetTask, context: Context, cost: Cost, seconds: float
) -> tuple[float | None, int, float]:
    """Validation accuracy of a training of so many seconds, its steps, and what they take.

    The seconds are those of the cost, as of the training that it is a share of: the run itself would
    count images that it resizes and hashes but never trains on.
    """
    train, _, val = trial_images(task, 1.0, cell.seed, cell.val_share, cell.train_pool)
    method = get_method(cell.method)
    settings = resolved_settings(cell, source, task)
    assert settings.batch_size is not None
    refits = method.mapping.build(source, task.num_classes, settings, torch.Generator()).refit
    per_epoch = math.ceil(len(train) / settings.batch_size)
    steps = steps_within(seconds, cost, len(train), len(val), per_epoch, refits == "epoch")
    steps = min(steps, settings.epochs * per_epoch)
    # The rate stays what it is at the start: these are the first steps, not a short training.
    short = (cell.settings or method.settings).updated({"steps": steps, "schedule": "constant"})
    begun = replace(cell, settings=short, track_test=False)
    result = run_cell(
        begun, source=source, task=task, device=context.device, max_memory=context.max_memory,
        test=False,
    )  # fmt: skip
    return result.row["val_accuracy"], steps, training_seconds(begun, source, task, cost)


def steps_within(
    seconds: float, cost: Cost, train: int, val: int, per_epoch: int, refits: bool
) -> int:
    """Steps of a training that end with a validation pass after so many seconds; at least one.

    Args:
        seconds: For everything, the first mapping and the validation of every state included.
        cost: Of the training.
        train: Training images.
        val: Validation images.
        per_epoch: Steps an epoch.
        refits: Whether the mapping is fitted again before every later epoch.

    >>> steps_within(30.0, Cost(step=0.1, look=0.01, stored=False, bytes=0), 100, 50, 10, True)
    25
    """
    look = 0.0 if cost.stored else cost.look
    # A state's validation; from the second epoch on, its mapping.
    closing, mapping = look * val, look * train
    epoch = max(cost.step * train, 1e-12)
    left = seconds - mapping - closing  # state 0
    steps, again = 0.0, 0.0
    while left > again + closing:
        part = min(1.0, (left - again - closing) / epoch)
        steps += part * per_epoch
        left -= again + closing + part * epoch
        again = mapping if refits else 0.0
    return max(1, math.floor(steps + 1e-9))


def _complete(cell: Cell) -> Cell:
    """The same on the whole training split for 50 epochs."""
    settings = (cell.settings or get_method(cell.method).settings).updated(
        {"epochs": COMPLETE_EPOCHS, "steps": None}
    )
    return replace(cell, settings=settings, train_pool=None)
