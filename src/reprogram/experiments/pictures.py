"""Pictures of a grid's fits for the report: one a method and pair, where the fit is still there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reprogram.artefact import load
from reprogram.errors import InputError
from reprogram.experiments.jobs import Context, cell_source, cell_task
from reprogram.experiments.results import Entry, ResultStore
from reprogram.figures import mapping_picture, png_bytes
from reprogram.input_transforms import Identity
from reprogram.model import Reprogrammed
from reprogram.picture import mapping_weight, model_figure
from reprogram.report import Picture, run_key

__all__ = ["run_pictures"]

Pictures = dict[tuple[Any, ...], list[Picture]]


def run_pictures(
    store: ResultStore,
    rows: Sequence[dict[str, Any]],
    context: Context | None = None,
    fits: ResultStore | None = None,
) -> tuple[Pictures, str]:
    """For the first trial at the largest size of each method and pair: prompt and mapping.

    Args:
        store: A grid.
        rows: Its rows.
        context: Where data and weights lie.
        fits: Another grid whose fits are looked at where this one has none.

    Returns:
        Pictures by run, and a line that says which are missing and why; "" where none is.
    """
    chosen = _chosen(store, rows)
    pictures: Pictures = {}
    gone: dict[str, int] = {}
    for entry, row in chosen:
        places = [place.fit_directory(entry.fit) for place in (store, fits) if place]
        directory = next((p for p in places if (p / "config.json").exists()), None)
        try:
            if directory is None:
                raise InputError("the fit is not here (--fits DIR names where it is)")
            model = load(directory, cell_source(entry.cell, context or Context()))
            model.record = row
            pictures[run_key(row)] = _pictures(model, entry, context or Context())
        except (InputError, OSError) as error:
            reason = " ".join(str(error).split()).removesuffix(".")
            gone[reason] = gone.get(reason, 0) + 1
    why = "; ".join(f"{count}: {reason}" for reason, count in gone.items())
    missing = (
        f"Pictures of {sum(gone.values())} of {len(chosen)} methods and pairs are missing. {why}."
    )
    return {key: found for key, found in pictures.items() if found}, missing if gone else ""


def _chosen(
    store: ResultStore, rows: Sequence[dict[str, Any]]
) -> list[tuple[Entry, dict[str, Any]]]:
    """Of each source, target, pool and method the first trial at the largest size."""
    largest: dict[tuple[Any, ...], tuple[Entry, dict[str, Any]]] = {}
    for entry, row in zip(store.entries(), rows, strict=True):
        if row["status"] != "done" or entry.cell.noise:
            continue
        place = (row["source"], row["target"], row.get("train_pool"), row["method"])
        best = largest.get(place)
        if best is None or _order(row) > _order(best[1]):
            largest[place] = entry, row
    return list(largest.values())


def _order(row: dict[str, Any]) -> tuple[float, int]:
    return row["data_fraction"], -row["seed"]


def _pictures(model: Reprogrammed, entry: Entry, context: Context) -> list[Picture]:
    """What there is to see of a fit: all of a prompt, and of a method without one its mapping."""
    assert model.record is not None
    row = model.record
    where = f"{row['method']} at {100 * row['data_fraction']:g} % of the images, seed {row['seed']}"
    if not isinstance(model.input_transform, Identity):
        figure = model_figure(model, cell_task(entry.cell, context))
        return [Picture(png_bytes(figure), where, "Images, prompted images, prompt and mapping")]
    weight = mapping_weight(model)
    if weight is None:
        return []
    figure = mapping_picture(weight, model.source.class_names, model.class_names)
    return [Picture(png_bytes(figure), where, "Which source classes are read as which target")]
