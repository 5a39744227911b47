"""Train a source classifier from scratch: the single-source upstream of the distance experiment."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from reprogram.checkpoint import load_checkpoint
from reprogram.data import Split, TargetTask
from reprogram.errors import InputError
from reprogram.evaluation import first_names, in_batches
from reprogram.experiments import trial_images, with_test_pool
from reprogram.files import refuse_foreign
from reprogram.source_training.loop import LabelledImages, Recipe, train_network
from reprogram.sources import (
    Extractor,
    NetworkSource,
    OnExtractor,
    Source,
    create_network,
    find_head,
    load_source,
    training_record,
    write_source_directory,
)
from reprogram.sources.architectures import find_architecture
from reprogram.sources.depth import DEPTH_NETWORKS, depth_arguments
from reprogram.training import score

__all__ = ["evaluate_source", "pixel_statistics", "train_source"]

logger = logging.getLogger(__name__)


def train_source(
    task: TargetTask,
    out: Path,
    recipe: Recipe,
    *,
    width: int | None = None,
    extractor: Extractor | None = None,
    image_size: int | None = None,
    train_pool: int | None = None,
    test_pool: int | None = None,
    half: bool = False,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    target: str | None = None,
    command: str = "",
    max_memory: int | None = None,
    on_maps: Callable[[int, int], None] = lambda *_: None,
    on_batch: Callable[[int, int, float], None] = lambda *_: None,
) -> dict[str, Any]:
    """Train a source on a target's training images and write a source directory.

    An unfinished run in `out` goes on after its last whole epoch; a finished one is returned.

    Args:
        task: Its classes become the source's; the test split is scored once, at the end.
        out: The source directory.
        recipe: Settings.
        width: Of a depth network; None is the paper's.
        extractor: What the network stands on instead of pixels. It is frozen, so its maps of the
            training images are made once and kept in memory.
        image_size: Side of the source's images, pixels; None is 32, or the extractor's.
        train_pool: Stratified number of training images, validation included; None takes all.
        test_pool: Stratified number of test images that score it, the same for every seed; None
            takes all.
        half: Store weights in half precision; the reported accuracy is that of the stored weights.
        device: Where to train.
        overwrite: Whether a run of other settings in `out` is replaced.
        target: What loads the target again; None is its name.
        command: What the card says the run was started with.
        max_memory: Bytes that the maps may take; None allows all.
        on_maps: Called with (images done, images in all) while an extractor makes maps.
        on_batch: As for :func:`train_network`.

    Returns:
        What config.json says under "training": target, recipe, accuracy, images, date.
    """
    size = image_size or (extractor.image_size if extractor else 32)
    # A set without test images is refused now, not after the training.
    test = with_test_pool(task, test_pool).test
    refuse_foreign(out, ("config.json", "checkpoint.pt"), "training of a source")
    if size < 8:
        raise InputError(f"image_size must be at least 8 pixels, got {size}.")
    model_args = _model_args(recipe, width, size, extractor)
    index, val_split, val_index = trial_images(task, 1.0, recipe.seed, recipe.val_share, train_pool)
    out.mkdir(parents=True, exist_ok=True)
    identity: dict[str, Any] = {
        "recipe": asdict(recipe), "data": task.fingerprint, "size": size, "n": len(index),
    }  # fmt: skip
    if model_args:
        identity |= {"model_args": model_args}
    if extractor is not None:
        identity |= {"extractor": extractor.fingerprint}
    checkpoint, known = out / "checkpoint.pt", json.dumps(identity, sort_keys=True)
    stale = False
    try:
        if (out / "config.json").exists():
            return _finished(out, identity | {"half": half}, test)
        if overwrite:
            load_checkpoint(checkpoint, known)
    except InputError:
        if not overwrite:
            raise
        stale = True
    splits = task.train.subset(index), task.split(val_split).subset(val_index)
    if extractor is None:
        data = _of_pixels(*splits, size)
    else:
        _check_maps(extractor, len(index) + len(val_index), max_memory)
        data = _of_maps(*splits, extractor, device, on_maps)
    if stale:  # nothing is refused any more; what is interrupted from here on is taken up again
        for name in ("config.json", "checkpoint.pt", "model.safetensors", "README.md"):
            (out / name).unlink(missing_ok=True)
    network, progress = train_network(
        lambda: create_network(recipe.architecture, task.num_classes, model_args),
        data.train, data.prepare, recipe, checkpoint, known,
        validation=data.val if len(val_index) else None, device=device, on_batch=on_batch,
    )  # fmt: skip
    network = network.cpu()
    if extractor is not None:
        network = OnExtractor(extractor.to("cpu").network, network)
    training = identity | {
        "half": half, "target": target or task.name, "num_train": len(index),
        "num_val": len(val_index), "selection": progress.numbers(), "command": command,
        "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
    }  # fmt: skip
    source = _stored(network, task, data.mean, data.std, size, half)
    found = evaluate_source(source, test)
    training |= {"test_accuracy": found["accuracy"], "num_test": found["n"]}
    write_source_directory(
        out, source, architecture=recipe.architecture, model_args=model_args, half=half,
        training=training, card=_card(training, source, extractor),
        extractor=extractor.config if extractor else None,
    )  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    return training


def _model_args(
    recipe: Recipe, width: int | None, size: int, extractor: Extractor | None
) -> dict[str, Any]:
    """The arguments of the trained network: those of a depth network, {} for any other."""
    if recipe.architecture not in DEPTH_NETWORKS:
        find_architecture(recipe.architecture)  # an unknown one is told first
        for name, value in (("width", width), ("extractor", extractor)):
            if value is not None:
                raise InputError(
                    f"architecture {recipe.architecture!r} takes no {name}. Choose a depth "
                    "network, such as cnn-3."
                )
        return {}
    channels, side = (3, size) if extractor is None else extractor.map_shape
    if extractor is not None and recipe.augment != "none":
        raise InputError(
            f"augment={recipe.augment} would need an extractor's maps anew at every step. "
            "Set augment to none."
        )
    return depth_arguments(recipe.architecture, width, side, channels)


@dataclass(frozen=True)
class _Data:
    """Training and validation examples, and how they become network inputs."""

    train: LabelledImages
    val: LabelledImages
    prepare: Callable[[Tensor], Tensor]
    mean: Float[Tensor, "3 1 1"]
    std: Float[Tensor, "3 1 1"]


def _of_pixels(train: Split, val: Split, size: int) -> _Data:
    """Images normalised by the training images' own statistics."""
    pixels = train.images(size)
    mean, std = pixel_statistics(pixels)

    def normalised(x: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return (x.float().div_(255) - mean.to(x.device)) / std.to(x.device)

    return _Data(
        LabelledImages(pixels, torch.as_tensor(train.labels)),
        LabelledImages(val.images(size), torch.as_tensor(val.labels)),
        normalised, mean, std,
    )  # fmt: skip


def _of_maps(
    train: Split,
    val: Split,
    extractor: Extractor,
    device: torch.device | str,
    on_maps: Callable[[int, int], None],
) -> _Data:
    """An extractor's maps, made once."""
    extractor.to(device)
    return _Data(
        _maps(extractor, train, device, on_maps), _maps(extractor, val, device, on_maps),
        Tensor.float, extractor.mean, extractor.std,
    )  # fmt: skip


def _check_maps(extractor: Extractor, n: int, max_memory: int | None) -> None:
    channels, side = extractor.map_shape
    needed = 4 * n * channels * side**2  # float32, so that nothing is rounded
    if max_memory is not None and needed > max_memory:
        raise InputError(
            f"the maps of {n:,} images by {extractor.name} take {needed / 2**30:.1f} GiB, over "
            f"--max-memory {max_memory / 2**30:.1f} GiB. Set --train-pool to at most "
            f"{n * max_memory // needed:,}."
        )


@torch.no_grad()
def _maps(
    extractor: Extractor,
    split: Split,
    device: torch.device | str,
    on_maps: Callable[[int, int], None],
    batch_size: int = 64,
) -> LabelledImages:
    """An extractor's maps of a split, made once."""
    channels, side = extractor.map_shape
    maps = torch.empty(len(split), channels, side, side)
    if len(split):
        pixels = split.images(extractor.image_size)
        for start in range(0, len(split), batch_size):
            part = slice(start, start + batch_size)
            maps[part] = extractor(pixels[part].to(device).float().div_(255)).cpu()
            on_maps(min(start + batch_size, len(split)), len(split))
    return LabelledImages(maps, torch.as_tensor(split.labels))


def evaluate_source(source: Source, split: Split, batch_size: int = 256) -> dict[str, Any]:
    """Top-1 accuracy of a source on images of its own classes, among all of its classes.

    Classes are matched by name where the source has all of the split's names, otherwise by order,
    with a warning.

    Raises:
        InputError: A label is not one of the source's classes.
    """
    labels = _source_labels(source, split)
    if int(labels.max()) >= source.num_classes:
        raise InputError(
            f"{split.name} labels go up to {int(labels.max())}, source {source.name!r} has "
            f"{source.num_classes} classes. evaluate-source needs the source's own classes; "
            "to solve another task use `reprogram fit`."
        )
    logits = in_batches(source, split.images(source.image_size), source, batch_size)
    return asdict(score(logits, labels)) | {"split": split.name}


def _source_labels(source: Source, split: Split) -> Int[Tensor, " n"]:
    """The split's labels as classes of the source."""
    labels, names = torch.from_numpy(split.labels), source.class_names
    if split.class_names == names[: len(split.class_names)]:
        return labels
    if len(set(names)) == len(names) and set(split.class_names) <= set(names):
        return torch.tensor([names.index(name) for name in split.class_names])[labels]
    logger.warning(
        "classes have other names (%s; the source: %s) and are matched by their order",
        first_names(split.class_names), first_names(names),
    )  # fmt: skip
    return labels


def pixel_statistics(
    images: UInt8[Tensor, "n 3 h w"],
) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and standard deviation of each channel in [0, 1], rounded to four decimals."""
    counts = torch.stack(
        [torch.bincount(images[:, c].flatten(), minlength=256) for c in range(3)]
    ).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels.square() - mean.square()).sqrt()
    # A channel that never changes would be divided by 0.
    return mean.round(decimals=4).float().view(3, 1, 1), std.clamp(min=1e-3).round(
        decimals=4
    ).float().view(3, 1, 1)


def _stored(
    network: nn.Module, task: TargetTask, mean: Tensor, std: Tensor, size: int, half: bool
) -> NetworkSource:
    """The source as it will be loaded again: rounded to half precision where it is stored so."""
    if half:
        for p in network.parameters():
            p.data = p.data.half().float()
    return NetworkSource(
        network, mean=mean, std=std, image_size=size, class_names=task.class_names,
        name=task.name, head=find_head(network),
    )  # fmt: skip


def _finished(out: Path, identity: dict[str, Any], test: Split) -> dict[str, Any]:
    """The record of the training that `out` holds, scored on the test images asked for."""
    training = training_record(out)
    # A record from before a setting existed means its default.
    recorded = asdict(Recipe()) | training.get("recipe", {})
    if any((training | {"recipe": recorded}).get(k) != v for k, v in identity.items()):
        raise InputError(
            f"--out {out} holds a source with other settings or data. "
            "Use --overwrite to replace it, or another --out."
        )
    if training["num_test"] != len(test):
        found = evaluate_source(load_source(str(out)), test)
        training |= {"test_accuracy": found["accuracy"], "num_test": found["n"]}
    return training


def _card(training: dict[str, Any], source: NetworkSource, extractor: Extractor | None) -> str:
    recipe = "\n".join(f"| {name} | {value} |" for name, value in training["recipe"].items())
    parameters = sum(p.numel() for p in source.network.parameters())
    selection = training["selection"]
    kept = "the last epoch"
    if training["num_val"]:
        kept = (
            f"epoch {selection['selected_epoch']} of {selection['epochs']}, the lowest loss on "
            f"{training['num_val']:,} validation images"
        )
    stands = ""
    if extractor is not None:
        channels, side = extractor.map_shape
        stands = f"It reads the {channels} x {side} x {side} map of the frozen {extractor.name}.\n"
    return f"""# {training["recipe"]["architecture"]}, trained on {training["target"]}

A source classifier for model reprogramming: {source.num_classes} classes, {source.image_size} px,
{parameters:,} parameters. Trained by `reprogram train-source` on {training["date"]}.
{stands}
**{100 * training["test_accuracy"]:.2f} %** of the {training["num_test"]:,} test images of
{training["target"]} (top-1; {kept}, nothing selected on test), trained on
{training["num_train"]:,} images. `reprogram evaluate-source` prints the same figure.

| setting | |
|---|---|
{recipe}

Command: `{training["command"]}`
"""
