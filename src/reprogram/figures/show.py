"""Everything about one fitted model in one picture: what ``reprogram show`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Real

from reprogram.errors import InputError
from reprogram.figures.curves import draw_training
from reprogram.figures.mappings import draw_mapping, is_sparse, mapping_size
from reprogram.figures.prompts import Examples, draw_prompt, prompt_size
from reprogram.figures.style import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["show_figure"]


def show_figure(
    *,
    title: str = "",
    examples: Examples | None = None,
    prompt: Real[np.ndarray, "3 H W"] | None = None,
    units: str = "pixel units",
    weight: Real[np.ndarray, "source target"] | None = None,
    source_names: Sequence[str] = (),
    target_names: Sequence[str] = (),
    strength: Real[np.ndarray, "source target"] | None = None,
    history: Sequence[Mapping[str, float]] = (),
    selected_epoch: int | None = None,
    training: str = "training",
) -> Figure:
    """Compose examples with the prompt, the mapping and the training curve beneath each other.

    Each part appears where its data are given; see :func:`prompt_picture`,
    :func:`mapping_picture` and :func:`training_curve` for what they mean; `training` is the title of
    the last.

    Raises:
        InputError: Where there is nothing to show.
    """
    sizes: list[tuple[str, float, float]] = []  # (part, width, height in inches)
    if examples is not None:
        sizes.append(("prompt", *prompt_size(examples, prompt is not None)))
    if weight is not None:
        sizes.append(("mapping", *mapping_size(weight)))
    if history:
        sizes.append(("training", 6.0, 3.6))
    if not sizes:
        raise InputError("nothing to show: give examples, a mapping or a history.")
    ribbons = ""
    if weight is not None and strength is not None and is_sparse(weight):
        ribbons = " (wide: many images)"
    width = max(6.4, *(w for _, w, _ in sizes))
    with styled():
        figure = new_figure(width, sum(h for _, _, h in sizes) + (0.35 if title else 0.0))
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        parts = figure.subfigures(
            len(sizes), 1, height_ratios=[h for _, _, h in sizes], squeeze=False, hspace=0.02
        )[:, 0]
        for (part, _, _), place in zip(sizes, parts, strict=True):
            if part == "prompt" and examples is not None:
                draw_prompt(place, examples, prompt=prompt, units=units, title=_chosen(examples))
            elif part == "mapping" and weight is not None:
                draw_mapping(
                    place,
                    weight,
                    source_names,
                    target_names,
                    strength=strength,
                    title="which source classes are read as which target classes" + ribbons,
                )
            else:
                draw_training(place, history, selected_epoch=selected_epoch, title=training)
    return figure


def _chosen(examples: Examples) -> str:
    """How many of the examples are right: they are chosen so, and say nothing of the accuracy."""
    right = sum(t == p for t, p in zip(examples.true, examples.predicted, strict=True))
    wrong = len(examples.true) - right
    return f"what the network sees: {right} correct and {wrong} wrong answers, chosen so"
