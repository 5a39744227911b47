"""A fitted model as a picture: prompt, prompted images, mapping, training curve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprogram.data import Split, TargetTask
from reprogram.evaluation import check_classes, in_batches
from reprogram.figures import Examples, choose_examples, save, show_figure
from reprogram.input_transforms import SMM, Identity
from reprogram.model import Reprogrammed
from reprogram.output_mappings import counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_model", "mapping_weight", "model_figure", "short_source"]

LOOKED_AT = 512  # test images that examples are chosen from


def draw_model(model: Reprogrammed, task: TargetTask, path: Path) -> Path:
    """Write :func:`model_figure` as a PNG or SVG file; returns the file."""
    save(model_figure(model, task), path)
    return path


def model_figure(model: Reprogrammed, task: TargetTask) -> Figure:
    """A fitted model on its target's test images: prompt, examples, mapping, training curve.

    Args:
        model: With its record.
        task: Where the examples come from.
    """
    record = model.record or {}
    transform = model.input_transform
    prompt = transform.picture()
    shown, votes = examples(model, task.test)
    history = [
        {
            "epoch": h["epoch"],
            "train_loss": h["train_loss"],
            "val_accuracy": h["val"] and h["val"]["accuracy"],
        }
        for h in record.get("history", [])
    ]
    return show_figure(
        title=f"{record.get('target')} by {record.get('method')} on {short_source(model.source.name)}",
        examples=shown,
        prompt=None if prompt is None else prompt.detach().cpu().numpy(),
        units=f"{transform.units} units",
        weight=mapping_weight(model),
        strength=votes,
        source_names=model.source.class_names,
        target_names=model.class_names,
        history=history if len(history) > 1 else (),
        selected_epoch=record.get("selected_epoch"),
        training=_training(record),
    )


def _training(record: Mapping[str, Any]) -> str:
    """On how many images the model was trained and validated, where its record says so."""
    if not record.get("n_train"):
        return "training"
    validated = f", validated on {record['n_val']:,}" if record.get("n_val") else ""
    return f"training on {record['n_train']:,} images{validated}"


def short_source(source: str) -> str:
    """The end of a source's path; one of several trainings keeps the name that they share.

    >>> short_source("sources/resnet20-cifar10"), short_source("sources/quickdraw8/seed-1")
    ('resnet20-cifar10', 'quickdraw8/seed-1')
    """
    path = Path(source)
    return (
        f"{path.parent.name}/{path.name}" if re.fullmatch(r"(seed-)?\d+", path.name) else path.name
    )


def mapping_weight(model: Reprogrammed) -> Float[np.ndarray, "source target"] | None:
    """W of target logits = source logits @ W; None where the mapping reads no source classes."""
    if model.mapping.reads != "logits" or model.mapping.matrix is None:
        return None
    return model.mapping.matrix.detach().cpu().numpy()


def examples(model: Reprogrammed, split: Split) -> tuple[Examples, np.ndarray]:
    """A few correct and a few wrong answers, and how often source s answers target t, (S, T)."""
    check_classes(model, split)
    model.eval()
    rng = np.random.default_rng(0)
    index = np.sort(rng.permutation(len(split))[:LOOKED_AT])
    some = split.subset(index)
    transform, source = model.input_transform, model.source
    pixels = some.images(transform.image_size)
    logits = in_batches(lambda x: source(transform(x)), pixels, source, batch_size=64)
    answers = in_batches(model, pixels, source, batch_size=64).argmax(1).numpy()
    chosen = choose_examples(some.labels, answers)
    prompted = masks = None
    if not isinstance(transform, Identity):
        prompted = in_batches(transform, pixels[chosen], source).numpy()
    if isinstance(transform, SMM):
        masks = in_batches(transform.mask_of, pixels[chosen], source).numpy()
    carrying = carrying_classes(model, logits[chosen], answers[chosen])
    found = Examples(
        originals=pixels[chosen].numpy(),
        prompted=prompted,
        true=[model.class_names[t] for t in some.labels[chosen]],
        predicted=[model.class_names[t] for t in answers[chosen]],
        source_class=None if carrying is None else [source.class_names[s] for s in carrying],
        masks=masks,
    )
    labels = torch.from_numpy(some.labels)
    votes = counts(logits.argmax(1), labels, model.source.num_classes, len(model.class_names))
    return found, votes.numpy()


def carrying_classes(
    model: Reprogrammed, logits: Float[Tensor, "n source"], answers: Int[np.ndarray, " n"]
) -> list[int] | None:
    """The source class with the largest share of each answer's logit.

    With target logits = z @ W that is the largest z_s W[s, t], the source's logits z measured from
    their mean, so that a constant added to all of them changes nothing; a one-to-one mapping has one
    such s. None where the mapping reads no source classes.
    """
    weight = mapping_weight(model)
    if weight is None:
        return None
    centred = logits - logits.mean(1, keepdim=True)
    columns = torch.from_numpy(weight).to(centred)[:, answers].T  # (n, S)
    shares = (centred * columns).masked_fill(columns == 0, -torch.inf)
    return shares.argmax(1).tolist()
