"""bench plan, run, tune, status, retry, report."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from reprogram.cli.grid import (
    Cells,
    Grid,
    Place,
    Running,
    cells_for,
    context_of,
    entries_for,
    executor_of,
    workers_of,
)
from reprogram.cli.grid_display import (
    bars,
    cost_lines,
    counts_line,
    plan_lines,
    rate_lines,
    status_lines,
)
from reprogram.cli.output import note, result
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.experiments.bench import GridProgress
    from reprogram.experiments.results import Entry, ResultStore

__all__ = ["bench_app"]

bench_app = App(name="bench", help="Grids of runs: planned, run, resumed, reported.")


@bench_app.command
def plan(
    config: Path | None = None,
    *,
    out: Path | None = None,
    fits: Path | None = None,
    grid: Cells = Grid(),  # noqa: B008
    place: Running = Place(),  # noqa: B008
) -> None:
    """Count the cells and what they will cost, measured on one step of each method; run nothing.

    With --json the document lists every cell.

    Args:
        config: A Python file with grid() -> list[Cell].
        out: Directory of results; what it holds already is left out of the estimate.
        fits: Another directory of results whose fits are used: they are left out as well.
    """
    from rich.console import Console

    from reprogram.experiments.estimate import estimate
    from reprogram.experiments.grid import warn_of_published_rates
    from reprogram.experiments.results import ResultStore

    entries = entries_for(config, grid, place, out)
    warn_of_published_rates()
    store = ResultStore(out) if out else None
    home = ResultStore(fits) if fits else store
    todo = [e for e in entries if store is None or not store.has(e.key)]
    console = Console(stderr=True, quiet=place.quiet)
    with console.status("measuring a step") as status:
        cost = estimate(
            todo, context_of(place, None), lambda pair: status.update(pair),
            fitted=lambda fit: home is not None and home.has_fit(fit),
        )  # fmt: skip
    workers = workers_of(place)
    document = {
        "cells": [e.cell.to_dict() | {"key": e.key, "target": e.target} for e in entries],
        "to_run": len(todo), "seconds_of_one_worker": cost.seconds, "workers": workers,
        "seconds": cost.seconds / workers, "bytes": cost.bytes,
        "noise_seconds_of_one_worker": cost.noise_seconds,
        "feature_bytes": cost.feature_bytes, "noise_bytes": cost.noise_bytes,
        "refused": [{"pair": list(p), "reason": r} for p, r in cost.refused.items()],
    }  # fmt: skip
    lines = [
        *plan_lines(cost, len(entries), len(todo), workers, place.threads),
        *cost_lines(todo, cost.costs),
        *(f"skipped: {s} -> {t}  {m}: {why}" for (s, t, m), why in cost.refused.items()),
        f"next: {_command().replace('bench plan', 'bench run', 1)}{'' if out else ' --out DIR'}",
    ]
    result(document, "\n".join(lines), place.json)


@bench_app.command
def run(
    config: Path | None = None,
    *,
    out: Path,
    fits: Path | None = None,
    grid: Cells = Grid(),  # noqa: B008
    place: Running = Place(),  # noqa: B008
) -> int:
    """Run every cell that has no result yet; stopped at any moment, the same command goes on.

    Args:
        config: A Python file with grid() -> list[Cell].
        out: Directory of results.
        fits: Another directory of results whose fits are used, and added to.
    """
    from reprogram.experiments.grid import warn_of_published_rates
    from reprogram.experiments.results import ResultStore

    store = ResultStore(out)
    with store.locked():
        entries = entries_for(config, grid, place, out)
        warn_of_published_rates()
        store.add(entries, _command())
        end = _run_with_fits(entries, store, place, fits)
    return _finish(store, entries, end, place)


@bench_app.command
def retry(
    out: Path,
    /,
    *,
    fits: Path | None = None,
    place: Running = Place(),  # noqa: B008
) -> int:
    """Run the failed cells of a directory again, and the missing ones.

    Args:
        out: Directory of results.
        fits: As for run.
    """
    from reprogram.experiments.grid import refreshed
    from reprogram.experiments.results import ResultStore

    store = ResultStore.existing(out)
    with store.locked():
        entries = refreshed(store.entries(), context_of(place, None))
        store.add(entries, store.command)
        store.discard_broken(entries)
        end = _run_with_fits(entries, store, place, fits)
    return _finish(store, entries, end, place)


@bench_app.command
def tune(
    config: Path | None = None,
    *,
    out: Path,
    grid: Cells = Grid(),  # noqa: B008
    place: Running = Place(),  # noqa: B008
) -> int:
    """Choose the learning rate of each pair and method on validation; writes DIR/rates.json.

    Args:
        config: A Python file with grid() -> list[Cell]; it reads rates.json.
        out: Directory of results. Fits are shared with `bench run`; test images are not looked at.
    """
    from reprogram.experiments.grid import entries_of
    from reprogram.experiments.results import ResultStore
    from reprogram.experiments.tuning import chosen_rates, tuning_cells
    from reprogram.files import write_json

    store = ResultStore(out)
    tuned = store.tuning
    with store.locked(), tuned.locked():
        cells = tuning_cells(cells_for(config, grid))
        entries = entries_of(cells, context_of(place, None), origin="tune")
        tuned.add(entries, _command())
        tuned.discard_broken(entries)
        end = _run(entries, tuned, place, fits=store, test=False)
        rows = [tuned.read(entry.key) for entry in entries]
        whole = [(e.cell, row) for e, row in zip(entries, rows, strict=True) if row is not None]
        document = chosen_rates([c for c, _ in whole], [r for _, r in whole])
        if document["rates"]:
            write_json(out / "rates.json", document)
    lines = rate_lines(document)
    if document["rates"]:
        then = (
            f"reprogram bench run {config} --out {out}"
            if config
            else "a config whose cells have rates=Rates(PATH); flags alone take the published rates"
        )
        lines.append(f"kept in {out / 'rates.json'}   next: {then}")
    result(document | end.to_dict(), "\n".join(lines), place.json)
    return 1 if end.counts["failed"] or document.get("not_chosen") else 0


@bench_app.command
def status(out: Path, /, *, json: bool = False) -> int:
    """How a grid stands: cells done, running, failed, time left; while it runs, too.

    Args:
        out: Directory of results.
        json: Print one JSON document.
    """
    from reprogram.experiments.bench import status_of
    from reprogram.experiments.results import ResultStore

    store = ResultStore.existing(out)
    found = status_of(store)
    text = status_lines(found)
    if found["failed"]:
        text.append(f"next: reprogram bench retry {out}")
    elif found["missing"] and not found["active"]:
        text.append(f"next: {store.command}")
    elif not found["active"]:
        text.append(f"next: reprogram bench report {out}")
    result(found, "\n".join(text), json)
    return 1 if found["failed"] else 0


@bench_app.command
def report(
    out: Path,
    /,
    *,
    title: str = "Model reprogramming",
    distances: Path | None = None,
    data_root: Path | None = None,
    fits: Path | None = None,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Write tables, page and map into DIR/report: html, md, tex, table.csv, rows.csv, map.*.

    Args:
        out: Directory of results.
        title: Of the page.
        distances: JSON with the distances and source accuracies of the pairs; DIR/distances.json
            where it is there.
        data_root: Folder of the data sets, for pictures; otherwise REPROGRAM_DATA, then the config
            file.
        fits: Another directory of results whose fits were used, for pictures.
        json: Print one JSON document.
        quiet: No messages.
    """
    from reprogram.experiments.compute import with_compute
    from reprogram.experiments.jobs import Context
    from reprogram.experiments.pictures import run_pictures
    from reprogram.experiments.results import ResultStore
    from reprogram.report import (
        answer,
        clean_panels,
        panels,
        text_table,
        with_distances,
        write_report,
    )

    store = ResultStore.existing(out)
    entries, rows = store.entries(), store.rows()
    note(f"reprogram bench report   {len(rows)} cells", quiet or json)
    context = Context(data_root=data_root)
    pictures, missing = run_pictures(store, rows, context, ResultStore(fits) if fits else None)
    rows, uncounted = with_compute(entries, rows, context)
    if distances is None and (out / "distances.json").is_file():
        distances = out / "distances.json"
    known = rows if distances is None else with_distances(rows, _document(distances))
    files = write_report(
        known, out / "report", title=title, command=store.command, run_pictures=pictures,
        notes=[text for text in (missing, uncounted) if text],
    )  # fmt: skip
    found = answer(panels(rows))
    shown = clean_panels(rows)[:MAX_TABLES]
    text = [f"{panel.title}\n{text_table(panel)}\n" for panel in shown]
    text += [found, f"page {files['report.html']}"]
    document = {"answer": found, "files": {k: str(v) for k, v in files.items()}}
    result(document, "\n".join(text), json)


def _document(path: Path) -> dict[str, Any]:
    """A JSON file with one object."""
    from json import loads

    try:
        document = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--distances {path} is no JSON file ({error}).") from error
    if not isinstance(document, dict):
        raise InputError(f'--distances {path} must hold {{"pairs": [...]}}.')
    return document


MAX_TABLES = 4  # printed; all of them are on the page
MAX_REASONS = 4


def _run_with_fits(
    entries: list[Entry], store: ResultStore, place: Place, fits: Path | None
) -> GridProgress:
    """Run what is missing, with the fits of another directory where one is named."""
    from reprogram.experiments.results import ResultStore

    home = ResultStore(fits) if fits else None
    if home and home.directory.resolve() == store.directory.resolve():
        home = None
    with home.locked() if home else nullcontext():
        return _run(entries, store, place, fits=home)


def _run(
    entries: list[Entry],
    store: ResultStore,
    place: Place,
    *,
    fits: ResultStore | None = None,
    test: bool = True,
) -> GridProgress:
    """Run what is missing, with bars on a terminal."""
    from reprogram.experiments.bench import run_grid
    from reprogram.files import disk_full

    home = (fits or store).directory
    context = context_of(place, home, test=test)
    executor = executor_of(place, home)
    with bars(place.quiet or place.json) as show:
        try:
            return run_grid(entries, store, executor, context, show, fits=fits)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped. Finished cells and epochs are kept in {home}; the same command goes on."
            ) from None
        except OSError as error:
            if not disk_full(error):
                raise
            raise OSError(
                f"the disk is full ({error}). Finished cells and epochs are kept in {home}: make "
                "room there, and the same command goes on."
            ) from error


def _finish(store: ResultStore, entries: list[Entry], end: GridProgress, place: Place) -> int:
    """The closing line and the exit code."""
    from reprogram.experiments.bench import broken_cells

    found = end.to_dict()
    out = store.directory
    text = [counts_line(found)]
    if end.counts["failed"] or end.counts["skipped"]:
        broken = broken_cells(store, entries)
        reasons = list(dict.fromkeys(f"  {b['status']}: {b['reason']}" for b in broken))
        text += reasons[:MAX_REASONS]
        more = f", and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
        text.append(f"reprogram bench status {out} says it of each cell{more}")
    if end.counts["failed"]:
        text.append(f"reprogram bench retry {out} tries again")
    then = f"   next: reprogram bench report {out}" if end.counts["done"] else ""
    result(found | {"out": str(out)}, "\n".join([*text, f"kept in {out}{then}"]), place.json)
    return 1 if end.counts["failed"] or not end.counts["done"] else 0


def _command() -> str:
    return shlex.join(["reprogram", *sys.argv[1:]])
