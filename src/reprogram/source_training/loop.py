"""The loop that trains a source: its recipe, its epochs, the state that is kept."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from reprogram.checkpoint import load_checkpoint, save_checkpoint
from reprogram.data.augmentation import Augmentation, pad_reflect
from reprogram.engine.splitting import explaining_single_images
from reprogram.errors import InputError
from reprogram.seeds import generator_for, seed_for
from reprogram.sources.depth import DEPTH_NETWORKS
from reprogram.sources.weights import load_tensors

__all__ = ["LabelledImages", "Progress", "Recipe", "one_cycle", "recipe_for", "train_network"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a source is trained; the defaults are SGD with Nesterov momentum under a one-cycle schedule.

    Attributes:
        architecture: A name that :func:`reprogram.sources.create_network` knows.
        epochs: Passes over the training images, at most.
        batch_size: Images a step.
        lr: Peak of the schedule.
        weight_decay: L2 penalty on every parameter.
        augment: "crop-flip" (4 mirrored pixels, random crop, flip), "crop" or "none".
        precision: "float32" or "bf16" (autocast; weights and their updates stay float32).
        seed: Initialisation, order of the images, augmentation, validation images.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adam".
        schedule: "one-cycle" (a linear rise over 15% of the steps, then a fall to 0) or "constant".
        loss: "ce" (cross-entropy) or "mse" (to one-hot labels).
        val_share: Share of the training images that validate; the epoch of the lowest validation
            loss is kept. 0 keeps the last epoch.
        patience: Epochs without a lower validation loss after which training stops; None never.
    """

    architecture: str = "cifar_resnet20"
    epochs: int = 80
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    augment: str = "crop-flip"
    precision: str = "float32"
    seed: int = 0
    optimizer: str = "sgd"
    schedule: str = "one-cycle"
    loss: str = "ce"
    val_share: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}.")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}."
                )
        if self.patience is not None and (self.patience < 1 or not self.val_share):
            raise InputError(
                f"patience={self.patience} must be at least 1 epoch and needs validation images: "
                f"val_share is {self.val_share:g}. Set val_share to 0.1, or leave patience out."
            )

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            margin=0 if self.augment == "none" else 8, flip=self.augment == "crop-flip"
        )


CHOICES: dict[str, tuple[str, ...]] = {
    "augment": ("crop-flip", "crop", "none"),
    "precision": ("float32", "bf16"),
    "optimizer": ("sgd", "adam"),
    "schedule": ("one-cycle", "constant"),
    "loss": ("ce", "mse"),
}

DEPTH_RECIPE: dict[str, Any] = {
    "epochs": 150, "lr": 1e-3, "weight_decay": 1e-3, "augment": "none", "optimizer": "adam",
    "schedule": "constant", "val_share": 0.1, "patience": 3,
}  # fmt: skip
"""The NTK paper's training of its sources; only its validation images are the test set there."""


def recipe_for(architecture: str, **chosen: Any) -> Recipe:
    """The published recipe of an architecture, with those settings that are not None.

    >>> recipe_for("cnn-3", epochs=20).optimizer, recipe_for("cifar_resnet20").epochs
    ('adam', 80)
    """
    published = DEPTH_RECIPE if architecture in DEPTH_NETWORKS else {}
    given = {name: value for name, value in chosen.items() if value is not None}
    return Recipe(architecture, **(published | given))


class LabelledImages(NamedTuple):
    """What a network is trained on: images (uint8) or an extractor's maps, and their classes."""

    inputs: Num[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]


@dataclass
class Progress:
    """How far a training has come, and the best state so far where something validates.

    Attributes:
        epochs: Finished passes.
        selected_epoch: The one that is kept.
        val_loss: Its mean validation loss.
    """

    epochs: int = 0
    selected_epoch: int = 0
    val_loss: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)

    def close_epoch(self, model: nn.Module, val_loss: float | None) -> None:
        """Count an epoch and keep its state where it is the best, or where nothing can tell."""
        self.epochs += 1
        if val_loss is None:
            self.selected_epoch = self.epochs
        elif self.val_loss is None or val_loss < self.val_loss:
            self.selected_epoch, self.val_loss = self.epochs, val_loss
            self.best = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def is_over(self, recipe: Recipe) -> bool:
        waited = self.epochs - self.selected_epoch
        return self.epochs >= recipe.epochs or waited >= (recipe.patience or math.inf)

    def numbers(self) -> dict[str, Any]:
        """JSON values."""
        return {name: value for name, value in vars(self).items() if name != "best"}


def train_network(
    network: Callable[[], nn.Module],
    examples: LabelledImages,
    prepare: Callable[[Tensor], Tensor],
    recipe: Recipe,
    checkpoint: Path,
    identity: str = "",
    validation: LabelledImages | None = None,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int, float], None] = lambda *_: None,
) -> tuple[nn.Module, Progress]:
    """Train to the end of the recipe, from `checkpoint` where there is one.

    Args:
        network: Makes the untrained network; called under the recipe's seed.
        examples: What it learns.
        prepare: Stored examples, as they are and on the device, to network inputs.
        recipe: Settings.
        checkpoint: File written after every epoch, atomically.
        identity: What the checkpoint must belong to; one of another run is refused.
        validation: What selects the epoch; None keeps the last one.
        device: Where to train.
        on_batch: Called after each step with (epoch, images seen in it, loss), for a progress bar.

    Returns:
        The trained network in eval mode, and what was selected.

    Raises:
        InputError: The checkpoint belongs to another run, or the loss is no number any more.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("source-init", recipe.seed))
        model = network().to(device).to(memory_format=torch.channels_last)
    if recipe.augmentation.margin:
        padded = pad_reflect(examples.inputs, recipe.augmentation.margin // 2)
        examples = examples._replace(inputs=padded)
    optimizer = _optimizer(model, recipe)
    progress = _restore(checkpoint, identity, model, optimizer)
    while not progress.is_over(recipe):
        epoch, started = progress.epochs, time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("source-noise", recipe.seed, epoch))  # dropout draws from it
            loss = _train_epoch(
                model, optimizer, examples, prepare, recipe, epoch, device, on_batch
            )
        val_loss = _mean_loss(model, validation, prepare, recipe, device) if validation else None
        progress.close_epoch(model, val_loss)
        save_checkpoint(
            checkpoint, identity, progress.numbers(),
            {"model": model.state_dict(), "best": progress.best}, optimizer.state_dict(),
        )  # fmt: skip
        logger.info(
            "epoch %d/%d  loss %.4f  validation %s  %.0f images/s", epoch + 1, recipe.epochs,
            loss, val_loss, len(examples.labels) / (time.perf_counter() - started),
        )  # fmt: skip
    if progress.best:
        load_tensors(model, progress.best)
    return model.eval(), progress


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: LabelledImages,
    prepare: Callable[[Tensor], Tensor],
    recipe: Recipe,
    epoch: int,
    device: torch.device | str,
    on_batch: Callable[[int, int, float], None],
) -> float:
    """One pass over the examples; returns the mean loss."""
    n, seen, total = len(examples.labels), 0, torch.zeros(())
    steps = -(-n // recipe.batch_size)
    draws = generator_for("source-batches", recipe.seed, epoch)
    order = torch.randperm(n, generator=draws)
    model.train()
    for step, index in enumerate(order.split(recipe.batch_size), start=epoch * steps):
        if recipe.schedule == "one-cycle":
            rate = one_cycle(step, recipe.epochs * steps)
            optimizer.param_groups[0]["lr"] = recipe.lr * rate
        batch = examples.inputs[index]
        if not recipe.augmentation.is_identity:
            drawn = recipe.augmentation.draw(len(index), draws)
            batch = recipe.augmentation.render(batch, drawn)
        with explaining_single_images(len(index), recipe.batch_size):
            logits = _logits(model, prepare(batch.to(device)), recipe)
        loss = _loss(logits, examples.labels[index].to(device), recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen += len(index)
        total += loss.detach().cpu() * len(index)
        on_batch(epoch, seen, float(loss.detach()))
    if not total.isfinite():
        raise InputError(
            f"the training loss became {float(total)} at lr={recipe.lr:g}. Lower the learning rate."
        )
    return float(total) / n


@torch.no_grad()
def _mean_loss(
    model: nn.Module,
    examples: LabelledImages,
    prepare: Callable[[Tensor], Tensor],
    recipe: Recipe,
    device: torch.device | str,
) -> float:
    """Mean loss of un-augmented examples, in eval mode."""
    model.eval()
    total = 0.0
    for inputs, labels in zip(*(t.split(256) for t in examples), strict=True):
        logits = _logits(model, prepare(inputs.to(device)), recipe)
        total += float(_loss(logits, labels.to(device), recipe)) * len(labels)
    return total / len(examples.labels)


def _logits(model: nn.Module, x: Tensor, recipe: Recipe) -> Float[Tensor, "batch classes"]:
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(x)
    return logits.float()


def _loss(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], recipe: Recipe
) -> Float[Tensor, ""]:
    if recipe.loss == "mse":
        return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))
    return F.cross_entropy(logits, labels)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    rate, decay = recipe.lr, recipe.weight_decay
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), rate, weight_decay=decay)
    return torch.optim.SGD(
        model.parameters(), rate, momentum=0.9, weight_decay=decay, nesterov=True
    )


def one_cycle(step: int, steps: int, warm_up: float = 0.15) -> float:
    """Share of the peak rate at a step: linear up over the warm-up, linear down to 0 at the end."""
    rise = max(1.0, warm_up * steps)
    return min((step + 1) / rise, max(0.0, (steps - step) / (steps - rise + 1)))


def _restore(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Load a checkpoint; a new start where there is none."""
    state = load_checkpoint(path, identity)
    if state is None:
        return Progress()
    load_tensors(model, state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["trace"], best=state["best"])
