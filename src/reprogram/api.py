"""`fit`: the one call that reprograms a source on a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprogram.data import TargetTask, load_target
from reprogram.data.splits import check_fraction
from reprogram.experiments import DEFAULT_MAX_MEMORY, Cell, run_cell, run_in_directory
from reprogram.methods import get_method
from reprogram.model import Reprogrammed
from reprogram.progress import FitProgress
from reprogram.sources import Source, load_source

__all__ = ["fit"]


def fit(
    source: Source | str,
    task: TargetTask | str,
    method: str = "pad+ilm",
    *,
    fraction: float = 1.0,
    seed: int = 0,
    val_share: float = 0.1,
    train_pool: int | None = None,
    track_test: bool = False,
    device: str = "auto",
    max_memory: int = DEFAULT_MAX_MEMORY,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Reprogrammed:
    """Make a source solve a target task; validation picks the epoch.

    Args:
        source: From `load_source`, or what that takes. It is left bitwise as it is.
        task: From `load_target`, or what that takes.
        method: A name in METHODS, with an optional `@variant`.
        fraction: Share of every class's training images, in (0, 1].
        seed: Of the split, the initialisation and the batches.
        val_share: Share of the training images that validation holds; 0 takes the last epoch.
        train_pool: Stratified number of training images to start from.
        track_test: Also record the test accuracy of every epoch; it selects nothing.
        device: "auto" (cuda, else cpu), "cpu", "cuda", "mps".
        max_memory: Bytes that a prompt's training may take; a larger one is refused.
        out: Directory to keep the run in; the same call resumes or returns it.
        overwrite: Whether another run in `out` is replaced.
        progress: Whether to show a bar where stderr is a terminal.
        settings: Changes to the method's published :class:`Settings`, such as `epochs=20`.

    Returns:
        The trained model; `model.record` is the run's row with its test accuracy.

    Raises:
        InputError: Unknown names, settings out of range, or a method that cannot serve the task.
    """
    check_fraction(fraction, "fraction")
    source = source if isinstance(source, Source) else load_source(source)
    task = task if isinstance(task, TargetTask) else load_target(task)
    known = get_method(method)
    chosen = known.settings.updated(settings)
    known.require_steps(chosen.steps)
    cell = Cell(
        source.name, task.name, method, fraction, seed, train_pool, val_share, track_test, chosen
    )
    with FitProgress(method, quiet=not progress) as bar:
        options: dict[str, Any] = {
            "source": source, "task": task, "device": device, "max_memory": max_memory,
            "on_progress": bar,
        }  # fmt: skip
        if out is None:
            return run_cell(cell, **options).model
        return run_in_directory(cell, Path(out), overwrite=overwrite, **options)[0]
