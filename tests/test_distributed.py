"""torchrun with two processes gives the training of one, up to rounding."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reprogram import distributed
from reprogram.cli import run
from reprogram.data.augmentation import Draw
from reprogram.data.batches import Batch

REPOSITORY = Path(__file__).resolve().parents[1]


def test_without_torchrun_everything_is_the_identity() -> None:
    batch, rows = Batch("train", torch.arange(5)), torch.randn(5, 2)
    assert distributed.is_main() and distributed.world() == 1
    assert distributed.shard(batch) is batch
    assert distributed.gather_rows(rows) is rows
    assert distributed.sum_scalar(2.5) == 2.5


def test_shards_are_disjoint_and_carry_their_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw(torch.arange(7), torch.arange(7) + 10, torch.arange(7) % 2 == 0)
    batch = Batch("train", torch.arange(7) + 100, draw)
    monkeypatch.setattr(distributed, "world", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda r=rank: r)
        parts.append(distributed.shard(batch))
    assert sorted(torch.cat([p.index for p in parts]).tolist()) == list(range(100, 107))
    for part in parts:
        assert torch.equal(part.draw.top + 100, part.index)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Odd batches too: 39 training images in batches of 16 leave a last batch of 7."""
    words = ["fit", "--target", "digits", "--method", "full+ilm", "--epochs", "2", "--batch-size", "16",
             "--train-pool", "44", "--set", "augment=none", "--quiet", "--out"]  # fmt: skip
    assert run([*words, str(tmp_path / "one")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
                "--master-addr", "127.0.0.1", "--master-port", str(free_port()),
                "-m", "reprogram", *words, str(tmp_path / "two")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], atol=2e-4), name
