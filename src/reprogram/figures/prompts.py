"""A prompt as the network sees it: original, prompted image, mask, and the prompt by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, Real, UInt8

from reprogram.figures.style import GREEN, MUTED, VERMILLION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["Examples", "choose_examples", "draw_prompt", "prompt_picture"]
__all__ += ["prompt_size", "shorten"]


@dataclass(frozen=True)
class Examples:
    """A few images on their way through a reprogrammed model.

    Attributes:
        originals: Target images, 0 to 255.
        prompted: What the source receives, pixel units; values outside [0, 1] are shown clipped.
            None where that is the resized image and nothing else.
        true: Name of each image's target class.
        predicted: Name of the target class that the model answers.
        source_class: Name of the source class that the answer rests on most; None where the mapping
            reads no source classes.
        masks: The masks of SMM, whose range is not bounded, or None.
    """

    originals: UInt8[np.ndarray, "n 3 s s"]
    prompted: Real[np.ndarray, "n 3 H W"] | None
    true: Sequence[str]
    predicted: Sequence[str]
    source_class: Sequence[str] | None = None
    masks: Real[np.ndarray, "n c H W"] | None = None


def choose_examples(
    true: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], correct: int = 4, wrong: int = 2
) -> Int[np.ndarray, " m"]:
    """Indices of the first correct and the first wrong answers, spread over the classes.

    >>> choose_examples(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), correct=2, wrong=1)
    array([0, 2, 3])
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    chosen: list[int] = []
    for hit, count in ((True, correct), (False, wrong)):
        candidates = np.flatnonzero((true == predicted) == hit)
        labels = true[candidates]
        # turn[i]: how many earlier candidates share the class of candidate i
        turn = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)], dtype=int)
        chosen += candidates[np.lexsort((candidates, labels, turn))][:count].tolist()
    return np.array(chosen, dtype=int)


def prompt_picture(
    examples: Examples,
    *,
    prompt: Real[np.ndarray, "3 H W"] | None = None,
    units: str = "pixel units",
    title: str = "",
) -> Figure:
    """Draw originals, prompted images and masks in columns, beside the prompt with its colour bar.

    Args:
        examples: The images, correct ones first.
        prompt: The prompt alone in its own units, NaN where it does not act; None where a method
            has none.
        units: What the numbers of the prompt mean, for the colour bar.
        title: Above the picture.
    """
    with styled():
        figure = new_figure(*prompt_size(examples, prompt is not None))
        draw_prompt(figure, examples, prompt=prompt, units=units, title=title)
    return figure


def prompt_size(examples: Examples, has_prompt: bool) -> tuple[float, float]:
    """Inches that the picture needs, width and height."""
    rows = len(_rows(examples))
    columns = len(examples.true) + (_prompt_columns(examples) if has_prompt else 0.0)
    return max(4.5, 1.2 * columns + 0.6), 1.16 * rows + 0.95


def _rows(examples: Examples) -> dict[str, Real[np.ndarray, "n c _ _"]]:
    """What stands beneath each other, by name."""
    more = {"prompted": examples.prompted, "mask": examples.masks}
    there = {name: images for name, images in more.items() if images is not None}
    return {"original": examples.originals} | there


def _prompt_columns(examples: Examples) -> float:
    """Width of the prompt alone in example columns, so that it is as high as they are."""
    return 2.0 if examples.masks is None else 2.9


def draw_prompt(
    figure: Figure | SubFigure,
    examples: Examples,
    *,
    prompt: Real[np.ndarray, "3 H W"] | None = None,
    units: str = "pixel units",
    title: str = "",
) -> None:
    """The prompt picture inside a figure or a part of one."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    if prompt is None:
        _draw_examples(figure, examples)
        return
    left, right = figure.subfigures(
        1, 2, squeeze=False, width_ratios=[_prompt_columns(examples), max(1, len(examples.true))]
    )[0]
    _draw_prompt_alone(left, np.asarray(prompt, dtype=float), units)
    _draw_examples(right, examples)


def _draw_prompt_alone(
    figure: Figure | SubFigure, prompt: Real[np.ndarray, "3 H W"], units: str
) -> None:
    """The prompt as one RGB picture; the bar says which value a channel's black and white are."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    finite = prompt[np.isfinite(prompt)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    else:  # zero, where the prompt changes nothing, is mid-grey
        high = max(abs(low), abs(high))
        low = -high
    shown = np.clip((prompt - low) / (high - low), 0.0, 1.0)
    acts = np.isfinite(prompt).all(axis=0).astype(float)
    picture = np.concatenate([np.nan_to_num(shown), acts[None]])  # (4, H, W): RGB and alpha
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
    _bare(axes)
    axes.set_title("the prompt alone", fontsize=9, fontweight="normal", loc="center")
    bar = figure.colorbar(
        ScalarMappable(Normalize(low, high), cmap="gray"),
        ax=axes,
        orientation="horizontal",
        fraction=0.06,
        pad=0.03,
    )
    bar.set_label(f"each channel, {units}", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)


def _draw_examples(figure: Figure | SubFigure, examples: Examples) -> None:
    """One column an image: original, prompted, mask; source class -> target class beneath."""
    count, rows = len(examples.true), _rows(examples)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for row, (name, images) in zip(grid, rows.items(), strict=True):
        if name == "mask":
            _draw_masks(figure, row, np.asarray(images, float).mean(axis=1))
        else:
            _draw_images(row, np.asarray(images))
        row[0].set_ylabel(name, fontsize=8.5)
    for axes in grid.flat:
        _bare(axes)
    for column in range(count):
        _caption(grid, column, examples)


def _draw_images(row: np.ndarray, images: Real[np.ndarray, "n 3 h w"]) -> None:
    """Bytes, or pixel units clipped to [0, 1]."""
    pixels = images if images.dtype == np.uint8 else np.clip(images.astype(float), 0.0, 1.0)
    for axes, image in zip(row, pixels.transpose(0, 2, 3, 1), strict=True):
        axes.imshow(image, interpolation="nearest")


def _draw_masks(
    figure: Figure | SubFigure, row: np.ndarray, masks: Real[np.ndarray, "n H W"]
) -> None:
    """Masks on one scale that clips none, with its bar."""
    low, high = min(0.0, masks.min()), max(1.0, masks.max())
    for axes, mask in zip(row, masks, strict=True):
        shown = axes.imshow(mask, cmap="cividis", vmin=low, vmax=high)
    bar = figure.colorbar(shown, ax=list(row), fraction=0.05, pad=0.01, aspect=12)
    bar.set_label("mask, channel mean", fontsize=7.5)
    bar.ax.tick_params(labelsize=7)


def _caption(grid: np.ndarray, column: int, examples: Examples) -> None:
    """Beneath a column what the model answered, above it whether that is right."""
    true, predicted = examples.true[column], examples.predicted[column]
    correct = true == predicted
    arrow = f"→ {shorten(predicted, 15)}"
    if examples.source_class is not None:
        arrow = f"{shorten(examples.source_class[column], 17)}\n{arrow}"
    if not correct:
        arrow += f"\n(is {shorten(true, 14)})"
    for axes in grid[:, column]:
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(GREEN if correct else VERMILLION)
            spine.set_linewidth(1.2)
            spine.set_linestyle("-" if correct else (0, (2, 1.5)))
    grid[0, column].set_title(
        "✓ correct" if correct else "✗ wrong",
        fontsize=8,
        fontweight="normal",
        loc="center",
        color=GREEN if correct else VERMILLION,
    )
    grid[-1, column].set_xlabel(arrow, fontsize=7.5)


def _bare(axes: Axes) -> None:
    """No ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(colors=MUTED)


def shorten(name: str, length: int) -> str:
    """A class name cut to ``length`` letters, its first alternative only.

    >>> shorten("tench, Tinca tinca", 12), shorten("German short-haired pointer", 12)
    ('tench', 'German shor…')
    """
    first = str(name).split(",")[0].strip()
    return first if len(first) <= length else first[: length - 1] + "…"
