"""How the cost of a kernel grows: with images, classes and parameters, against `vmap(jacrev)`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.growth import Points, curve, draw_panel
from benchmarks.ntk import naive
from benchmarks.scale import Scale
from benchmarks.timing import cpu_seconds
from reprogram.analysis.ntk import kernel_of
from reprogram.methods import get_method
from reprogram.model import Reprogrammed
from reprogram.sources import NetworkSource
from reprogram.sources.networks import cifar_resnet20

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "measure_growth"]

IMAGES, CLASSES, FEW = (16, 32, 64, 128, 256), (2, 5, 10, 20, 43), 64
SIDES = (30, 28, 24, 16)  # of a padding prompt in 32 px: the smaller the image, the more parameters
CHUNK = 16  # the peer's best on a processor with caches of a few MiB


def measure_growth(scale: Scale) -> dict[str, Points]:
    """The three curves: CPU seconds of both sides, from the images to the kernel in float64."""
    share = 1 if scale.batch >= 128 else 16  # --quick
    few = FEW // share
    return {
        "images": curve([n // share for n in IMAGES], lambda n: both("full", n, 10), runs=1),
        "classes": curve(CLASSES, lambda k: both("full", few, k), runs=1),
        "parameters": by_parameters(few),
    }


def by_parameters(n: int) -> Points:
    """Padding prompts from a thin border to a wide one."""
    points = curve(SIDES, lambda side: both("pad", n, 10, size=side), runs=1)
    return points | {"x": [3 * (32**2 - side**2) for side in SIDES]}


def both(prompt: str, n: int, classes: int, **changes: Any) -> tuple[float, float]:
    """CPU seconds of the peer and of the library."""
    model, x = case(prompt, n, classes, changes)
    own = cpu_seconds(lambda: kernel_of(model, x))
    gc.collect()
    return cpu_seconds(lambda: naive(model, x, CHUNK)), own


def case(prompt: str, n: int, classes: int, changes: dict[str, Any]) -> tuple[Reprogrammed, Tensor]:
    """A prompt on a ResNet-20 with random weights, and random images of the size that it takes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = cifar_resnet20(classes).eval()
    names = tuple(f"class {t}" for t in range(classes))
    source = NetworkSource(
        network, mean=0.5, std=0.25, image_size=32, name="resnet20", head="linear",
        class_names=list(names),
    )  # fmt: skip
    method = get_method(f"{prompt}+first")
    settings = method.resolve(source, 32, n, method.settings.updated(changes))
    generator = torch.Generator().manual_seed(0)
    model = method.build(source, names, settings, generator).eval()
    side = model.input_transform.image_size
    return model, torch.rand(n, 3, side, side, generator=generator)


SIDES_OF_A_ROW = ("vmap(jacrev)", "reprogram")
PANELS = {
    "images": ("Images, k = 10, P = 3,072", "images"),
    "classes": (f"Classes, n = {FEW}, P = 3,072", "classes"),
    "parameters": (f"Parameters, n = {FEW}, k = 10", "parameters of a padding prompt"),
}


def draw(curves: dict[str, Any]) -> Figure:
    """Three panels with both axes logarithmic: a line of slope one grows in proportion."""
    from reprogram.figures.style import new_figure, styled

    with styled():
        figure = new_figure(9.6, 3.2)
        for axes, (name, (title, x)) in zip(
            figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True
        ):
            draw_panel(axes, curves[name], title, x, "CPU s", SIDES_OF_A_ROW)
    return figure
