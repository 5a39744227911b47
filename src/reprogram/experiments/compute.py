"""Training compute of a row: floating-point operations, counted and not timed.

Seconds depend on the machine's load, and a pass of the frozen body that several cells share is paid
by whoever comes first. Operations of the plain path are the same everywhere, and each row is
charged what it would take by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from reprogram.engine import StoreEngine
from reprogram.errors import InputError
from reprogram.experiments.jobs import Context, cell_source
from reprogram.experiments.results import Entry
from reprogram.experiments.run import augmentation_of
from reprogram.experiments.work import work_of_row
from reprogram.methods import get_method
from reprogram.model import trainable
from reprogram.seeds import generator_for
from reprogram.settings import Settings
from reprogram.sources import Source
from reprogram.training import loss_sum

__all__ = ["ImageCost", "image_cost", "training_flops", "with_compute"]

IMAGES = 2  # in the batch that is counted: BatchNorm in train mode wants more than one
_TRAINING = ("epochs", "steps", "batch_size", "lr", "lr_mask", "lr_linear", "lr_mapping", "engine")


@dataclass(frozen=True)
class ImageCost:
    """Floating-point operations an image of one method on one source.

    Attributes:
        step: Forward and backward, in a training step.
        look: Forward, to validate or to fit a mapping.
        mapping_step: `step` of the mapping alone, on features that are stored.
        mapping_look: `look` of the mapping alone.
        views: Outputs of a training image that serve all epochs, as of `StoreEngine`; 0 for none.
        refit: When a mapping is fitted on the training images: "never", at the "start" or before
            every "epoch".
    """

    step: float
    look: float
    mapping_step: float
    mapping_look: float
    views: int
    refit: str


def with_compute(
    entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]], context: Context
) -> tuple[list[dict[str, Any]], str]:
    """The rows with `training_flops`, and why there are none.

    Args:
        entries: The rows' cells, in the rows' order.
        rows: Of a grid; they stay as they are.
        context: For loading the sources.

    Returns:
        Copies of the rows; all without the field, and the reason, where a source cannot be opened.
    """
    known: dict[str, ImageCost] = {}
    counted = []
    for entry, row in zip(entries, rows, strict=True):
        counted.append(dict(row))
        if row["status"] != "done" or row.get("steps") is None:
            continue
        settings = {k: v for k, v in row["settings"].items() if k not in _TRAINING}
        # Trainings of one source under several seeds are one network.
        place = [entry.cell.source, row["method"], row["num_classes"], settings]
        key = json.dumps(place, sort_keys=True)
        try:
            if key not in known:
                known[key] = image_cost(cell_source(entry.cell, context), row)
        except (InputError, OSError) as error:
            reason = f"{entry.cell.source} cannot be opened here ({error})"
            return [dict(each) for each in rows], f"No budget of training compute: {reason}"
        counted[-1]["training_flops"] = training_flops(row, known[key])
    return counted, ""


def image_cost(source: Source, row: Mapping[str, Any]) -> ImageCost:
    """Count the operations of a row's method on zero images; the source stays as it is."""
    method, settings = get_method(row["method"]), Settings.from_dict(row["settings"])
    names = tuple(map(str, range(row["num_classes"])))
    model = method.build(source, names, settings, generator_for("compute"))
    size = model.input_transform.image_size
    x = torch.zeros(IMAGES, 3, size, size, dtype=source.mean.dtype, device=source.mean.device)
    labels = torch.zeros(IMAGES, dtype=torch.int64, device=x.device)
    model.eval()
    with torch.no_grad():
        features = model.outputs(x)

    def step(logits: Callable[[], torch.Tensor]) -> float:
        def both() -> None:
            loss = loss_sum(logits(), labels, settings)
            if loss.requires_grad:
                loss.backward()

        model.train()
        found = _count(both) if trainable(model) else 0.0
        model.zero_grad(set_to_none=True)
        return found

    steps = step(lambda: model(x)), step(lambda: model.mapping(features))
    model.eval()
    with torch.no_grad():
        looks = _count(lambda: model(x)), _count(lambda: model.mapping(features))
    # A first order runs as written, whatever of it is trained.
    views = 0 if method.first_order else StoreEngine.views(model, augmentation_of(settings))
    return ImageCost(steps[0], looks[0], steps[1], looks[1], views, model.mapping.refit)


def _count(work: Callable[[], object]) -> float:
    """Operations an image."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / IMAGES


def training_flops(row: Mapping[str, Any], cost: ImageCost) -> int:
    """What a row's training took: steps, validation of every state, passes that fit a mapping.

    Args:
        row: With n_train, n_val, steps and its resolved settings.
        cost: Of its method.
    """
    work = work_of_row(row, cost.refit)
    if not cost.views:
        return round(cost.step * work.trained + cost.look * (work.validated + work.fitted))
    once = (cost.look - cost.mapping_look) * (cost.views * row["n_train"] + row["n_val"])
    return round(once + cost.mapping_step * work.trained + cost.mapping_look * work.validated)
