"""Every engine gives the training of the plain one, in float64; each is chosen where it serves."""

from __future__ import annotations

import pytest
import torch
from cases import CANVAS, tiny_network, tiny_source, tiny_task

from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import Batch, ResidentData
from reprogram.engine import PlainEngine, WindowEngine
from reprogram.errors import InputError
from reprogram.experiments import Cell, Result, run_cell
from reprogram.methods import get_method
from reprogram.seeds import generator_for
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
        ("folded", "border+ilm", {}),
        ("folded", "lowrank+ilm", {}),
        ("folded", "fourier+ilm", {}),
        ("folded", "patch+ilm", {}),
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
            fast.model.own_tensors()[name], tensor, rtol=0, atol=1e-12, msg=name
        )
    for a, b in zip(plain.row["history"], fast.row["history"], strict=True):
        assert a["val"]["accuracy"] == b["val"]["accuracy"]
        assert a["val"]["loss"] == pytest.approx(b["val"]["loss"], abs=1e-12)


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


def test_a_pass_prepares_its_background_once_and_never_serves_an_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the prompt was changed: by a step, by loading, behind autograd's back."""
    source, task, method = tiny_source().double(), tiny_task(), get_method("pad+ilm")
    settings = method.resolve(source, 8, 60, method.settings.updated({"size": 6}))
    init = generator_for("init", "tiny", "pad+ilm", 0)
    model = method.build(source, task.class_names, settings, init)
    data = ResidentData({"train": task.train}, 6, Augmentation())
    device = torch.device("cpu")
    engine, plain = (
        WindowEngine(model, data, device, "float32"),
        PlainEngine(data, device, "float32"),
    )
    prepared = []
    original = engine._plan.prepare
    monkeypatch.setattr(
        engine._plan, "prepare", lambda canvas: (prepared.append(1), original(canvas))[1]
    )
    delta = model.input_transform.delta
    state = {k: v.clone() for k, v in model.input_transform.state_dict().items()}

    def train() -> None:
        outputs = engine.outputs(model, Batch("train", torch.arange(5)))
        outputs.sum().backward()
        torch.optim.Adam([delta], lr=0.1).step()

    def assign() -> None:
        delta.data[0, 0, 0] = 3.0  # leaves the tensor's version as it is

    def load() -> None:
        model.input_transform.load_state_dict(state)

    passes = 0
    for change in (lambda: None, train, assign, load):
        change()
        passes += 1 + (change is train)  # a training step prepares its own
        for index in torch.arange(20).split(8):
            with torch.no_grad():
                batch = Batch("train", index)
                torch.testing.assert_close(
                    engine.outputs(model, batch), plain.outputs(model, batch), rtol=0, atol=1e-12
                )
        assert len(prepared) == passes
