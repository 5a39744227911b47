"""A target with noise: what :class:`Noise` names, done to the splits that it touches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from reprogram.data.noise.kinds import NOISES, ImageNoise, LabelNoise
from reprogram.data.noise.labels import redrawn
from reprogram.data.noise.spec import Noise
from reprogram.data.noise.store import NoisyStore
from reprogram.data.roots import cache_dir
from reprogram.data.task import Part, TargetTask
from reprogram.seeds import seed_for

__all__ = ["noise_note", "noisy"]


def noisy(
    task: TargetTask, noise: Noise, *, cache: Path | None = None, max_memory: int | None = None
) -> TargetTask:
    """The target with a noise; it keeps its name, so that trials use the same images.

    Images are corrupted as uint8 in their own resolution, before any resize. Splits that the noise
    does not touch keep their fingerprints. Training labels are changed before the split into
    training and validation images, which is then stratified by what the labels say.

    Args:
        task: A clean target.
        noise: What is done; CLEAN returns the task itself.
        cache: The noisy images go to its folder `noise`; the user cache by default.
        max_memory: Bytes above which a split's noisy images are not kept in a file but made when
            they are read; the task's own limit by default.

    Raises:
        InputError: The noise needs an extra that is not installed.
    """
    if not noise:
        return task
    kind = NOISES[noise.kind]
    if isinstance(kind, ImageNoise):
        kind.version()  # says now what is missing, not in the middle of a run
    folder = (cache or cache_dir()) / "noise"
    limit = task.max_memory if max_memory is None else max_memory
    touched = [name for name in task.split_names if noise.touches(name)]
    return task.replacing(
        {name: partial(_part, task, noise, name, folder, limit) for name in touched}
    )


def _part(task: TargetTask, noise: Noise, split: str, folder: Path, max_memory: int) -> Part:
    clean, kind = task.part(split), NOISES[noise.kind]
    draw = (task.name, noise.kind, noise.severity, noise.seed, split)
    if isinstance(kind, LabelNoise):
        shared = np.random.default_rng(seed_for("noise", *draw[:-1]))  # by all splits
        matrix = kind.matrix(task.num_classes, noise.strength, shared)
        own = np.random.default_rng(seed_for("noise", *draw))
        return clean._replace(labels=redrawn(clean.labels, matrix, own))
    store = NoisyStore(clean.store, kind, noise.strength, draw, folder, max_memory)
    return clean._replace(store=store)


def noise_note(task: TargetTask, noise: Noise) -> str:
    """What a reader of the results must know beside the noise's name; "" where there is nothing."""
    kind = NOISES.get(noise.kind)
    if not isinstance(kind, ImageNoise) or kind.min_side == 1:
        return ""
    split = task.split("test" if noise.on == "test" else "train")
    shorter = min(min(split.image(i).size) for i in range(min(8, len(split))))
    if shorter >= kind.min_side:
        return ""
    return f"images of {shorter} px enlarged to {kind.min_side} px before {noise.kind}"
