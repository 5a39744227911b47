"""Pictures of a grid's fits for the report: one a method and pair, where the fit is still there."""

from __future__ import annotations

import logging
from typing import Any

from reprogram.artefact import load
from reprogram.errors import InputError
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.experiments.results import Entry, ResultStore
from reprogram.figures import png_bytes
from reprogram.input_transforms import Identity
from reprogram.picture import model_figure
from reprogram.report import Picture, run_key

__all__ = ["run_pictures"]

logger = logging.getLogger(__name__)


def run_pictures(
    store: ResultStore, rows: list[dict[str, Any]], context: Context | None = None
) -> dict[tuple[Any, ...], list[Picture]]:
    """For the first trial at the largest size of each prompt and pair: prompt and mapping.

    Artefacts, data or weights that are not here are left out; a report is made of rows.
    """
    largest: dict[tuple[str, str, str], tuple[Entry, dict[str, Any]]] = {}
    for entry, row in zip(store.entries(), rows, strict=True):
        if row["status"] != "done" or entry.cell.noise:
            continue
        place = (row["source"], row["target"], row["method"])
        best = largest.get(place)
        if best is None or _order(row) > _order(best[1]):
            largest[place] = entry, row
    pictures = {}
    for entry, row in largest.values():
        directory = store.fit_directory(entry.fit)
        if not (directory / "config.json").exists():
            continue
        try:
            pictures[run_key(row)] = _pictures(entry, row, store, context or Context())
        except InputError as error:
            logger.info("no picture of %s: %s", directory, error)
    return {key: found for key, found in pictures.items() if found}


def _order(row: dict[str, Any]) -> tuple[float, int]:
    return row["data_fraction"], -row["seed"]


def _pictures(
    entry: Entry, row: dict[str, Any], store: ResultStore, context: Context
) -> list[Picture]:
    source = cell_source(entry.cell, context)
    model = load(store.fit_directory(entry.fit), source)
    if isinstance(model.input_transform, Identity):
        return []
    model.record = row
    figure = model_figure(model, cell_task(entry.cell, context))
    caption = (
        f"{row['method']} at {100 * row['data_fraction']:g} % of the images, seed {row['seed']}"
    )
    return [Picture(png_bytes(figure), caption, "Images, prompted images, prompt and mapping")]
