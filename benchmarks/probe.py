"""Rows of probes: the frozen body runs every epoch at the peer, once here."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from benchmarks import ours
from benchmarks.inputs import random_task, resnet18
from benchmarks.peer import Probe
from benchmarks.registry import Measured
from benchmarks.scale import Scale
from benchmarks.timing import cpu_seconds
from reprogram.data import Split
from reprogram.engine import FeatureStore
from reprogram.sources import NetworkSource

__all__ = ["probe", "probe_fractions"]

METHODS = {"linear-probe": "logits", "head-finetune": "features"}
Fractions = tuple[float, ...]
ONE: Fractions = (1.0,)
FRACTIONS: Fractions = (0.2, 0.4, 0.6, 0.8, 1.0)
SIDE = 32


def probe(scale: Scale) -> Measured:
    return _measured(scale, ONE)


def probe_fractions(scale: Scale) -> Measured:
    return _measured(scale, FRACTIONS)


def _measured(scale: Scale, fractions: Fractions) -> Measured:
    seconds = both_sides(scale)
    peer = sum(f * seconds.peer_train + seconds.peer_val for f in fractions) * scale.epochs
    return Measured(peer, seconds.ours[fractions], "CPU s", scale.repetitions)


class Seconds(NamedTuple):
    """CPU seconds of one peer epoch of both probes, and of all epochs of ours by fractions."""

    peer_train: float
    peer_val: float
    ours: dict[Fractions, float]


@cache  # one measurement serves both rows
def both_sides(scale: Scale) -> Seconds:
    """Both sides in turns, the fastest run of each."""
    source = resnet18(scale.canvas)
    task = random_task(SIDE, scale.classes, scale.images, scale.val_images)
    probes = [Probe(source, scale.classes, reads) for reads in METHODS.values()]
    train, val = opened(task.train), opened(task.val)
    runs = []
    for _ in range(scale.repetitions):
        peer_train = sum(cpu_seconds(partial(p.train, *train, scale.batch)) for p in probes)
        peer_val = sum(cpu_seconds(partial(p.validate, *val, scale.batch)) for p in probes)
        own = {f: cpu_seconds(partial(train_ours, source, scale, f)) for f in (ONE, FRACTIONS)}
        runs.append(Seconds(peer_train, peer_val, own))
    return Seconds(
        min(run.peer_train for run in runs),
        min(run.peer_val for run in runs),
        {fractions: min(run.ours[fractions] for run in runs) for fractions in runs[0].ours},
    )


def train_ours(source: NetworkSource, scale: Scale, fractions: Fractions) -> None:
    """Both probes at every fraction, from images that nobody has resized yet."""
    task = random_task(SIDE, scale.classes, scale.images, scale.val_images)
    store = FeatureStore()
    for method in METHODS:
        for fraction in fractions:
            trial = ours.prepare(
                source, task, method, fraction=fraction, store=store,
                batch_size=scale.batch, epochs=scale.epochs,
            )  # fmt: skip
            ours.run(trial)


def opened(split: Split) -> tuple[list[Image.Image], Tensor]:
    """A split as PIL images and labels, as a torchvision data set holds it."""
    images = [split.image(i) for i in range(len(split))]
    return images, torch.from_numpy(split.labels)
