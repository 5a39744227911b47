"""A small place on disk that worker processes can load: a source directory and a target file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import CANVAS, tiny_part

from reprogram.experiments import Cell, product
from reprogram.experiments.bench import GridProgress, run_grid
from reprogram.experiments.executors import EXECUTORS
from reprogram.experiments.grid import entries_of
from reprogram.experiments.jobs import Context
from reprogram.experiments.results import ResultStore
from reprogram.report import write_report
from reprogram.sources import create_network, write_source_directory


@dataclass(frozen=True)
class Small:
    """Where a small grid's source, target and results lie."""

    source: str
    target: str
    out: Path

    def cells(self, **options: Any) -> list[Cell]:
        grid: dict[str, Any] = {
            "sources": [self.source], "targets": [self.target], "methods": ["none+ilm", "pad+ilm"],
            "settings": {"epochs": 2, "size": 8, "batch_size": 16},
        }  # fmt: skip
        return product(**(grid | options))

    def run(
        self, cells: list[Cell], executor: str = "inline", out: Path | None = None, **options: Any
    ) -> tuple[ResultStore, GridProgress]:
        store = ResultStore(out or self.out)
        context = Context(cache=store.cache)
        with store.locked():
            entries = entries_of(cells, context)
            store.add(entries, "a test")
            end = run_grid(entries, store, EXECUTORS[executor](**options), context)
        return store, end


def table(store: ResultStore) -> bytes:
    """table.csv of a store's rows."""
    return write_report(store.rows(), store.directory / "report")["table.csv"].read_bytes()


def write_target(path: Path, seed: int = 0) -> Path:
    parts = {"train": tiny_part(60, seed), "test": tiny_part(30, seed + 1)}
    arrays = {}
    for name, part in parts.items():
        images = [np.asarray(part.store.image(i)) for i in range(len(part.labels))]
        arrays |= {f"{name}_images": np.stack(images), f"{name}_labels": part.labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("small")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_network("cifar_resnet20", 12, {})
    source = write_source_directory(
        folder / "source", network, architecture="cifar_resnet20", mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3), image_size=CANVAS, class_names=[f"s{i}" for i in range(12)],
    )  # fmt: skip
    return str(source), str(write_target(folder / "colours.npz"))


@pytest.fixture
def small(small_files: tuple[str, str], tmp_path: Path) -> Small:
    return Small(*small_files, tmp_path / "out")
