"""The results store: whole rows or none, one writer, nothing lost and nothing counted twice."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from experiments.conftest import Small, table, write_target
from filelock import FileLock

from reprogram.cli.grid_display import status_lines
from reprogram.errors import InputError
from reprogram.experiments import Cell
from reprogram.experiments.bench import status_of
from reprogram.experiments.executors import Lost, Report
from reprogram.experiments.grid import entries_of
from reprogram.experiments.jobs import Context, Event, Job
from reprogram.experiments.pace import Pace
from reprogram.experiments.results import Entry, ResultStore
from reprogram.settings import Settings


def test_a_rerun_does_what_is_missing(small: Small) -> None:
    store, end = small.run(small.cells(seeds=(0,)))
    assert end.counts == {"done": 2, "failed": 0, "skipped": 0}
    times = {p: p.stat().st_mtime_ns for p in store.directory.glob("cells/*/result.json")}
    _, end = small.run(small.cells(seeds=(0, 1)))
    assert end.counts["done"] == 4
    assert all(p.stat().st_mtime_ns == then for p, then in times.items()) and len(times) == 2


def test_a_damaged_result_is_set_aside_and_made_again(
    small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = small.run(small.cells())
    before = table(store)
    path = sorted(store.directory.glob("cells/*/result.json"))[0]
    path.write_text(path.read_text()[:100])
    with caplog.at_level(logging.WARNING):
        assert [r["status"] for r in store.rows()].count("missing") == 1
    assert "damaged" in caplog.text
    store, end = small.run(small.cells())
    assert end.counts["done"] == 2 and table(store) == before


def test_a_result_that_cannot_be_read_now_stays(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = small.run(small.cells())
    before, key = store.rows(), store.entries()[0].key

    def no_more_files(*_: object, **__: object) -> str:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", no_more_files)
        with pytest.raises(OSError, match="Too many open files"):
            store.read(key)
    assert store.rows() == before and not list(store.directory.glob("cells/*/*.damaged"))


def test_changed_data_are_said_and_their_results_not_counted(
    small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = write_target(tmp_path / "colours.npz")
    here = replace(small, target=str(target))
    store, _ = here.run(here.cells())
    first = {e.key for e in store.entries()}
    write_target(target, seed=5)
    from reprogram.experiments import jobs

    jobs._loaded_task.cache_clear()
    with caplog.at_level(logging.WARNING):
        store, end = here.run(here.cells())
    assert "2 results were made from other data or weights" in caplog.text
    assert end.counts["done"] == 2 and len(store.rows()) == 2
    assert first.isdisjoint(e.key for e in store.entries())
    assert all((store.directory / "cells" / key / "result.json").exists() for key in first)


def test_two_runs_on_one_directory(small: Small) -> None:
    small.run(small.cells())
    hold = (
        "import sys, time\nfrom pathlib import Path\n"
        "from reprogram.experiments.results import ResultStore\n"
        "with ResultStore(Path(sys.argv[1])).locked():\n    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", hold, str(small.out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with pytest.raises(InputError, match="another run is working on"):
                small.run(small.cells())
            assert status_of(ResultStore(small.out))["active"]
        finally:
            other.kill()  # the lock goes with its process
    _, end = small.run(small.cells())
    assert end.counts["done"] == 2
    assert not status_of(ResultStore(small.out))["active"]


def test_whoever_looks_whether_a_run_works_refuses_none(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    assert store.progress() is None and not list(tmp_path.iterdir())  # looking leaves nothing
    looking, looked = FileLock(tmp_path / ".lock"), threading.Event()

    def look() -> None:
        with looking:
            looked.set()
            time.sleep(0.2)

    reader = threading.Thread(target=look)
    reader.start()
    looked.wait()
    with store.locked():
        reader.join()


def test_seconds_of_a_row_are_those_of_its_training(tmp_path: Path) -> None:
    """Rows were first made with the seconds of the whole cell."""
    store = ResultStore(tmp_path)
    row = {
        "status": "done", "seconds": 9.0, "images_per_second": 20.0, "steps": 5, "n_train": 50,
        "n_val": 5, "settings": Settings(batch_size=16).to_dict(),
    }  # fmt: skip
    store.write("trained", row)
    store.write("untrained", row | {"images_per_second": None, "steps": 0})
    found = [store.read(key) for key in ("trained", "untrained")]
    assert [row["seconds"] for row in found if row] == [(50 + 16) / 20.0, 0.0]


def test_status_forgets_the_run_before_and_sees_a_tuning(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.add([Entry("a", "a", Cell("s", "t", "pad+ilm"), "t", "x")], "x")
    before = {"running": [{"job": "of yesterday"}], "seconds_left": 9.0}
    store.write_progress(before)
    with store.locked():
        found = status_of(store)
        assert found["active"] and (found["running"], found["seconds_left"]) == ([], None)
        with store.tuning.locked():
            store.tuning.write_progress({"running": [{"job": "x3"}], "seconds_left": 5.0})
            found = status_of(store)
    assert found["tuning"] and found["running"] == [{"job": "x3"}]
    (first, *_), heard = status_lines(found | {"time": time.time() - 100})[1:], found["time"]
    assert first == "choosing rates, about 5 s left (2 min ago)" and abs(heard - time.time()) < 60
    assert not status_of(store)["active"]


def job(method: str, seed: int, fraction: float = 1.0, **settings: int) -> Job:
    cell = Cell("s", "t", method, fraction, seed, settings=Settings(**{"epochs": 10} | settings))
    key = f"{method} {seed} {fraction}"
    return Job(key, (Entry(key, key, cell, "t", "x"),), None)


def test_time_left_knows_what_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of 1 s is no measure for a prompt of 100 s, nor for one on a fifth of the images."""
    clock = [0.0]
    monkeypatch.setattr("reprogram.experiments.pace.time.monotonic", lambda: clock[0])
    jobs = [job("probe", 0), job("prompt", 0), job("prompt", 0, 0.2), job("other", 0)]
    done = [
        (
            job(method, 1).entries[0].cell,
            {"status": "done", "seconds": seconds, "test_seconds": 0.0},
        )
        for method, seconds in (("probe", 1.0), ("prompt", 100.0))
    ]
    pace = Pace(jobs[:3], done)
    assert pace.seconds_left is None
    clock[0] = 2.0  # this machine takes twice as long
    pace.hear(Report(jobs[0], None))
    assert pace.seconds_left == pytest.approx(240.0)
    fitted = Pace(jobs[:3], done, lambda fit: fit == jobs[1].fit)
    clock[0] += 2.0
    fitted.hear(Report(jobs[0], None))
    assert fitted.seconds_left == pytest.approx(2.0 * (20 + 10.5))  # nothing left is taken as usual
    equal = Pace([jobs[0], jobs[3]])
    clock[0] += 7.0
    equal.hear(Report(jobs[0], None))
    assert equal.seconds_left == pytest.approx(7.0)


@pytest.mark.parametrize("nothing", ["epochs", "steps"])
def test_what_trains_nothing_takes_its_scoring(
    nothing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("reprogram.experiments.pace.time.monotonic", lambda: clock[0])
    row = {"status": "done", "seconds": 0.0, "test_seconds": 2.0}
    trained = row | {"seconds": 8.0}
    jobs = [job("prompt", seed, **{nothing: 0}) for seed in (0, 1)] + [job("prompt", 2)]
    like = [(job("prompt", 3, **{nothing: 0}), row), (job("prompt", 4), trained)]
    pace = Pace(jobs, [(done.entries[0].cell, found) for done, found in like])
    clock[0] = 2.0
    pace.hear(Report(jobs[0], None))
    assert pace.seconds_left == pytest.approx(2.0 + (8.0 + 2.0))


def test_time_left_falls_while_jobs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four equal jobs of 10 s on two workers, the second of which began 4 s later."""
    clock = [0.0]
    monkeypatch.setattr("reprogram.experiments.pace.time.monotonic", lambda: clock[0])
    jobs = [job("prompt", seed) for seed in range(4)]
    pace = Pace(jobs)
    found = []
    for moment, seed, what in [
        (0.0, 0, Event(None, {})), (4.0, 1, Event(None, {})), (9.0, 1, Event(None, {"epoch": 1})),
        (10.0, 0, None), (10.0, 2, Event(None, {})), (13.0, 1, Event(None, {"epoch": 2})),
        (14.0, 1, None), (14.0, 3, Event(None, {})), (20.0, 2, None), (23.0, 3, Event(None, {})),
        (30.0, 3, Event(None, {})),
    ]:  # fmt: skip
        clock[0] = moment
        pace.hear(Report(jobs[seed], what))
        found.append(pace.seconds_left)
    # The mean of both workers, but never less than the job that runs longest.
    assert found == [None] * 3 + [12.0, 12.0, 10.0, 10.0, 10.0, 4.0, 1.0, 0.0]


def test_a_running_job_tells_by_its_epochs_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten epochs: 5 s each and then 20 s each, since nothing of its like was run before."""
    clock = [0.0]
    monkeypatch.setattr("reprogram.experiments.pace.time.monotonic", lambda: clock[0])
    jobs = [job("prompt", seed) for seed in (0, 1)]
    pace = Pace(jobs)
    found = []
    for moment, seed, epoch in [
        (0.0, 0, None), (2.0, 0, 1), (4.0, 0, 1), (7.0, 0, 2), (52.0, 0, 0),
        (60.0, 1, None), (61.0, 1, 4), (81.0, 1, 5), (91.0, 1, 5),
    ]:  # fmt: skip
        clock[0] = moment
        told = {"epoch": epoch, "epochs": 10, "loss": 1.0} if epoch else {}
        pace.hear(Report(jobs[seed], None if epoch == 0 else Event(None, told)))
        found.append(pace.seconds_left)
    # 45 s of the first and 52 s of the second; then the second, from a checkpoint, by its own pace.
    assert found == [None, None, None, 45.0 + 52.0, 52.0, 52.0, 51.0, 120.0, 110.0]


def test_a_job_that_runs_again_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("reprogram.experiments.pace.time.monotonic", lambda: clock[0])
    jobs = [job("prompt", seed) for seed in (0, 1)]
    pace = Pace(jobs)
    for moment, what in [
        (0.0, Event(None, {})), (50.0, Lost("killed", True)), (50.0, Event(None, {})), (60.0, None),
    ]:  # fmt: skip
        clock[0] = moment
        pace.hear(Report(jobs[0], what))
    assert pace.seconds_left == 10.0


def test_a_config_replaces_its_own_cells_and_flags_add_theirs(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)

    def entry(key: str, seed: int, origin: str) -> Entry:
        return Entry(key, key, Cell("s", "t", "pad+ilm", seed=seed), "t", origin)

    store.add([entry("a", 0, "one.py"), entry("b", 1, "one.py")], "first")
    store.add([entry("c", 2, "command line")], "second")
    store.add([entry("d", 3, "command line")], "third")
    assert [e.key for e in store.entries()] == ["a", "b", "c", "d"]
    store.add([entry("b", 1, "one.py")], "fourth")
    assert sorted(e.key for e in store.entries()) == ["b", "c", "d"]
    assert store.command == "fourth"
    assert {row["status"] for row in store.rows()} == {"missing"}


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = small.cells(seeds=(0, 1))
    writes = 0
    write = ResultStore.write

    def fill(self: ResultStore, key: str, row: dict) -> None:
        nonlocal writes
        writes += 1
        if writes == 3:
            raise OSError(28, "No space left on device")
        write(self, key, row)

    monkeypatch.setattr(ResultStore, "write", fill)
    with pytest.raises(OSError, match="No space left"):
        small.run(cells)
    monkeypatch.undo()
    store, end = small.run(cells)
    assert end.counts["done"] == 4
    assert not list(store.directory.glob("cells/*.tmp"))


def test_ten_thousand_cells_list_and_aggregate_in_seconds(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    cells = [Cell("s", "t", "pad+ilm", seed=seed) for seed in range(10_000)]
    store.add([Entry(f"{c.seed:032x}", f"{c.seed:032x}", c, "t", "x") for c in cells], "x")
    for cell in cells[::10]:
        store.write(f"{cell.seed:032x}", cell.to_dict() | {"status": "done", "accuracy": 0.5})
    started = time.perf_counter()
    assert status_of(store)["done"] == 1_000 and len(store.rows()) == 10_000
    assert time.perf_counter() - started < 60  # a few seconds; a quadratic list takes minutes


def test_a_store_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"), ResultStore(tmp_path / "file").locked():
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_results_are_portable(small: Small) -> None:
    """The same grid elsewhere has the same keys, so that committed results are taken up there."""
    cells = small.cells()
    keys = [e.key for e in entries_of(cells, Context())]
    assert keys == [e.key for e in entries_of(cells, Context(threads=2, cache=Path("elsewhere")))]


def test_results_without_their_list_are_a_grid_s(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "cells").mkdir()
    ResultStore(tmp_path).add([], "")
