"""How cost grows: time with images, classes and prompts in one batch, memory with batch size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import memory, ours, prompts
from benchmarks.inputs import random_task, resnet18
from benchmarks.peer import Loop, PaddingPrompt, frequency_mapping
from benchmarks.scale import Scale
from benchmarks.several import round_seconds
from benchmarks.timing import cpu_seconds
from reprogram.output_mappings import FrequencyMapping

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "measure_growth"]

IMAGES, BATCHES = (32, 64, 128, 256), (16, 32, 64, 128)
CLASSES, SOURCE_CLASSES, PREDICTIONS = (10, 43, 100, 345, 1000), 1000, 10_000
PROMPTS, IMAGES_A_PROMPT = (1, 2, 4, 8), 8
SIDE, ROUNDS = 32, 3

Points = dict[str, list[float]]


def measure_growth(scale: Scale) -> dict[str, Any]:
    """The four curves, each {"x": [...], "peer": [...], "reprogram": [...]}; the best of two runs."""
    share = 1 if scale.batch >= 128 else 16  # --quick
    return {
        "images": curve([n // share for n in IMAGES], lambda n: epoch(n, scale), runs=1),
        "classes": curve(CLASSES, mapping),
        "prompts": curve(PROMPTS, lambda k: together(k, scale)),
        "memory": curve(
            [b // share for b in BATCHES],
            lambda b: (memory.peak_of("peer", b), memory.peak_of("ours", b)),
            runs=1,
        ),
    }


def curve(xs: Any, both: Callable[[int], tuple[float, float]], runs: int = 2) -> Points:
    """Both sides at every x."""
    points: Points = {"x": list(xs), "peer": [], "reprogram": []}
    for x in xs:
        peer, own = zip(*(both(x) for _ in range(runs)), strict=True)
        points["peer"].append(min(peer))
        points["reprogram"].append(min(own))
    return points


def epoch(n: int, scale: Scale) -> tuple[float, float]:
    """CPU seconds of a training epoch over n images in batches of 32."""
    batch = min(32, n)
    source, task = resnet18(scale.canvas), random_task(SIDE, min(10, n), n)
    trial = ours.prepare(source, task, "pad+rlm", size=SIDE, batch_size=batch, epochs=1)
    loop = Loop(source, PaddingPrompt(source, SIDE), task.num_classes)
    x, labels = prompts.batch_of(task.train, SIDE)

    def peer() -> None:
        for part, y in zip(x.split(batch), labels.split(batch), strict=True):
            loop.step(part, y)

    return cpu_seconds(peer), cpu_seconds(lambda: ours.run(trial))


def mapping(classes: int) -> tuple[float, float]:
    """CPU seconds of a frequency mapping from 10,000 logits of 1,000 source classes."""
    outputs = torch.rand(PREDICTIONS, SOURCE_CLASSES)
    labels = torch.arange(PREDICTIONS) % classes
    own = FrequencyMapping(SOURCE_CLASSES, classes)
    return (
        cpu_seconds(lambda: frequency_mapping(outputs, labels, classes)),
        cpu_seconds(lambda: own.fit(outputs, labels)),
    )


def together(k: int, scale: Scale) -> tuple[float, float]:
    """CPU seconds of a step of k prompts with 8 images each: one after another, and in one batch.

    Both sides are the library's on the folded source, so that only the batch differs.
    """
    source, task = resnet18(scale.canvas), random_task(SIDE, IMAGES_A_PROMPT, IMAGES_A_PROMPT)
    trials = [
        ours.prepare(
            source, task, "pad+rlm", size=SIDE, engine="folded", batch_size=IMAGES_A_PROMPT,
            epochs=ROUNDS,
        )
        for _ in range(2 * k)
    ]  # fmt: skip
    one_by_one = sum(min(round_seconds([trial])) for trial in trials[:k])
    return one_by_one, min(round_seconds(trials[k:]))


PANELS = {
    "images": ("A training epoch", "training images", "CPU s", ("ILM-VP's loop", "reprogram")),
    "classes": (
        "A mapping of 10,000 images", "target classes", "CPU s", ("one-hot", "bincount"),
    ),
    "prompts": (
        "A step of several prompts", "prompts, 8 images each", "CPU s",
        ("one after another", "in one batch"),
    ),
    "memory": ("Memory of a step", "images a batch", "peak MiB", ("ILM-VP's loop", "reprogram")),
}  # fmt: skip


def draw(curves: dict[str, Any]) -> Figure:
    """Four panels with both axes logarithmic: a line of slope one grows in proportion."""
    from reprogram.figures.style import new_figure, styled

    with styled():
        figure = new_figure(8.0, 6.0)
        for axes, (name, panel) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
            draw_panel(axes, curves[name], *panel)
    return figure


def draw_panel(
    axes: Axes, points: Points, title: str, x: str, y: str, sides: tuple[str, str]
) -> None:
    """The curves of both sides."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    from reprogram.figures.style import BLUE, VERMILLION

    peer, own = sides
    axes.plot(points["x"], points["peer"], "s--", color=VERMILLION, label=peer)
    axes.plot(points["x"], points["reprogram"], "o-", color=BLUE, label=own)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xticks(points["x"], [f"{value:,}" for value in points["x"]])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.legend(frameon=False)
