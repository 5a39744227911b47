"""One training on a source of known depth, with its source's accuracy and its kernel's spectrum."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from reprogram.analysis.forecast import RIDGE, forecast
from reprogram.analysis.spectrum import Spectrum, summarise
from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.sources import resolve_seeded, training_record

__all__ = ["depth_of", "measure_point"]


def depth_of(source: str) -> tuple[str, int]:
    """Kind and level of a depth network from its directory's name.

    Raises:
        InputError: The name does not end in a level.

    >>> depth_of("sources/mobilenet-cnn-3")
    ('mobilenet-cnn', 3)
    """
    found = re.fullmatch(r"(.+)-(\d+)", Path(source).name)
    if found is None:
        raise InputError(
            f"source {source!r} does not say its depth. Name its directory KIND-LEVEL, such as cnn-3."
        )
    return found[1], int(found[2])


def measure_point(
    cell: Cell, row: Mapping[str, Any], context: Context, *, images: int
) -> dict[str, Any]:
    """A row of the report: accuracies, losses, and the spectrum before training.

    Gradients are in float64: in float32 the smallest eigenvalues are rounding errors.

    Args:
        cell: What was trained.
        row: Its result.
        context: Device, threads, memory and where the data lie.
        images: Of the kernel.
    """
    torch.set_num_threads(context.threads)
    kind, level = depth_of(cell.source)
    record = training_record(resolve_seeded(cell.source, cell.source_seed))
    if "test_accuracy" not in record:
        raise InputError(
            f"source {cell.source!r} has no record of its own accuracy. Make it with train-source."
        )
    source = copy.deepcopy(cell_source(cell, context)).double()  # the cached one stays as it is
    found = forecast(
        source, cell_task(cell, context), cell.method, settings=cell.settings, images=images, seed=cell.seed,
        train_pool=cell.train_pool, val_share=cell.val_share, kind="full",
        max_memory=context.max_memory,
    )  # fmt: skip
    full = found.spectrum
    n, k = found.residual.shape
    theta = found.kernel.values.cpu().reshape(n, k, n, k)
    by_example = summarise(
        torch.einsum("ikjk->ij", theta) / k, found.residual, precision=found.precision,
        parameters=found.kernel.parameters, logits=k,
    )  # fmt: skip
    return {
        "kind": kind, "level": level, "target": row["target"], "method": cell.method,
        "seed": cell.seed, "source_seed": cell.source_seed,
        "source_accuracy": record["test_accuracy"], "accuracy": row["accuracy"],
        "loss": row["loss"], "train_loss": row["history"][-1]["train_loss"],
        "n_test": row["n_test"], "images": n,
        "parameters": found.kernel.parameters, "rank": full.rank,
        "lambda_min": _share(full.lambda_min, full),
        "smallest_nonzero": _share(full.smallest_nonzero, full),
        "lambda_min_trace_kernel": _share(by_example.lambda_min, by_example),
        "alignment": full.alignment_trace,
        "effective_dimension": full.effective_dimension[RIDGE], "seconds": found.seconds,
    }  # fmt: skip


def _share(value: float, of: Spectrum) -> float:
    """An eigenvalue over the trace; 0 below the noise floor, so that what is not resolved ties."""
    return value / of.trace if value > of.noise_floor else 0.0
