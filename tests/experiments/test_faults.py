"""Faults of the surroundings: a full disk, damaged fits, data that are not here."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from experiments.conftest import Small, table

from reprogram.data.noise import Noise
from reprogram.engine import FeatureStore
from reprogram.engine import feature_store as feature_store_module
from reprogram.errors import InputError
from reprogram.experiments import directory, jobs
from reprogram.experiments.bench import run_grid
from reprogram.experiments.executors import EXECUTORS, Lost
from reprogram.experiments.executors.base import Executor, Report
from reprogram.experiments.executors.remote import (
    context_for_nodes,
    files_of,
    reports_of,
    run_remotely,
)
from reprogram.experiments.grid import entries_of
from reprogram.experiments.jobs import Context, Job, jobs_of
from reprogram.experiments.results import ResultStore

# A full disk.


def has_namespaces() -> bool:
    """Whether a file system of a few kilobytes can be mounted without being root."""
    try:
        made = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
        )
    except OSError:
        return False
    return made.returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="needs user namespaces")
def test_a_real_full_disk_stops_the_run_and_a_rerun_goes_on(small: Small) -> None:
    """A checkpoint of full fine-tuning fails in the middle of torch's own writer."""
    small.out.mkdir()
    words = ["bench", "run", "--source", small.source, "--target", small.target, "--methods"]
    words += ["full-finetune", "--epochs", "1", "--executor", "inline", "--quiet"]
    script = f"""
import subprocess, sys
from pathlib import Path
from reprogram.cli import run
out = Path({str(small.out)!r})
def mount(*options): subprocess.run(["mount", "-t", "tmpfs", *options, "none", out], check=True)
mount("-o", "size=3m")
print(run([*{words!r}, "--out", str(out)]), len(list(out.glob("cells/*"))))
mount("-o", "remount,size=64m")
print(run([*{words!r}, "--out", str(out)]), len(list(out.glob("cells/*/result.json"))))
"""
    command = ["unshare", "-rm", sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [line for line in ended.stdout.splitlines() if line[:1].isdigit()]
    assert (answers[0], answers[-1]) == ("1 0", "0 1"), ended.stderr
    assert "the disk is full" in ended.stderr and "the same command goes on" in ended.stderr


def test_a_full_feature_cache_is_not_the_cells_fault(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store_module, "write_matrix", full)
    cells = small.cells(methods=["linear-probe"])
    with pytest.raises(OSError, match="No space left"):
        small.run(cells)
    assert not list(small.out.glob("cells/*"))
    monkeypatch.undo()
    jobs._feature_store.cache_clear()
    assert small.run(cells)[1].counts["done"] == 1


def test_a_full_disk_on_a_node_comes_back_as_one(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise ValueError("cannot write") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs, "score_test", full)
    (job,) = jobs_of(
        entries_of(small.cells(methods=["none+ilm"]), Context()), lambda fit: small.out
    )
    *_, last = run_remotely(job, Context(), {})
    with pytest.raises(OSError, match="No space left"):
        list(reports_of(job, last))


# Damaged fits.


@pytest.mark.parametrize(
    "damage", ["model.safetensors", "config.json", "run.json", "result.json", "checkpoint.pt"]
)
def test_a_damaged_fit_is_made_again_to_the_same_bits(
    small: Small, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cells = small.cells(methods=["pad+ilm"])
    store, _ = small.run(cells)
    (entry,), before = store.entries(), table(store)
    fit = store.fit_directory(entry.fit)
    bits = (fit / "model.safetensors").read_bytes()
    if damage == "model.safetensors":
        (fit / damage).write_bytes(bits[:-9])
    elif damage == "checkpoint.pt":
        (fit / "result.json").unlink()
        (fit / damage).write_bytes(b"PK half a checkpoint")
    else:
        (fit / damage).write_bytes(b"")
    store.discard(entry.key)
    with caplog.at_level(logging.WARNING):
        store, end = small.run(cells)
    assert end.counts["done"] == 1 and table(store) == before
    assert (fit / "model.safetensors").read_bytes() == bits
    warnings = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "is damaged and is made again" in warnings[0]


def test_a_fit_that_cannot_be_read_now_is_not_thrown_away(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = small.cells(methods=["pad+ilm"])
    store, _ = small.run(cells)
    (entry,) = store.entries()
    store.discard(entry.key)
    kept = {path.name for path in store.fit_directory(entry.fit).iterdir()}

    def busy(*arguments: object) -> None:
        raise InputError("model.safetensors cannot be read") from OSError(errno.EMFILE, "Too many")

    monkeypatch.setattr(directory, "load", busy)
    store, end = small.run(cells)
    assert end.counts["failed"] == 1
    assert {path.name for path in store.fit_directory(entry.fit).iterdir()} == kept


def test_what_a_killed_process_left_is_no_other_run(small: Small, tmp_path: Path) -> None:
    (cell,) = small.cells(methods=["none+ilm"])
    (tmp_path / ".run.json.71.0f3c2a1b.tmp").write_text("{")
    source, task = jobs.cell_source(cell, Context()), jobs.cell_task(cell, Context())
    assert not directory.run_in_directory(cell, tmp_path, source=source, task=task)[1]


# What is skipped and what has failed.


def test_what_is_not_here_has_failed_and_what_cannot_be_is_skipped(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = small.cells(methods=["none+ilm"], test_pool=31)
    (impossible,) = entries_of(cells, Context())
    noisy = small.cells(methods=["none+ilm"], noises=[Noise("blur", 1)])
    (entry,) = entries_of(noisy, Context())
    (job,) = jobs_of([impossible, entry], lambda fit: small.out)

    def statuses() -> list[str]:
        return [event.content["status"] for event in jobs.run_job(job, Context())]

    assert statuses() == ["skipped", "done"]
    score = jobs.score_test

    def without_extra(model, task, noise, *rest, **options):  # noqa: ANN001, ANN002, ANN003, ANN202
        if noise:
            raise InputError("pip install it") from ImportError("no such package")
        return score(model, task, noise, *rest, **options)

    monkeypatch.setattr(jobs, "score_test", without_extra)
    assert statuses() == ["skipped", "failed"]

    def gone(*arguments: object) -> None:
        raise InputError("colours.npz: no such file")

    monkeypatch.setattr(jobs, "cell_task", gone)
    assert statuses() == ["failed", "failed"]
    monkeypatch.undo()
    on_gpu = replace(Context(), device="cuda:99")
    assert [e.content["status"] for e in jobs.run_job(job, on_gpu)] == ["failed", "failed"]


class Hopeless(Executor):
    """Loses every job."""

    def run(self, jobs, context):  # noqa: ANN001, ANN201
        for job in jobs:
            yield Report(job, Lost("its node burned", again=False))


def test_a_cell_has_one_target_name_whatever_became_of_it(small: Small) -> None:
    part = replace(small, target=f"{small.target}[0-1]")
    done, _ = part.run(part.cells(methods=["none+ilm"]))
    name = done.rows()[0]["target"]
    impossible = part.cells(methods=["pad+many"], settings={"sources_per_target": 9, "size": 8})
    skipped, end = part.run(impossible, out=small.out.parent / "skipped")
    assert end.counts["skipped"] == 1
    lost = ResultStore(small.out.parent / "lost")
    entries = entries_of(part.cells(methods=["none+ilm"]), Context())
    lost.add(entries, "")
    assert run_grid(entries, lost, Hopeless(), Context()).counts["failed"] == 1
    assert name == "colours[0-1]"
    assert {store.rows()[0]["target"] for store in (skipped, lost)} == {name}


# Rows and fits on their way.


def noisy_job(small: Small, store: ResultStore) -> Job:
    noises = [Noise(), Noise("gaussian", 1), Noise("gaussian", 2)]
    entries = entries_of(small.cells(methods=["pad+ilm"], noises=noises), Context())
    (job,) = jobs_of(entries, store.fit_directory)
    return job


def test_inline_stores_each_row_as_it_comes(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    store, score, calls = ResultStore(small.out), jobs.score_test, []

    def interrupted(*arguments, **options):  # noqa: ANN002, ANN003, ANN202
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments, **options)

    monkeypatch.setattr(jobs, "score_test", interrupted)
    entries = list(noisy_job(small, store).entries)
    with pytest.raises(KeyboardInterrupt):
        run_grid(entries, store, EXECUTORS["inline"](), Context())
    assert [store.has(entry.key) for entry in entries] == [True, True, False]


def test_a_node_gets_the_fit_that_is_there(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultStore(small.out)
    job = noisy_job(small, store)
    outcomes = list(run_remotely(job, Context(), {}))
    assert [bool(outcome.files) for outcome in outcomes] == [True, False, False]
    rows = [list(reports_of(job, outcome))[0].what.content for outcome in outcomes]
    assert store.has_fit(job.fit) and len(rows) == 3

    def trained(*arguments: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(directory, "run_cell", trained)
    files = files_of(job.directory)
    again = [outcome.what.content for outcome in run_remotely(job, Context(), files)]
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]


def test_a_node_goes_on_from_the_checkpoint_that_is_there(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(small.out)
    job = noisy_job(small, store)
    cell, run_cell, epochs = job.entries[0].cell, directory.run_cell, []

    def stop(state) -> None:  # noqa: ANN001
        epochs.append(state.epoch)
        if state.epoch == 2:
            raise KeyboardInterrupt

    def watched(*arguments, **options):  # noqa: ANN002, ANN003, ANN202
        return run_cell(*arguments, **{**options, "on_epoch": stop})

    monkeypatch.setattr(directory, "run_cell", watched)
    source, task = jobs.cell_source(cell, Context()), jobs.cell_task(cell, Context())
    with pytest.raises(KeyboardInterrupt):
        directory.run_in_directory(cell, job.directory, source=source, task=task, test=False)
    assert epochs == [0, 1, 2] and "checkpoint.pt" in files_of(job.directory)
    epochs.clear()
    with pytest.raises(KeyboardInterrupt):
        list(run_remotely(job, Context(), files_of(job.directory)))
    assert epochs == [2]
    monkeypatch.undo()
    for outcome in run_remotely(job, Context(), files_of(job.directory)):
        list(reports_of(job, outcome))
    assert store.has_fit(job.fit) and not (job.directory / "checkpoint.pt").exists()


def test_nodes_get_the_data_root_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROGRAM_DATA", str(tmp_path))
    assert context_for_nodes(Context()).data_root == tmp_path
    assert context_for_nodes(Context(data_root=Path("/sets"))).data_root == Path("/sets")


class Twice(Executor):
    """Loses its worker after the first row, and runs the job again."""

    def run(self, jobs_, context):  # noqa: ANN001, ANN201
        for job in jobs_:
            yield Report(job, next(jobs.run_job(job, context)))
            yield Report(job, Lost("its node burned", again=True))
            yield from (Report(job, event) for event in jobs.run_job(job, context))
            yield Report(job, None)


def test_a_row_that_comes_twice_is_counted_once(small: Small) -> None:
    store = ResultStore(small.out)
    entries = list(noisy_job(small, store).entries)
    assert run_grid(entries, store, Twice(), Context()).counts["done"] == 3


def test_a_cache_that_cannot_be_written_is_a_fault_of_the_surroundings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    import torch

    with pytest.raises(InputError, match="cannot be written") as found:
        FeatureStore(directory=tmp_path / "file").make(
            "k", (1, 1), torch.float32, [torch.ones(1, 1)]
        )
    assert jobs._is_surroundings(found.value)
