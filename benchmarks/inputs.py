"""Sources and images of the measurements; how long a step takes depends on neither's content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reprogram.data import TargetTask
from reprogram.data.images import ArrayStore
from reprogram.data.task import Part
from reprogram.sources import NetworkSource, load_source

__all__ = ["random_task", "resnet18", "shared_or_random"]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def resnet18(canvas: int = 224) -> NetworkSource:
    """ResNet-18 of torchvision with random weights."""
    return _random_source("resnet18", canvas)


def shared_or_random(name: str, canvas: int) -> NetworkSource:
    """The stored source of that name in ../shared; the same network with random weights without it."""
    stored = SHARED / f"{name}-imagenet"
    if stored.is_dir():
        source = load_source(stored, image_size=canvas)
        assert isinstance(source, NetworkSource)
        return source
    return _random_source(name, canvas)


def _random_source(name: str, canvas: int) -> NetworkSource:
    make, head = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = load_source(make(), image_size=canvas, head=head, **IMAGENET)
    assert isinstance(source, NetworkSource)
    return source


def _torchvision(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None).eval()


def _mobilenetv2() -> nn.Module:
    import timm

    return timm.create_model("mobilenetv2_100", pad_type="same").eval()


ARCHITECTURES = {
    "resnet18": (lambda: _torchvision("resnet18"), "fc"),
    "squeezenet1_1": (lambda: _torchvision("squeezenet1_1"), "classifier.1"),
    "mobilenetv2_100": (_mobilenetv2, "classifier"),
}


def random_task(side: int, classes: int, n_train: int, n_val: int = 0) -> TargetTask:
    """Noise with balanced labels, `side` pixels."""

    def part(n: int, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        return Part(ArrayStore(images), np.arange(n) % classes)

    parts = {"train": lambda: part(n_train, 0)}
    if n_val:
        parts["val"] = lambda: part(n_val, 1)
    names = [f"class {t}" for t in range(classes)]
    return TargetTask("noise", names, parts, native_size=side)
