"""Rows of prompts: a training step, an evaluation step, an epoch with exact ILM."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import ours
from benchmarks.inputs import random_task, resnet18, shared_or_random
from benchmarks.peer import FullPrompt, Loop, PaddingPrompt
from benchmarks.registry import Measured
from benchmarks.scale import Scale
from benchmarks.timing import cpu_seconds
from reprogram.data import Split
from reprogram.sources import NetworkSource

__all__ = ["epoch_ilm", "full_step", "padding_evaluation", "padding_step", "source_step"]

# No mapping pass: what is timed is a step.
PADDING, FULL = "pad+rlm", "full+rlm"


def padding_step(image_size: int, scale: Scale) -> Measured:
    return _padding_step(resnet18(scale.canvas), image_size, scale)


def source_step(name: str, scale: Scale) -> Measured:
    """The padding step of another source, with an image of 32 px."""
    return _padding_step(shared_or_random(name, scale.canvas), 32, scale)


def _padding_step(source: NetworkSource, image_size: int, scale: Scale) -> Measured:
    trial = padding_trial(source, image_size, scale)
    loop = Loop(source, PaddingPrompt(source, image_size), scale.classes)
    return _steps(trial, loop, *batch_of(trial.data.splits["train"], image_size))


def padding_trial(source: NetworkSource, image_size: int, scale: Scale) -> ours.Trial:
    """Padding with images of a size; every epoch is one step."""
    task = random_task(image_size, scale.classes, scale.batch)
    return ours.prepare(
        source, task, PADDING, size=image_size, batch_size=scale.batch, epochs=scale.repetitions
    )


def full_step(scale: Scale) -> Measured:
    source = resnet18(scale.canvas)
    task = random_task(scale.canvas, scale.classes, scale.batch)
    trial = ours.prepare(source, task, FULL, batch_size=scale.batch, epochs=scale.repetitions)
    x, labels = batch_of(task.train, scale.canvas)
    loop = Loop(source, FullPrompt(source), scale.classes)
    return _steps(trial, loop, (x - source.mean) / source.std, labels)


def _steps(trial: ours.Trial, loop: Loop, x: Tensor, labels: Tensor) -> Measured:
    peer, step = timed(lambda: loop.step(x, labels))
    seconds = ours.step_seconds(trial, step)
    return Measured(min(peer), min(seconds), "CPU s", len(seconds))


def padding_evaluation(image_size: int, scale: Scale) -> Measured:
    source = resnet18(scale.canvas)
    trial = padding_trial(source, image_size, scale)
    x, labels = batch_of(trial.data.splits["train"], image_size)
    loop = Loop(source, PaddingPrompt(source, image_size), scale.classes)
    peer, own = [], []
    for _ in range(scale.repetitions):
        peer.append(cpu_seconds(lambda: loop.hits(x, labels)))
        ours.change_prompt(trial)
        own.append(cpu_seconds(lambda: int(ours.logits(trial).argmax(1).eq(labels).sum())))
    return Measured(min(peer), min(own), "CPU s", scale.repetitions)


def epoch_ilm(scale: Scale) -> Measured:
    source, side = resnet18(scale.canvas), 32
    task = random_task(side, scale.classes, scale.images, scale.val_images)
    trial = ours.prepare(
        source, task, "pad+ilm", size=side, batch_size=scale.batch, epochs=scale.repetitions + 1
    )
    loop = Loop(source, PaddingPrompt(source, side), scale.classes)
    train, val = batch_of(task.train, side), batch_of(task.val, side)
    peer, epoch = timed(lambda: loop.epoch(train, val, scale.batch))
    seconds = ours.epoch_seconds(trial, epoch)
    return Measured(min(peer), min(seconds), "CPU s", len(seconds))


def timed(run: Callable[[], object]) -> tuple[list[float], Callable[[], None]]:
    """A list, and a call that runs and appends its CPU seconds there."""
    seconds: list[float] = []
    return seconds, lambda: seconds.append(cpu_seconds(run))


def batch_of(split: Split, size: int) -> tuple[Tensor, Tensor]:
    """All images as floats in [0, 1], with their labels: what the peer finds in memory."""
    return split.images(size).float() / 255, torch.from_numpy(split.labels)
