"""Options of the verbs of a grid, and the cells, workers and executors that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from reprogram.cli.options import Whole, bytes_of, chosen_settings, list_of
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.experiments.cell import Cell
    from reprogram.experiments.executors import Executor
    from reprogram.experiments.jobs import Context
    from reprogram.experiments.results import Entry

__all__ = [
    "Cells", "Grid", "Place", "Running", "cells_for", "context_of", "entries_for", "executor_of",
    "workers_of",
]  # fmt: skip


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
        set_: More settings, such as --set batch_size=64, for the methods that read them.
    """

    source: str | None = None
    target: str | None = None
    methods: str = "full-finetune,head-finetune,linear-probe,reprogramming"
    fractions: str = "1.0"
    seeds: str = "0"
    noises: str = "clean"
    epochs: Whole | None = None
    train_pool: Whole | None = None
    test_pool: Whole | None = None
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
    workers: Whole | None = None
    threads: Whole = 1
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


def cells_for(config: Path | None, grid: Grid) -> list[Cell]:
    """The cells of a config, or of flags."""
    from reprogram.data.noise import Noise
    from reprogram.experiments.grid import product, read_config

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
    settings = chosen_settings(grid.set_, epochs=grid.epochs)
    methods = list_of(grid.methods)
    _check_settings(settings, methods)
    return product(
        sources=list_of(grid.source),
        targets=list_of(grid.target),
        methods=methods,
        fractions=[_number(text, float, "--fractions") for text in list_of(grid.fractions)],
        seeds=[_number(text, int, "--seeds") for text in list_of(grid.seeds)],
        noises=[Noise.parse(text) for text in list_of(grid.noises)],
        settings=settings,
        train_pool=grid.train_pool,
        test_pool=grid.test_pool,
        val_share=grid.val_share,
    )


def _check_settings(settings: dict[str, Any], methods: list[str]) -> None:
    """Refuse a setting that would change nothing in the whole grid, and a control without steps."""
    from reprogram.methods import foreign_setting, get_method

    read: set[str] = set()
    for method in map(get_method, methods):
        method.require_steps(settings.get("steps"))
        read |= method.settings_read(settings).keys()
    for name in settings.keys() - read:
        who = f"none of {', '.join(methods)} has a {name}"
        raise foreign_setting(name, settings[name], who)


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
    """Jobs at a time: by default one a core, on a GPU one, whose memory they would share."""
    import os

    from reprogram.environment import resolve_device

    if place.workers is not None:
        if place.workers < 1:
            raise InputError(f"--workers must be at least 1, got {place.workers}.")
        return place.workers
    if place.executor != "process" or resolve_device(place.device).type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // place.threads)


def executor_of(place: Place, out: Path) -> Executor:
    """The executor that --executor names."""
    from reprogram.experiments.executors import EXECUTORS

    options: dict[str, Any] = {"workers": workers_of(place)}
    for name, value, of in (
        ("--ray-address", place.ray_address, "ray"), ("--gpus", place.gpus, "ray"),
        ("--slurm", place.slurm, "slurm"),
    ):  # fmt: skip
        if value and place.executor != of:
            raise InputError(f"{name} belongs to --executor {of}, not to {place.executor}.")
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
