"""One plain loop that trains every method: refit the mapping, train an epoch, validate, keep the best.

State 0 is the untrained prompt with its mapping; state e >= 1 is the prompt after epoch e with the
mapping computed at that epoch's start. Selection on validation runs over states 0 to E, so a method
never ends below its own start by more than selection noise. Test images are looked at once, after it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from reprogram import distributed
from reprogram.checkpoint import load_checkpoint, save_checkpoint
from reprogram.data.batches import Batch, BatchPlan, epoch_batches, in_order
from reprogram.engine import (
    Engine,
    Parts,
    explaining_single_images,
    require_memory,
    uses_batch_statistics,
)
from reprogram.errors import InputError
from reprogram.model import Reprogrammed, trainable
from reprogram.seeds import seed_for
from reprogram.settings import Settings

__all__ = ["Epoch", "Progress", "Run", "Score", "Trace", "score", "train"]

logger = logging.getLogger(__name__)

BEST_VALIDATION = "highest validation accuracy over states 0 to E; ties: lowest validation loss"
LARGEST_LOSS = 1e30
SMALL_CHECKPOINT = 16e6  # bytes; up to here every epoch is kept
CHECKPOINT_RATE = 2.5e6  # bytes a second that larger ones are written at, on average
LAST_EPOCH = "last epoch (no validation images)"


@dataclass(frozen=True)
class Score:
    """How well logits match labels: share correct in [0, 1], mean cross-entropy in nats, images."""

    accuracy: float
    loss: float
    n: int


@dataclass(frozen=True)
class Epoch:
    """One state of a run. Epoch 0 has not been trained, so it has no training loss."""

    epoch: int
    train_loss: float | None
    val: Score | None
    test: Score | None = None


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows after a step."""

    epoch: int
    epochs: int
    images: int
    images_per_epoch: int
    loss: float
    val_accuracy: float | None


@dataclass
class Trace:
    """What happened in a run: every state's scores and which state was kept.

    `refitted` is its score on validation after the last fit of the mapping, where there is one.
    """

    history: list[Epoch] = field(default_factory=list)
    selected_epoch: int = 0
    selection_rule: str = BEST_VALIDATION
    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    refitted: Score | None = None

    @property
    def val_accuracy(self) -> float | None:
        """Of what is kept: the selected state, or what a refit of its mapping made of it."""
        val = self.refitted or self.history[self.selected_epoch].val
        return val.accuracy if val else None

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.images else None

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Trace:
        def as_score(v: dict | None) -> Score | None:
            return Score(**v) if v else None

        history = [
            Epoch(h["epoch"], h["train_loss"], as_score(h["val"]), as_score(h["test"]))
            for h in values["history"]
        ]
        refitted = as_score(values.get("refitted"))
        return cls(**(values | {"history": history, "refitted": refitted}))


def train(
    model: Reprogrammed,
    engine: Engine,
    labels: dict[str, Tensor],
    plan: BatchPlan,
    val_index: Int[Tensor, " v"],
    settings: Settings,
    *,
    val_split: str = "train",
    track_test: bool = False,
    checkpoint: Path | None = None,
    identity: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Trace:
    """Train `model` in place and leave it in the selected state.

    Args:
        model: What to train; its device is where it computes.
        engine: Answers the model's outputs for a batch.
        labels: Class indices of each split by name.
        plan: Which training images, in which batches.
        val_index: Validation images, as positions in `val_split`; empty selects the last epoch.
        settings: Epochs, optimizer, rates, schedule, loss.
        val_split: Split that validation images belong to.
        track_test: Also score the test split after every epoch; it never takes part in selection.
        checkpoint: File that finished epochs are written to, and that a run resumes from: each one
            up to 16 MB, of larger ones the latest in a while.
        identity: What the checkpoint must belong to; one of another run is refused.
        on_progress: Called after every optimiser step.
        on_epoch: Called with every finished state.

    Returns:
        The trace of the run.
    """
    run = Run(
        model, engine, labels, plan, val_index, settings, val_split=val_split,
        track_test=track_test, checkpoint=checkpoint, identity=identity,
        on_progress=on_progress, on_epoch=on_epoch,
    )  # fmt: skip
    require_memory(model, engine, distributed.shard(run.largest_batch))
    for batch in run.batches():
        run.step(batch)
    return run.trace


class Run:
    """One run and its state; takes what :func:`train` takes.

    :meth:`batches` is the loop. It leaves the steps to who drives it, so that several runs can
    take theirs at once.
    """

    def __init__(
        self, model: Reprogrammed, engine: Engine, labels: dict[str, Tensor], plan: BatchPlan,
        val_index: Int[Tensor, " v"], settings: Settings, *, val_split: str = "train",
        track_test: bool = False, checkpoint: Path | None = None, identity: str = "",
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_epoch: Callable[[Epoch], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.model, self.engine, self.labels, self.plan = model, engine, labels, plan
        self.val_index, self.val_split, self.track_test = val_index, val_split, track_test
        self.settings, self.checkpoint, self.identity = settings, checkpoint, identity
        self.on_progress, self.on_epoch = on_progress, on_epoch
        self.params = list(trainable(model).values())
        self.parts = Parts()
        steps_per_epoch = math.ceil(len(plan.index) / plan.batch_size)
        self.total_steps, self.epochs = settings.epochs * steps_per_epoch, settings.epochs
        if settings.steps is not None:
            self.total_steps = settings.steps
            self.epochs = math.ceil(settings.steps / max(steps_per_epoch, 1))
        if not self.params:  # only a mapping that was fitted: state 0 is all there is
            self.total_steps = self.epochs = 0
        self.optimizer = make_optimizer(model, settings) if self.params else None
        self.trace = Trace(selection_rule=BEST_VALIDATION if len(val_index) else LAST_EPOCH)
        self.best: dict[str, Tensor] = {}
        self.loss = math.nan
        self.next_save = 0.0

    @property
    def largest_batch(self) -> Batch:
        """As many training images as a step ever sees."""
        return Batch("train", self.plan.index[: self.plan.batch_size])

    def batches(self) -> Generator[Batch, None, None]:
        """The run from its start or checkpoint to its end, but for the step on each batch."""
        if self.checkpoint is not None:
            self.restore(self.checkpoint)
        if not self.trace.history:
            self.refit_mapping(0)
            self.on_epoch(self.close_epoch(0, None))
        for epoch in range(len(self.trace.history), self.epochs + 1):
            started = time.perf_counter()
            self.refit_mapping(epoch)
            loss = yield from self.train_epoch(epoch)
            self.trace.seconds += time.perf_counter() - started
            self.on_epoch(self.close_epoch(epoch, loss))
            due = time.monotonic() >= self.next_save
            if self.checkpoint is not None and due and distributed.is_main():
                self.save(self.checkpoint)
        self.model.load_own_tensors(self.best)
        if self.settings.final_refit:
            self.fit_mapping()
            if len(self.val_index):
                self.trace.refitted = self._score(self.val_split, self.val_index)
        self.model.eval()

    def refit_mapping(self, epoch: int) -> None:
        """Fit the mapping where it is refitted before this epoch."""
        mapping = self.model.mapping
        # At epoch 1 the prompt is still the one that state 0's mapping was fitted with.
        if (epoch == 0 and mapping.refit != "never") or (epoch > 1 and mapping.refit == "epoch"):
            self.fit_mapping()

    def fit_mapping(self) -> None:
        """Fit a gradient-free mapping on the un-augmented training images, prompt in eval mode."""
        outputs = self.predict("train", self.plan.index)
        self.model.mapping.fit(outputs, self.labels["train"][self.plan.index].to(outputs.device))

    def train_epoch(self, epoch: int) -> Generator[Batch, None, float]:
        """One pass over the training images; returns the mean training loss."""
        self.model.train()
        total, seen = 0.0, 0
        last_val = self.trace.history[-1].val
        with torch.random.fork_rng(devices=[]):
            # Dropout and random patches draw from the global generator.
            torch.manual_seed(seed_for("noise", self.plan.seed, epoch, distributed.rank()))
            for batch in epoch_batches(self.plan, epoch):
                if self.trace.steps == self.total_steps:
                    break
                self._set_rates()
                yield batch  # whoever drives the run takes the step, which leaves its loss
                self.trace.steps += 1
                seen += len(batch.index)
                self.trace.images += len(batch.index)
                total += self.loss * len(batch.index)
                self.on_progress(
                    Progress(
                        epoch,
                        self.epochs,
                        seen,
                        len(self.plan.index),
                        self.loss,
                        last_val.accuracy if last_val else None,
                    )  # fmt: skip
                )
        distributed.share_buffers(self.model)
        return total / seen

    def step(self, batch: Batch) -> None:
        """One optimiser step on a batch."""

        def backward(parts: list[Batch]) -> float:
            return self._backward(parts, len(batch.index))

        splittable = not uses_batch_statistics(self.model)
        with explaining_single_images(len(batch.index), self.plan.batch_size):
            loss = self.parts.run(distributed.shard(batch), backward, splittable)
        self.update(loss)

    def update(self, loss: float) -> None:
        """Change the parameters by their gradients, which belong to this loss."""
        self.loss = distributed.sum_scalar(loss)
        if not math.isfinite(self.loss):
            raise InputError(
                f"the training loss became {self.loss} at lr={self.settings.lr:g}. "
                "Lower the learning rate."
            )
        distributed.sum_gradients(self.params)
        assert self.optimizer is not None
        self.optimizer.step()

    def _backward(self, parts: list[Batch], n: int) -> float:
        """Gradient of the mean loss over a batch of n images, summed over the batch's parts."""
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in parts:
            loss = self.loss_of(self.engine.outputs(self.model, part), part) / n
            loss.backward()
            total += float(loss.detach())
        return total

    def loss_of(self, outputs: Float[Tensor, "batch source"], batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over a batch, from what the mapping reads."""
        logits = self.model.mapping(outputs)
        targets = self.labels[batch.split][batch.index]
        return loss_sum(logits, targets.to(logits.device), self.settings)

    def _set_rates(self) -> None:
        factor = rate_factor(self.settings, self.trace.steps, self.total_steps)
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    @torch.no_grad()
    def predict(self, split: str, index: Tensor) -> Float[Tensor, "n source"]:
        """What the mapping reads, for un-augmented images, in eval mode."""
        self.model.eval()
        batches = in_order(split, index, max(self.plan.batch_size, 256))
        parts = (self.engine.outputs(self.model, distributed.shard(batch)) for batch in batches)
        return torch.cat([distributed.gather_rows(part) for part in parts])

    def close_epoch(self, epoch: int, train_loss: float | None) -> Epoch:
        """Score a state, and keep it where it is the best so far."""
        val = self._score(self.val_split, self.val_index) if len(self.val_index) else None
        test = None
        if self.track_test:
            test = self._score("test", torch.arange(len(self.labels["test"])))
        state = Epoch(epoch, train_loss, val, test)
        best = self.trace.history[self.trace.selected_epoch] if self.trace.history else None
        if best is None or is_better(state, best):
            self.trace.selected_epoch = epoch
            self.best = {k: v.detach().clone() for k, v in self.model.own_tensors().items()}
        self.trace.history.append(state)
        logger.info("epoch %d/%d  %s", epoch, self.epochs, state)
        return state

    def _score(self, split: str, index: Tensor) -> Score:
        outputs = self.predict(split, index)
        with torch.no_grad():
            return score(self.model.mapping(outputs), self.labels[split][index])

    def save(self, path: Path) -> None:
        assert self.optimizer is not None
        save_checkpoint(
            path,
            self.identity,
            self.trace.to_dict(),
            {"model": self.model.own_tensors(), "best": self.best},
            self.optimizer.state_dict(),
        )
        excess = path.stat().st_size - SMALL_CHECKPOINT
        self.next_save = time.monotonic() + max(0.0, excess) / CHECKPOINT_RATE

    def restore(self, path: Path) -> None:
        state = load_checkpoint(path, self.identity)
        if state is None:
            return
        self.trace = Trace.from_dict(state["trace"])
        self.model.load_own_tensors(state["model"])
        self.best = state["best"]
        assert self.optimizer is not None
        self.optimizer.load_state_dict(state["optimizer"])


def score(logits: Float[Tensor, "n target"], labels: Int[Tensor, " n"]) -> Score:
    """Accuracy (share of arg-max hits) and mean cross-entropy in nats."""
    labels = labels.to(logits.device)
    hits = (logits.argmax(1) == labels).sum()
    # A logit of 1e38 makes an infinite loss; JSON has no infinity, and an order is all selection needs.
    loss = F.cross_entropy(logits, labels).nan_to_num(LARGEST_LOSS, posinf=LARGEST_LOSS)
    return Score(float(hits) / len(labels), float(loss), len(labels))


def is_better(state: Epoch, best: Epoch) -> bool:
    """Whether selection prefers `state` to an earlier state; without validation the last one wins."""
    if state.val is None or best.val is None:
        return True
    return (state.val.accuracy, -state.val.loss) > (best.val.accuracy, -best.val.loss)


def loss_sum(
    logits: Float[Tensor, "batch target"], labels: Int[Tensor, " batch"], settings: Settings
) -> Float[Tensor, ""]:
    """The loss summed over a batch; one-hot squared error is averaged over classes, as `F.mse_loss`."""
    if settings.loss == "mse":
        one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return (logits - one_hot).square().mean(1).sum()
    return F.cross_entropy(
        logits, labels, reduction="sum", label_smoothing=settings.label_smoothing
    )


def rate_factor(settings: Settings, step: int, steps: int) -> float:
    """What every base rate is multiplied by at a step, counted from 0."""
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
    if settings.schedule == "multistep":
        # 50% of 200 epochs: the first step of pass 101 is the first with the lower rate.
        return settings.gamma ** sum(step >= m * steps for m in settings.milestones)
    return 1.0


def make_optimizer(model: Reprogrammed, settings: Settings) -> torch.optim.Optimizer:
    """One group a rate: the prompt, SMM's mask network, a linear layer of fc, the mapping."""
    rates = {
        "input_transform.mask.": settings.lr_mask,
        "input_transform.linear.": settings.lr_linear,
        "mapping.": settings.lr_mapping,
        "": None,
    }
    groups: dict[str, list[Tensor]] = {prefix: [] for prefix in rates}
    for name, parameter in trainable(model).items():
        groups[next(prefix for prefix in rates if name.startswith(prefix))].append(parameter)
    options = []
    for prefix, members in groups.items():
        if members:
            rate = settings.lr if rates[prefix] is None else rates[prefix]
            options.append({"params": members, "lr": rate, "base_lr": rate})
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(options, momentum=0.9, weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(options, weight_decay=decay)
