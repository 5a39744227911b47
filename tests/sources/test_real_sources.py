"""The four directories of ../shared/weights do what their provenance says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reprogram.sources import Source, load_source

pytestmark = pytest.mark.real


@pytest.fixture
def load(shared: Path) -> Callable[[str], Source]:
    def by_name(name: str) -> Source:
        folder = shared / "weights" / name
        if not folder.is_dir():
            pytest.skip(f"no {name} in ../shared/weights")
        return load_source(str(folder))

    return by_name


def accuracy(source: Source, images: np.ndarray, labels: np.ndarray) -> float:
    right = 0
    with torch.no_grad():
        for start in range(0, len(labels), 50):
            x = torch.from_numpy(images[start : start + 50]).permute(0, 3, 1, 2).float() / 255
            right += int((source(x).argmax(1).numpy() == labels[start : start + 50]).sum())
    return right / len(labels)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.fromarray(x).resize((size, size), Image.BILINEAR)) for x in images]
    )


@pytest.mark.parametrize(
    "name, size, classes, features",
    [
        ("resnet20-cifar10", 32, 10, 64),
        ("resnet56-cifar10", 32, 10, 64),
        ("squeezenet1_1-imagenet", 224, 1000, 512),
        ("mobilenetv2_100-imagenet", 224, 1000, 1280),
    ],
)
def test_directories_load(
    load: Callable[[str], Source], name: str, size: int, classes: int, features: int
) -> None:
    source = load(name)
    assert (source.image_size, source.num_classes, source.num_features) == (size, classes, features)
    assert source.class_names[0] == ("airplane" if classes == 10 else "tench")
    logits, read = source.logits_and_features(torch.rand(1, 3, size, size))
    assert logits.shape == (1, classes) and read.shape == (1, features)


@pytest.mark.parametrize("name", ["resnet20-cifar10", "resnet56-cifar10"])
def test_cifar10_on_a_stratified_subset(
    load: Callable[[str], Source], real_npz: Callable[[str], Path], name: str
) -> None:
    """50 images a class; 91.73% and 93.39% on all, so below 88% is four standard errors away."""
    source = load(name)
    with np.load(real_npz("cifar10"), allow_pickle=False) as data:
        images, labels = data["test_images"], data["test_labels"]
    index = np.concatenate([np.flatnonzero(labels == c)[:50] for c in range(10)])
    assert accuracy(source, images[index], labels[index]) > 0.88


@pytest.mark.slow
@pytest.mark.parametrize("name, right", [("resnet20-cifar10", 9173), ("resnet56-cifar10", 9339)])
def test_cifar10_on_all_test_images(
    load: Callable[[str], Source], real_npz: Callable[[str], Path], name: str, right: int
) -> None:
    source = load(name)
    with np.load(real_npz("cifar10"), allow_pickle=False) as data:
        found = accuracy(source, data["test_images"], data["test_labels"])
    assert round(10_000 * found) == pytest.approx(right, abs=2)  # float32 ties


@pytest.mark.parametrize(
    "name, right", [("squeezenet1_1-imagenet", 129), ("mobilenetv2_100-imagenet", 162)]
)
def test_imagenet_sample(
    load: Callable[[str], Source], real_npz: Callable[[str], Path], name: str, right: int
) -> None:
    """Within 4 of the 200 images of the stated 64.5% and 81%, which name no resize filter.

    With PIL's bilinear filter SqueezeNet gets 132, in plain torchvision as well, not the stated
    129; other filters give 128 to 137. The wrong normalisation (0.5) gives 121.
    """
    source = load(name)
    with np.load(real_npz("imagenet-sample"), allow_pickle=False) as data:
        images, labels = resized(data["test_images"], 224), data["test_labels"]
    assert round(200 * accuracy(source, images, labels)) == pytest.approx(right, abs=4)
