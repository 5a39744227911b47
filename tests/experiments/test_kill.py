"""A grid that is killed at random moments and resumed ends as an undisturbed one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments.conftest import Small, table

from reprogram.experiments.bench import status_of
from reprogram.experiments.results import ResultStore

MAIN = "import sys\nfrom reprogram.cli import run\nif __name__ == '__main__':\n"
MAIN += "    sys.exit(run(sys.argv[1:]))\n"


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_grid_resumes_to_the_same_table(small: Small, tmp_path: Path, kills: int) -> None:
    """SIGKILL to parent and workers at once, at random moments of starting, training, writing."""
    # Seeded: a run that fails can be repeated as far as moments can.
    moments, seeds = random.Random(0), ",".join(map(str, range(2 + kills // 3)))
    path = tmp_path / "grid.py"
    path.write_text(MAIN)

    def command(out: Path) -> list[str]:
        words = [sys.executable, str(path), "bench", "run", "--source", small.source, "--target"]
        words += [small.target, "--methods", "none+ilm,pad+ilm,full-finetune"]
        words += ["--set", "size=8", "--epochs", "4", "--seeds", seeds, "--fractions", "0.5,1.0"]
        return [
            *words,
            "--noises",
            "clean,gaussian:2@test",
            "--workers",
            "2",
            "--quiet",
            "--out",
            str(out),
        ]

    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    subprocess.run(command(undisturbed), check=True, stdout=subprocess.DEVNULL)
    total = cells_in(undisturbed)
    cut_short, counts = 0, []
    for left in range(kills, 0, -1):
        before = cells_in(disturbed)
        goal = before + moments.randint(0, (total - before) // (left + 1))
        running = subprocess.Popen(
            command(disturbed), start_new_session=True, stdout=subprocess.DEVNULL
        )
        while running.poll() is None and cells_in(disturbed) < goal:
            time.sleep(0.005)
        # Within the imports, or anywhere in the work on the next cells.
        time.sleep(moments.uniform(0, 4 if goal == before else 0.4))
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            cut_short += 1
        running.wait()
        if (disturbed / "grid.json").exists():
            counts.append(status_of(ResultStore(disturbed))["done"])
    assert cut_short > kills // 2, f"{cut_short} of {kills} kills came before the grid had ended"
    assert counts == sorted(counts), "something that was done is gone"
    subprocess.run(command(disturbed), check=True, stdout=subprocess.DEVNULL)
    print(f"{cut_short} kills, cells done after each: {counts}")
    assert table(ResultStore(disturbed)) == table(ResultStore(undisturbed))
    rows = ResultStore(disturbed).rows()
    assert {row["status"] for row in rows} == {"done"}


def cells_in(out: Path) -> int:
    return len(list(out.glob("cells/*/result.json")))
