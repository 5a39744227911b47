"""Cases as data: a tiny source and tiny targets that every test of the core can afford."""

from __future__ import annotations

import numpy as np
import torch

from reprogram.data import TargetTask
from reprogram.data.images import ArrayStore
from reprogram.data.task import Part
from reprogram.sources import NetworkSource
from reprogram.sources.networks import CifarResNet

SOURCE_CLASSES, TARGET_CLASSES, CANVAS = 12, 3, 16


def tiny_network(seed: int = 0, num_classes: int = SOURCE_CLASSES) -> CifarResNet:
    """A ResNet-8 with random weights and BatchNorm statistics that are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CifarResNet(8, num_classes)
        network.train()
        with torch.no_grad():
            network(torch.randn(32, 3, CANVAS, CANVAS))
    return network.eval()


def tiny_source(seed: int = 0, num_classes: int = SOURCE_CLASSES) -> NetworkSource:
    return NetworkSource(
        tiny_network(seed, num_classes),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3),
        image_size=CANVAS,
        class_names=[f"source_{i}" for i in range(num_classes)],
        name="tiny",
        head="linear",
    )


def tiny_part(n: int, seed: int, num_classes: int = TARGET_CLASSES, side: int = 8) -> Part:
    """Images whose brightest colour channel is their class: easy, but not for a constant."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % num_classes
    images = rng.integers(0, 120, (n, side, side, 3), dtype=np.uint8)
    images[np.arange(n), :, :, labels % 3] += 100
    return Part(ArrayStore(images), labels.astype(np.int64))


def tiny_task(n_train: int = 60, n_test: int = 30, val: bool = False) -> TargetTask:
    parts = {"train": lambda: tiny_part(n_train, 0), "test": lambda: tiny_part(n_test, 1)}
    if val:
        parts["val"] = lambda: tiny_part(15, 2)
    return TargetTask("tiny", [f"colour_{i}" for i in range(TARGET_CLASSES)], parts)
