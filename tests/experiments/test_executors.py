"""Executors: all give the rows of `run_cell`, and survive what happens to workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments.conftest import Small, table

from reprogram.data.noise import Noise
from reprogram.experiments import run_cell
from reprogram.experiments.bench import run_grid
from reprogram.experiments.executors import EXECUTORS, Executor, Report
from reprogram.experiments.executors.process import ProcessExecutor
from reprogram.experiments.grid import entries_of
from reprogram.experiments.jobs import Context, Event, Job
from reprogram.experiments.results import ResultStore

SPENT = {"seconds", "test_seconds", "images_per_second", "peak_memory", "fit", "git_sha"}


def results(store: ResultStore) -> list[dict]:
    """The rows without what time and place have to do with."""
    return [{k: v for k, v in row.items() if k not in SPENT} for row in store.rows()]


def test_a_grid_gives_the_rows_of_run_cell(small: Small) -> None:
    noises = [Noise(), Noise("gaussian", 3), Noise("blur", 2, "both")]
    cells = small.cells(methods=["pad+ilm", "linear-probe"], noises=noises)
    store, end = small.run(cells)
    assert end.counts["done"] == 6
    for cell, row in zip(cells, results(store), strict=True):
        alone = json.loads(json.dumps(run_cell(cell).row))
        assert {k: v for k, v in alone.items() if k not in SPENT} == row
    fits = [row["fit"] for row in store.rows()]
    assert len(set(fits)) == 4  # clean and test noise share one; two methods, two trainings


def test_a_fit_that_is_gone_is_made_again_to_the_same_bits(small: Small) -> None:
    import shutil

    clean = small.cells(methods=["pad+ilm"])
    store, _ = small.run(clean)
    (row,) = store.rows()
    artefact = store.fit_directory(row["fit"]) / "model.safetensors"
    bits = artefact.read_bytes()
    shutil.rmtree(artefact.parent)
    store, _ = small.run([*clean, *small.cells(methods=["pad+ilm"], noises=[Noise("blur", 1)])])
    assert artefact.read_bytes() == bits
    assert {r["fit"] for r in store.rows()} == {row["fit"]}


def test_processes_give_the_same_bits(small: Small, tmp_path: Path) -> None:
    cells = small.cells(methods=["none+ilm", "pad+ilm", "full-finetune"], seeds=(0, 1))
    here, _ = small.run(cells)
    there, end = small.run(cells, "process", tmp_path / "process", workers=2)
    assert end.counts["done"] == 6
    assert results(here) == results(there) and table(here) == table(there)


def test_ray_gives_the_same_bits(small: Small, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    cells = small.cells(noises=[Noise(), Noise("blur", 1)])
    here, _ = small.run(cells)
    there, end = small.run(cells, "ray", tmp_path / "ray", workers=2)
    assert end.counts["done"] == 4
    assert results(here) == results(there)
    row = there.rows()[0]
    assert (there.fit_directory(row["fit"]) / "model.safetensors").exists()


def test_submitit_gives_the_same_bits(small: Small, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    cells = small.cells(methods=["none+ilm"])
    here, _ = small.run(cells)
    options = {"folder": tmp_path / "jobs", "cluster": "local", "poll": 0.2}
    there, end = small.run(cells, "slurm", tmp_path / "slurm", **options)
    assert end.counts["done"] == 1 and results(here) == results(there)


def test_what_cannot_be_is_skipped_and_what_breaks_fails(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprogram.experiments import jobs

    cells = small.cells(methods=["pad+first", "none+ilm", "pad+ilm", "pad+many"],
                        settings={"epochs": 1, "size": 8, "sources_per_target": 5})  # fmt: skip
    score = jobs.score_test

    def broken(model, *arguments, **options):  # noqa: ANN001, ANN002, ANN003, ANN202
        if model.record["method"] == "none+ilm":
            raise ZeroDivisionError("on purpose")
        return score(model, *arguments, **options)

    monkeypatch.setattr(jobs, "score_test", broken)
    store, end = small.run(cells)
    rows = {row["method"]: row for row in store.rows()}
    assert end.counts == {"done": 2, "failed": 1, "skipped": 1}
    assert rows["none+ilm"]["error"] == "ZeroDivisionError: on purpose"
    assert "on purpose" in rows["none+ilm"]["traceback"]
    assert str(Path(jobs.__file__).parents[1]) not in rows["none+ilm"]["traceback"]
    assert rows["pad+many"]["status"] == "skipped"
    assert "sources_per_target must be in 1 to 4" in rows["pad+many"]["reason"]


class Killer(ProcessExecutor):
    """Kills a worker with SIGKILL when its job has begun, the first `kills` times."""

    kills = 1

    def run(self, jobs, context):  # noqa: ANN001, ANN201
        for report in super().run(jobs, context):
            if self.kills and report.what == Event(None, {}):
                self.kills -= 1
                (worker,) = multiprocessing.active_children()  # /proc may not name it yet
                worker.kill()
            yield report


def test_a_killed_worker_is_replaced_and_its_cell_runs_again(
    small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = small.cells()
    undisturbed, _ = small.run(cells)
    store = ResultStore(tmp_path / "killed")
    entries = entries_of(cells, Context())
    store.add(entries, "")
    end = run_grid(entries, store, Killer(workers=1), Context())
    assert end.counts["done"] == 2 and "SIGKILL" in caplog.text and "runs again" in caplog.text
    assert results(store) == results(undisturbed)


def test_a_worker_that_always_dies_fails_its_cell_and_no_other(small: Small) -> None:
    store = ResultStore(small.out)
    entries = entries_of(small.cells(), Context())
    store.add(entries, "")
    killer = Killer(workers=1, attempts=1)
    end = run_grid(entries, store, killer, Context())
    assert end.counts == {"done": 1, "failed": 1, "skipped": 0}
    (failed,) = [row for row in store.rows() if row["status"] == "failed"]
    assert "SIGKILL" in failed["error"]


def children(parent: int) -> list[dict]:
    """Processes whose parent is `parent`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ppid = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError, IndexError):
            continue
        if ppid == parent:
            found.append({"pid": int(path.name), "command": command})
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
def test_workers_end_with_their_parent(small: Small) -> None:
    script = (
        "import sys\nfrom reprogram.cli import run\n"
        "if __name__ == '__main__':\n    sys.exit(run(sys.argv[1:]))\n"
    )
    path = small.out.parent / "grid.py"
    path.write_text(script)
    command = [sys.executable, str(path), "bench", "run", "--source", small.source, "--target"]
    command += [small.target, "--methods", "pad+ilm", "--set", "size=8", "--epochs", "100000"]
    command += ["--workers", "2", "--seeds", "0,1", "--out", str(small.out), "--quiet"]
    parent = subprocess.Popen(command)
    try:
        workers: list[dict] = []
        deadline = time.monotonic() + 60
        while len(workers) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
            workers = [c for c in children(parent.pid) if "spawn_main" in c["command"]]
        assert len(workers) == 2
        assert {os.getpgid(w["pid"]) for w in workers} == {os.getpgid(parent.pid)}
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 90  # workers that still import leave after it
    while any(Path(f"/proc/{w['pid']}").exists() for w in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [w for w in workers if Path(f"/proc/{w['pid']}").exists()]


def test_every_executor_is_one(small: Small) -> None:
    assert all(issubclass(kind, Executor) for kind in EXECUTORS.values())
    job = Job("f", tuple(entries_of(small.cells(), Context())), None)
    assert "none+ilm" in job.name and Report(job, None).what is None
