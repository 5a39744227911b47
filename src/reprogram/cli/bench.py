"""bench plan, run, tune, status, retry, report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from reprogram.cli.options import bytes_of, list_of
from reprogram.cli.output import note, result
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.experiments.bench import GridProgress
    from reprogram.experiments.cell import Cell
    from reprogram.experiments.executors import Executor
    from reprogram.experiments.jobs import Context
    from reprogram.experiments.results import Entry, ResultStore

__all__ = ["bench_app"]

bench_app = App(name="bench", help="Grids of runs: planned, run, resumed, reported.")


@dataclass
class Grid:
    """The cells: a config, or every combination of what is given here.

    Attributes:
        source: Sources, separated by commas.
        target: Targets, separated by commas.
        methods: Methods, separated by commas.
        fractions: Shares of every class's training images.
        seeds: Trials.
        noises: Such as clean,gaussian:3@test,blur:1@both.
        epochs: Passes over the training images; each method's own by default.
        train_pool: Stratified number of training images to start from.
        test_pool: Stratified number of test images that are looked at.
        val_share: Share of the training images that selects the epoch.
        set_: More settings, such as --set batch_size=64; methods that do not read one ignore it.
    """

    source: str | None = None
    target: str | None = None
    methods: str = "full-finetune,head-finetune,linear-probe,reprogramming"
    fractions: str = "1.0"
    seeds: str = "0"
    noises: str = "clean"
    epochs: int | None = None
    train_pool: int | None = None
    test_pool: int | None = None
    val_share: float = 0.1
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = ()


@dataclass
class Place:
    """Where and how cells run; none of it changes a result.

    Attributes:
        executor: inline, process, ray or slurm.
        workers: Jobs at a time; by default one a core (process), else 1.
        threads: Threads a cell computes with; recorded in its row.
        data_root: Folder of the data sets; otherwise REPROGRAM_DATA, then the config file.
        download: Fetch missing data sets or weights.
        device: auto (cuda, else cpu), cpu, cuda or mps.
        max_memory: Largest size of images or a prompt in memory, such as 4GiB.
        feature_cache_size: Largest size of the stored features in --out.
        ray_address: Of a Ray cluster; by default one is started on this machine.
        gpus: Share of a GPU that a Ray task takes.
        slurm: submitit parameters, such as --slurm timeout_min=60 slurm_partition=gpu.
        json: Print one JSON document.
        quiet: No progress and no messages.
    """

    executor: Literal["inline", "process", "ray", "slurm"] = "process"
    workers: int | None = None
    threads: int = 1
    data_root: Path | None = None
    download: bool = False
    device: str = "auto"
    max_memory: str = "4GiB"
    feature_cache_size: str = "8GiB"
    ray_address: str | None = None
    gpus: float = 0.0
    slurm: Annotated[tuple[str, ...], Parameter(name="--slurm", consume_multiple=True)] = ()
    json: bool = False
    quiet: bool = False


Cells = Annotated[Grid, Parameter(name="*", group="Grid")]
Running = Annotated[Place, Parameter(name="*", group="Execution")]


@bench_app.command
def plan(
    config: Path | None = None,
    *,
    out: Path | None = None,
    grid: Cells = Grid(),  # noqa: B008
    place: Running = Place(),  # noqa: B008
) -> None:
    """List the cells and what they will cost, measured on one step of each method; run nothing.

    Args:
        config: A Python file with grid() -> list[Cell].
        out: Directory of results; what it holds already is left out of the estimate.
    """
    from rich.console import Console

    from reprogram.experiments.estimate import estimate
    from reprogram.experiments.results import ResultStore

    entries = entries_for(config, grid, place, out)
    store = ResultStore(out) if out else None
    todo = [e for e in entries if store is None or not store.has(e.key)]
    console = Console(stderr=True, quiet=place.quiet)
    with console.status("measuring a step") as status:
        cost = estimate(todo, context_of(place, None), lambda pair: status.update(pair))
    workers = workers_of(place)
    document = {
        "cells": [e.cell.to_dict() | {"key": e.key, "target": e.target} for e in entries],
        "to_run": len(todo), "seconds_of_one_worker": cost.seconds, "workers": workers,
        "seconds": cost.seconds / workers, "bytes": cost.bytes,
        "refused": [{"pair": list(p), "reason": r} for p, r in cost.refused.items()],
    }  # fmt: skip
    lines = [
        f"{_cells(len(entries))}, {len(todo)} to run:   about {_time(cost.seconds / workers)} with "
        f"{workers} worker{'s' if workers > 1 else ''} of {place.threads} thread"
        f"{'s' if place.threads > 1 else ''}   {cost.bytes / 1e6:,.1f} MB of fitted models",
        *_cost_lines(todo, cost.costs),
        *(f"skipped: {s} -> {t}  {m}: {why}" for (s, t, m), why in cost.refused.items()),
        f"next: reprogram bench run {config or '...'} --out {out or 'DIR'}",
    ]
    result(document, "\n".join(lines), place.json)


def _cost_lines(entries: list[Entry], costs: dict[tuple[str, str, str], Any]) -> list[str]:
    """A line for each method of each pair: cells, milliseconds an image."""
    counts: dict[tuple[str, str, str], int] = {}
    for entry in entries:
        place = (entry.cell.source, entry.cell.target, entry.cell.method)
        counts[place] = counts.get(place, 0) + 1
    wide = max((len(" -> ".join(p[:2])) for p in costs), default=0)
    return [
        f"  {' -> '.join(p[:2]):<{wide}}  {p[2]:<16} {_cells(counts[p]):>11}   "
        f"{1e3 * c.step:8.3f} ms a step and image   {1e3 * c.look:7.3f} ms a look"
        f"{', stored' if c.stored else ''}"
        for p, c in sorted(costs.items())
    ]


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
    from reprogram.experiments.results import ResultStore

    store = ResultStore(out)
    with store.locked():
        entries = entries_for(config, grid, place, out)
        store.add(entries, _command())
        with ResultStore(fits).locked() if fits else nullcontext():
            end = _run(entries, store, place, fits=ResultStore(fits) if fits else None)
    return _finish(store, end, place)


@bench_app.command
def retry(out: Path, /, *, place: Running = Place()) -> int:  # noqa: B008
    """Run the failed cells of a directory again, and the missing ones.

    Args:
        out: Directory of results.
    """
    from reprogram.experiments.results import ResultStore

    store = ResultStore.existing(out)
    with store.locked():
        entries = store.entries()
        for entry in entries:
            row = store.read(entry.key)
            if row is not None and row["status"] != "done":
                store.discard(entry.key)
        end = _run(entries, store, place)
    return _finish(store, end, place)


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

    store, tuned = ResultStore(out), ResultStore(out / "tune")
    with store.locked(), tuned.locked():
        cells = tuning_cells(cells_for(config, grid))
        entries = entries_of(cells, context_of(place, None), origin="tune")
        tuned.add(entries, _command())
        end = _run(entries, tuned, place, fits=store, test=False)
        rows = [tuned.read(entry.key) for entry in entries]
        whole = [(e.cell, row) for e, row in zip(entries, rows, strict=True) if row is not None]
        document = chosen_rates([c for c, _ in whole], [r for _, r in whole])
        write_json(out / "rates.json", document)
    lines = [
        f"  {r['source']} -> {r['target']}  {r['method']:<16} x {r['factor']:<4g}"
        + "".join(f"   x{f} {100 * v:.1f} %" for f, v in r["val_accuracy"].items())
        for r in document["rates"]
    ]
    lines.append(
        f"kept in {out / 'rates.json'}   next: reprogram bench run {config or '...'} --out {out}"
    )
    result(document | end.to_dict(), "\n".join(lines), place.json)
    return 1 if end.counts["failed"] else 0


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
    text = [_counts(found)]
    if found["active"]:
        left = found["seconds_left"]
        text.append("running" + (f", about {_time(left)} left" if left is not None else ""))
        text += [f"  {_job_line(job)}" for job in found["running"]]
    text += [f"  {b['status']}: {_cell_words(b['cell'])}: {b['reason']}" for b in found["broken"]]
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
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Write the tables and the page into DIR/report: html, md, tex, table.csv, rows.csv.

    Args:
        out: Directory of results.
        title: Of the page.
        distances: JSON with the distances and source accuracies of the pairs; DIR/distances.json
            where it is there.
        json: Print one JSON document.
        quiet: No messages.
    """
    from reprogram.experiments.pictures import run_pictures
    from reprogram.experiments.results import ResultStore
    from reprogram.report import answer, clean_panels, text_table, with_distances, write_report

    store = ResultStore.existing(out)
    rows = store.rows()
    note(f"reprogram bench report   {len(rows)} cells", quiet or json)
    pictures = run_pictures(store, rows)
    if distances is None and (out / "distances.json").is_file():
        distances = out / "distances.json"
    known = rows if distances is None else with_distances(rows, _document(distances))
    files = write_report(
        known, out / "report", title=title, command=store.command, run_pictures=pictures
    )
    panels = clean_panels(rows)
    text = [f"{panel.title}\n{text_table(panel)}\n" for panel in panels[:MAX_TABLES]]
    text += [answer(panels), f"page {files['report.html']}"]
    document = {"answer": answer(panels), "files": {k: str(v) for k, v in files.items()}}
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


def cells_for(config: Path | None, grid: Grid) -> list[Cell]:
    """The cells of a config, or of flags."""
    from reprogram.data.noise import Noise
    from reprogram.experiments.grid import product, read_config
    from reprogram.settings import Settings

    if config is not None:
        if grid != Grid():
            raise InputError(
                "a config holds the whole grid: give it alone, or flags without a config."
            )
        return read_config(config)
    if grid.source is None or grid.target is None:
        raise InputError(
            "nothing to run: give a config such as configs/data_size.py, or --source and --target."
        )
    settings: dict[str, Any] = Settings.parse(grid.set_)
    if grid.epochs is not None:
        settings["epochs"] = grid.epochs
    return product(
        sources=list_of(grid.source),
        targets=list_of(grid.target),
        methods=list_of(grid.methods),
        fractions=[_number(text, float, "--fractions") for text in list_of(grid.fractions)],
        seeds=[_number(text, int, "--seeds") for text in list_of(grid.seeds)],
        noises=[Noise.parse(text) for text in list_of(grid.noises)],
        settings=settings,
        train_pool=grid.train_pool,
        test_pool=grid.test_pool,
        val_share=grid.val_share,
    )


def _number(text: str, kind: Callable[[str], Any], option: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{option} takes numbers separated by commas, got {text!r}.") from error


def entries_for(config: Path | None, grid: Grid, place: Place, out: Path | None) -> list[Entry]:
    """The cells with their keys."""
    from reprogram.experiments.grid import entries_of
    from reprogram.experiments.results import COMMAND_LINE

    origin = config.name if config else COMMAND_LINE
    return entries_of(cells_for(config, grid), context_of(place, out), origin)


def context_of(place: Place, out: Path | None, *, test: bool = True) -> Context:
    """What the workers need to know."""
    from reprogram.experiments.jobs import Context

    if place.threads < 1:
        raise InputError(f"--threads must be at least 1, got {place.threads}.")
    return Context(
        data_root=place.data_root, download=place.download, device=place.device,
        threads=place.threads, max_memory=bytes_of(place.max_memory),
        cache=out / "cache" if out else None, cache_limit=bytes_of(place.feature_cache_size),
        test=test,
    )  # fmt: skip


def workers_of(place: Place) -> int:
    """Jobs at a time."""
    import os

    if place.workers is not None:
        if place.workers < 1:
            raise InputError(f"--workers must be at least 1, got {place.workers}.")
        return place.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // place.threads) if place.executor == "process" else 1


def executor_of(place: Place, out: Path) -> Executor:
    """The executor that --executor names."""
    from reprogram.experiments.executors import EXECUTORS

    options: dict[str, Any] = {"workers": workers_of(place)}
    if place.executor == "ray":
        options |= {"address": place.ray_address, "gpus": place.gpus}
    if place.executor == "slurm":
        options |= {"folder": out / "slurm", "parameters": _parameters(place.slurm)}
    return EXECUTORS[place.executor](**options)


def _parameters(texts: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE texts for submitit; whole numbers become numbers."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals:
            raise InputError(f"--slurm takes name=value, got {name!r}.")
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


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

    home = (fits or store).directory
    context = context_of(place, home, test=test)
    executor = executor_of(place, home)
    with _bars(place.quiet or place.json) as show:
        try:
            return run_grid(entries, store, executor, context, show, fits=fits)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped. Finished cells and epochs are kept in {home}; the same command goes on."
            ) from None


@contextmanager
def _bars(quiet: bool) -> Iterator[Callable[[GridProgress], None]]:
    """One bar for the grid, and a line for each job that runs."""
    from reprogram.progress import bar

    with bar(quiet, "{task.fields[note]}") as progress:
        whole = progress.add_task("cells", total=None, note="")
        lines: dict[str, Any] = {}

        def show(state: GridProgress) -> None:
            done = sum(state.counts.values())
            failed = state.counts["failed"]
            left = "" if state.estimate is None else f"  about {_time(state.estimate)} left"
            progress.update(
                whole, total=state.total, completed=done,
                note=f"{done}/{state.total}" + (f"  {failed} failed" if failed else "") + left,
            )  # fmt: skip
            for fit in [fit for fit in lines if fit not in state.running]:
                progress.remove_task(lines.pop(fit))
            for fit, job in state.running.items():
                if fit not in lines:
                    lines[fit] = progress.add_task(job["job"], total=None, note="")
                if "epoch" in job:
                    progress.update(
                        lines[fit], total=job["epochs"], completed=job["epoch"],
                        note=f"epoch {job['epoch']}/{job['epochs']}  loss {job['loss']:.2f}",
                    )  # fmt: skip

        yield show


def _finish(store: ResultStore, end: GridProgress, place: Place) -> int:
    """The closing line and the exit code."""
    found = end.to_dict()
    out = store.directory
    text = [_counts(found), f"kept in {out}   next: reprogram bench report {out}"]
    if end.counts["failed"]:
        text.insert(
            1, f"reprogram bench status {out} says why; reprogram bench retry {out} tries again"
        )
    result(found | {"out": str(out)}, "\n".join(text), place.json)
    return 1 if end.counts["failed"] else 0


def _cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"


def _counts(found: dict[str, Any]) -> str:
    parts = [f"{found['done']} of {_cells(found['total'])} done"]
    parts += [f"{found[k]} {k}" for k in ("failed", "skipped", "missing") if found[k]]
    return "   ".join(parts)


def _job_line(job: dict[str, Any]) -> str:
    epoch = (
        f"  epoch {job['epoch']}/{job['epochs']}  loss {job['loss']:.2f}" if "epoch" in job else ""
    )
    return job["job"] + epoch


def _cell_words(cell: dict[str, Any]) -> str:
    noise = "" if cell["noise"] == "clean" else f" {cell['noise']}"
    size = f"{100 * cell['data_fraction']:g}%"
    return (
        f"{cell['source']} -> {cell['target']} {cell['method']} {size} seed {cell['seed']}{noise}"
    )


def _command() -> str:
    return shlex.join(["reprogram", *sys.argv[1:]])


def _time(seconds: float) -> str:
    """A duration in its two largest units.

    >>> _time(42), _time(754), _time(7500)
    ('42 s', '13 min', '2 h 5 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
