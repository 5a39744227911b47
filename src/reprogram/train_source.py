"""Train a source classifier from scratch: the single-source upstream of the distance experiment."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from reprogram.checkpoint import load_checkpoint, save_checkpoint
from reprogram.data import Split, TargetTask, plan_split
from reprogram.data.augmentation import Augmentation, pad_reflect
from reprogram.errors import InputError
from reprogram.evaluation import in_batches
from reprogram.seeds import generator_for, seed_for
from reprogram.sources import (
    NetworkSource,
    Source,
    create_network,
    find_head,
    training_record,
    write_source_directory,
)
from reprogram.training import score

__all__ = ["Recipe", "evaluate_source", "pixel_statistics", "train_network", "train_source"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a source is trained: SGD with Nesterov momentum under a one-cycle schedule.

    Attributes:
        architecture: A name that :func:`reprogram.sources.create_network` knows.
        epochs: Passes over the training images; the last one is kept, nothing is selected.
        batch_size: Images a step.
        lr: Peak of the one-cycle schedule; it rises linearly over 15% of the steps and falls to 0.
        weight_decay: L2 penalty on every parameter.
        augment: "crop-flip" (4 mirrored pixels, random crop, flip), "crop" or "none".
        precision: "float32" or "bf16" (autocast; weights and their updates stay float32).
        seed: Initialisation, order of the images, augmentation.
    """

    architecture: str = "cifar_resnet20"
    epochs: int = 80
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    augment: str = "crop-flip"
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}.")
        for name, allowed in (
            ("augment", ("crop-flip", "crop", "none")),
            ("precision", ("float32", "bf16")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}."
                )

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            margin=0 if self.augment == "none" else 8, flip=self.augment == "crop-flip"
        )


def train_network(
    network: Callable[[], nn.Module],
    images: UInt8[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    normalise: Callable[[Tensor], Tensor],
    recipe: Recipe,
    checkpoint: Path,
    identity: str = "",
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int, float], None] = lambda *_: None,
) -> nn.Module:
    """Train to the end of the recipe, from `checkpoint` where there is one.

    Args:
        network: Makes the untrained network; called under the recipe's seed.
        images: Training images at the network's input size.
        labels: Class indices.
        normalise: Pixels in [0, 1] to network inputs.
        recipe: Settings.
        checkpoint: File written after every epoch, atomically.
        identity: What the checkpoint must belong to; one of another run is refused.
        device: Where to train.
        on_batch: Called after each step with (epoch, images seen in it, loss), for a progress bar.

    Returns:
        The trained network, in eval mode.

    Raises:
        InputError: The checkpoint belongs to another run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("source-init", recipe.seed))
        model = network().to(device).to(memory_format=torch.channels_last)
    n, augmentation = len(labels), recipe.augmentation
    if augmentation.margin:
        images = pad_reflect(images, augmentation.margin // 2)
    steps = -(-n // recipe.batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    first = _restore(checkpoint, identity, model, optimizer)
    for epoch in range(first, recipe.epochs):
        started, seen, total = time.perf_counter(), 0, torch.zeros(())
        draws = generator_for("source-batches", recipe.seed, epoch)
        order = torch.randperm(n, generator=draws)
        model.train()
        for step, index in enumerate(order.split(recipe.batch_size), start=epoch * steps):
            optimizer.param_groups[0]["lr"] = recipe.lr * one_cycle(step, recipe.epochs * steps)
            batch = augmentation.render(images[index], augmentation.draw(len(index), draws))
            x = normalise(batch.to(device).float().div_(255))
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(
                torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bf16"
            ):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), labels[index].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += len(index)
            total += loss.detach().cpu() * len(index)
            on_batch(epoch, seen, float(loss.detach()))
        save_checkpoint(
            checkpoint,
            identity,
            {"epoch": epoch + 1},
            {"model": model.state_dict()},
            optimizer.state_dict(),
        )
        logger.info(
            "epoch %d/%d  loss %.4f  %.0f images/s",
            epoch + 1, recipe.epochs, total / n, n / (time.perf_counter() - started),
        )  # fmt: skip
    return model.eval()


def one_cycle(step: int, steps: int, warm_up: float = 0.15) -> float:
    """Share of the peak rate at a step: linear up over the warm-up, linear down to 0 at the end."""
    rise = max(1.0, warm_up * steps)
    return min((step + 1) / rise, max(0.0, (steps - step) / (steps - rise + 1)))


def _restore(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Load a checkpoint; returns how many epochs are done (0 where there is none)."""
    state = load_checkpoint(path, identity)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["trace"]["epoch"]


def train_source(
    task: TargetTask,
    out: Path,
    recipe: Recipe,
    *,
    image_size: int | None = None,
    train_pool: int | None = None,
    half: bool = False,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    target: str | None = None,
    command: str = "",
    on_batch: Callable[[int, int, float], None] = lambda *_: None,
) -> dict[str, Any]:
    """Train a source on a target's training images and write a source directory.

    An unfinished run in `out` goes on after its last whole epoch; a finished one is returned.

    Args:
        task: Its classes become the source's; the test split is scored once, at the end.
        out: The source directory.
        recipe: Settings.
        image_size: Side of the source's images, pixels; None is 32.
        train_pool: Stratified number of training images; None takes all.
        half: Store weights in half precision; the reported accuracy is that of the stored weights.
        device: Where to train.
        overwrite: Whether a run of other settings in `out` is replaced.
        target: What loads the target again; None is its name.
        command: What the card says the run was started with.
        on_batch: As for :func:`train_network`.

    Returns:
        What config.json says under "training": target, recipe, accuracy, images, date.
    """
    size = 32 if image_size is None else image_size
    test = task.test  # a set without test images is refused now, not after the training
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file. Give a directory.")
    if size < 8:
        raise InputError(f"image_size must be at least 8 pixels, got {size}.")
    index, _ = plan_split(
        task.train.labels, task.train.groups, fraction=1.0, seed=recipe.seed, val_share=0.0,
        train_pool=train_pool, target_name=task.name,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    index = np.sort(index)
    images = task.train.images(size)[torch.as_tensor(index)]
    labels = torch.as_tensor(task.train.labels[index])
    identity = {"recipe": asdict(recipe), "data": task.fingerprint, "size": size, "n": len(index)}
    if (out / "config.json").exists() and not overwrite:
        return _finished(out, identity | {"half": half})
    checkpoint = out / "checkpoint.pt"
    if overwrite:
        checkpoint.unlink(missing_ok=True)
    mean, std = pixel_statistics(images)
    network = train_network(
        lambda: create_network(recipe.architecture, task.num_classes, {}),
        images, labels, lambda x: (x - mean.to(x.device)) / std.to(x.device), recipe, checkpoint,
        identity=json.dumps(identity, sort_keys=True), device=device, on_batch=on_batch,
    ).cpu()  # fmt: skip
    training = identity | {
        "half": half, "target": target or task.name, "num_train": len(index), "command": command,
        "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
    }  # fmt: skip
    source = _stored(network, task, mean, std, size, half)
    found = evaluate_source(source, test)
    training |= {"test_accuracy": found["accuracy"], "num_test": found["n"]}
    write_source_directory(
        out, source.network, architecture=recipe.architecture, mean=mean, std=std, image_size=size,
        class_names=task.class_names, card=_card(training, source), half=half, training=training,
    )  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    return training


def evaluate_source(source: Source, split: Split, batch_size: int = 256) -> dict[str, Any]:
    """Top-1 accuracy of a source on images whose labels index its own classes.

    Raises:
        InputError: A label is not one of the source's classes.
    """
    if int(split.labels.max()) >= source.num_classes:
        raise InputError(
            f"{split.name} labels go up to {int(split.labels.max())}, source {source.name!r} has "
            f"{source.num_classes} classes. evaluate-source needs the source's own classes; "
            "to solve another task use `reprogram fit`."
        )
    logits = in_batches(source, split.images(source.image_size), source, batch_size)
    found = score(logits, torch.from_numpy(split.labels))
    return asdict(found) | {"split": split.name}


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


def _finished(out: Path, identity: dict[str, Any]) -> dict[str, Any]:
    training = training_record(out)
    if any(training.get(k) != v for k, v in identity.items()):
        raise InputError(
            f"--out {out} holds a source with other settings or data. "
            "Use --overwrite to replace it, or another --out."
        )
    return training


def _card(training: dict[str, Any], source: NetworkSource) -> str:
    recipe = "\n".join(f"| {name} | {value} |" for name, value in training["recipe"].items())
    parameters = sum(p.numel() for p in source.network.parameters())
    return f"""# {training["recipe"]["architecture"]}, trained on {training["target"]}

A source classifier for model reprogramming: {source.num_classes} classes, {source.image_size} px,
{parameters:,} parameters. Trained by `reprogram train-source` on {training["date"]}.

**{100 * training["test_accuracy"]:.2f} %** of the {training["num_test"]:,} test images of
{training["target"]} (top-1; the last epoch, nothing selected on test), trained on
{training["num_train"]:,} images. `reprogram evaluate-source` prints the same figure.

| setting | |
|---|---|
{recipe}

Command: `{training["command"]}`
"""
