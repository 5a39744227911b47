"""Every engine gives the training of the plain one, in float64; each is chosen where it serves."""

from __future__ import annotations

import pytest
import torch
from cases import CANVAS, tiny_network, tiny_source, tiny_task

from reprogram.errors import InputError
from reprogram.experiments import Cell, Result, run_cell
from reprogram.methods import get_method
from reprogram.sources import NetworkSource


def run(engine: str, method: str, source: NetworkSource | None = None, **changes) -> Result:
    changes = {"steps": 4, "batch_size": 16, "engine": engine, "augment": "none"} | changes
    settings = get_method(method).settings.updated(changes)
    cell = Cell("tiny", "tiny", method, settings=settings)
    return run_cell(cell, source=source or tiny_source().double(), task=tiny_task())


@pytest.mark.parametrize(
    ("engine", "method", "changes"),
    [
        ("folded", "full+ilm", {}),
        ("folded", "full+ilm", {"augment": "crop-flip"}),
        ("folded", "smm+blm+", {}),
        ("folded", "pad+linear", {}),
        ("window", "pad+ilm", {}),
        ("window", "pad-raw+blm+", {}),
        ("window", "pad+ilm", {"size": 5}),
        ("window", "pad+linear", {"size": 7, "augment": "crop-flip"}),
    ],
)
def test_training_equals_the_plain_engines(engine: str, method: str, changes: dict) -> None:
    """4 Adam steps, the mapping pass, validation and test; 54 images do not divide into batches."""
    plain, fast = run("plain", method, **changes), run(engine, method, **changes)
    assert (plain.row["engine"], fast.row["engine"]) == ("plain", engine)
    for name, tensor in plain.model.own_tensors().items():
        torch.testing.assert_close(
            fast.model.own_tensors()[name], tensor, rtol=0, atol=1e-9, msg=name
        )
    for a, b in zip(plain.row["history"], fast.row["history"], strict=True):
        assert a["val"]["accuracy"] == b["val"]["accuracy"]
        assert a["val"]["loss"] == pytest.approx(b["val"]["loss"], abs=1e-10)


@pytest.mark.parametrize(
    ("method", "engine"),
    [
        ("pad+ilm", "folded"),
        ("smm+ilm", "folded"),
        ("linear-probe", "store"),
        ("full-finetune", "plain"),
    ],
)
def test_auto_on_a_small_canvas(method: str, engine: str) -> None:
    assert run("auto", method, tiny_source()).row["engine"] == engine


def test_auto_takes_windows_where_they_pay() -> None:
    """A small image on a large canvas: most of the plain pass is background."""
    source = NetworkSource(
        tiny_network(), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), image_size=8 * CANVAS,
        class_names=[f"s{i}" for i in range(12)], name="wide", head="linear",
    )  # fmt: skip
    assert run("auto", "pad+ilm", source, size=16, steps=1).row["engine"] == "window"


def test_an_engine_that_cannot_serve_says_why() -> None:
    with pytest.raises(InputError, match="padding prompt"):
        run("window", "full+ilm")
    with pytest.raises(InputError, match="frozen source"):
        run("folded", "full-finetune")
    with pytest.raises(InputError, match="Did you mean folded"):
        run("foldet", "pad+ilm")
