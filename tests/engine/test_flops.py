"""`reprogram doctor --engine`: the FLOP counts, and the engine that auto takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases import tiny_task

from reprogram.cli import run
from reprogram.cli.flops import flop_rows
from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import ResidentData
from reprogram.engine import choose_engine
from reprogram.methods import get_method
from reprogram.seeds import generator_for
from reprogram.sources import load_source


@pytest.mark.parametrize("size", [8, 28])
def test_the_row_names_the_engine_that_auto_takes(size: int) -> None:
    (row,) = flop_rows(["embedded"], size, None, False)
    source, task, method = load_source("embedded"), tiny_task(), get_method("pad+ilm")
    settings = method.resolve(source, 8, 60, method.settings.updated({"size": size}))
    init = generator_for("init", "tiny", "pad+ilm", 0)
    model = method.build(source, task.class_names, settings, init)
    data = ResidentData({"train": task.train}, size, Augmentation())
    engine = choose_engine("auto", model, data, torch.device("cpu"), "float32")
    assert row["engine"] == engine.name
    assert row["window_flops"] <= row["plain_flops"]
    assert (row["engine"] == "window") == (size == 8)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--engine"]) == 0
    text = capsys.readouterr().out
    assert "embedded" in text and "folded" in text and "GFLOP" in text
    assert run(["doctor", "--engine", "--size", "8", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["engines"]
    assert row["engine"] == "window" and row["size"] == 8 and "fewer FLOPs" in row["reason"]


def test_what_belongs_to_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--size", "8"]) == 2
    assert "--engine" in capsys.readouterr().err
    assert run(["doctor", "--engine", "--size", "99"]) == 2
    assert "below the source's 32 px" in capsys.readouterr().err


@pytest.mark.real
def test_a_source_directory(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = shared / "weights" / "squeezenet1_1-imagenet"
    assert run(["doctor", "--engine", "--source", str(weights), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["engines"]
    assert [(r["canvas"], r["size"], r["engine"]) for r in rows[1:]] == [
        (224, 32, "window"),
        (224, 128, "window"),
    ]
