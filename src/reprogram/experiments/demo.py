"""The demo: the experiment report in small, on what ships with the package, in about two minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from reprogram.data import load_target
from reprogram.engine import FeatureStore
from reprogram.experiments import Cell, Result, run_cell
from reprogram.methods import get_method
from reprogram.sources import load_source
from reprogram.training import Progress

__all__ = ["FRACTIONS", "METHODS", "run_demo"]

FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)

# The same number of optimiser steps at every size, so that a larger set is more data, not more work.
# Stored features make the steps of a probe nearly free; a prompt's gradient passes the network.
_COMMON: dict[str, Any] = {"batch_size": 64, "augment": "none"}
METHODS: dict[str, dict[str, Any]] = {
    # The experiment report's rate of 1e-4 is for 50 epochs of 50,000 images; so few steps need more.
    "full-finetune": _COMMON | {"steps": 80, "lr": 1e-3},
    "reprogramming": _COMMON | {"steps": 120},
    "head-finetune": _COMMON | {"steps": 420},
    "linear-probe": _COMMON | {"steps": 420},
    # What the source's own answers are worth, without any training: a line in the picture.
    "none+ilm": _COMMON,
}


def run_demo(
    *,
    budget: float = 120.0,
    device: str = "auto",
    on_cell: Callable[[str, int, int], None] = lambda *_: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_result: Callable[[Result], None] = lambda _: None,
) -> None:
    """Run every method at every size; more seeds while they fit into the budget.

    Args:
        budget: Seconds within which another seed is started if it is expected to end.
        device: As for :func:`run_cell`.
        on_cell: Called with (method, cells done, seed) as cells start and end.
        on_progress: As for :func:`run_cell`.
        on_result: Called with every finished cell.
    """
    source, task, store = load_source("embedded"), load_target("digits"), FeatureStore()
    started, seed = time.perf_counter(), 0
    while True:
        for method, changes in METHODS.items():
            settings = get_method(method).settings.updated(changes)
            for done, fraction in enumerate(FRACTIONS):
                on_cell(method, done, seed)
                cell = Cell(source.name, task.name, method, fraction, seed, settings=settings)
                on_result(
                    run_cell(
                        cell,
                        source=source,
                        task=task,
                        store=store,
                        device=device,
                        on_progress=on_progress,
                    )
                )
            on_cell(method, len(FRACTIONS), seed)
        seed += 1
        spent = time.perf_counter() - started
        if spent * (seed + 1) / seed > budget:
            return
