"""Where memory runs out: batches in parts, or a refusal that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import tiny_source, tiny_task

from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import Batch, ResidentData
from reprogram.engine import Parts, PlainEngine, SplittingEngine, memory
from reprogram.engine.memory import available_memory, require_memory, step_memory
from reprogram.engine.windowed import WindowEngine
from reprogram.errors import InputError
from reprogram.experiments import Cell, Result, run_cell
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, trainable
from reprogram.seeds import generator_for
from reprogram.sources import load_source

CPU = torch.device("cpu")


def run(method: str, **changes) -> Result:
    changes = {"steps": 4, "batch_size": 16, "augment": "none"} | changes
    settings = get_method(method).settings.updated(changes)
    cell = Cell("tiny", "tiny", method, settings=settings)
    return run_cell(cell, source=tiny_source().double(), task=tiny_task())


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device for five images: the sizes of all batches that were tried on it."""
    tried: list[int] = []
    original = PlainEngine.outputs

    def outputs(self, model, batch: Batch):
        tried.append(len(batch.index))
        if len(batch.index) > 5:
            raise torch.OutOfMemoryError("simulated")
        return original(self, model, batch)

    monkeypatch.setattr(PlainEngine, "outputs", outputs)
    return tried


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("pad+ilm", {"engine": "plain"}),
        ("full+ilm", {"engine": "folded", "augment": "crop-flip"}),
        ("pad+linear", {"engine": "window", "size": 6}),
        ("head-finetune", {"engine": "store", "augment": "flip"}),
    ],
)
def test_a_split_run_is_the_same_run(
    method: str, changes: dict, request: pytest.FixtureRequest
) -> None:
    """Training, mapping, feature and evaluation passes in parts of at most five images."""
    whole = run(method, **changes)
    tried = request.getfixturevalue("small_memory")
    split = run(method, **changes)
    assert max(tried) > 5 and sum(n > 5 for n in tried) <= 12  # sizes that failed are remembered
    for name, tensor in whole.model.own_tensors().items():
        torch.testing.assert_close(
            split.model.own_tensors()[name], tensor, rtol=0, atol=1e-12, msg=name
        )
    for a, b in zip(whole.row["history"], split.row["history"], strict=True):
        assert a["val"]["loss"] == pytest.approx(b["val"]["loss"], abs=1e-12)
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-12)
    assert split.row["loss"] == pytest.approx(whole.row["loss"], abs=1e-12)


@pytest.mark.parametrize("method", ["smm+ilm", "full-finetune"])
def test_batch_statistics_are_not_split(method: str, small_memory: list[int]) -> None:
    with pytest.raises(InputError, match="batch_size=16.*BatchNorm"):
        run(method)


def test_a_single_image_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def outputs(self, model, batch):
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(PlainEngine, "outputs", outputs)
    with pytest.raises(InputError, match="one image"):
        run("pad+ilm")


def test_a_failed_attempt_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the second half, when the first was propagated already."""
    whole = run("full+ilm", steps=1)
    original = PlainEngine.outputs
    training: list[int] = []

    def outputs(self, model, batch: Batch):
        if torch.is_grad_enabled():
            training.append(len(batch.index))
            if training in ([16], [16, 8, 8]):
                raise torch.OutOfMemoryError("simulated")
        return original(self, model, batch)

    monkeypatch.setattr(PlainEngine, "outputs", outputs)
    split = run("full+ilm", steps=1)
    assert training == [16, 8, 8, 4, 4, 4, 4]
    expected = whole.model.input_transform.delta
    torch.testing.assert_close(split.model.input_transform.delta, expected, rtol=0, atol=1e-12)


def test_an_empty_batch_is_one_part() -> None:
    """A rank that has no images of a batch."""
    parts = Parts()
    parts.size = 2
    empty = Batch("train", torch.arange(0))
    assert [len(p.index) for p in parts.run(empty, lambda parts: parts)] == [0]


def build(engine: str = "plain") -> tuple[Reprogrammed, PlainEngine]:
    source, task, method = tiny_source().double(), tiny_task(), get_method("pad+ilm")
    settings = method.resolve(source, 8, 60, method.settings.updated({"size": 6}))
    init = generator_for("init", "tiny", "pad+ilm", 0)
    model = method.build(source, task.class_names, settings, init)
    data = ResidentData({"train": task.train}, 6, Augmentation())
    if engine == "plain":
        return model, PlainEngine(data, CPU, "float32")
    return model, WindowEngine(model, data, CPU, "float32")


@pytest.mark.parametrize("name", ["plain", "window"])
def test_the_memory_of_a_step_is_extrapolated(name: str) -> None:
    model, engine = build(name)
    fixed, each = step_memory(model, engine, Batch("train", torch.arange(60)))
    held = memory._Held.by_step(model, engine, Batch("train", torch.arange(40)))
    assert 0.9 * held.peak < fixed + 40 * each < 1.3 * held.peak
    assert held.now < 0.1 * held.peak  # what a step held it gave back


def test_measuring_changes_nothing() -> None:
    model, engine = build()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    step_memory(model, engine, Batch("train", torch.arange(8)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_batch_that_cannot_fit_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, engine = build()
    batch = Batch("train", torch.arange(50))
    fixed, each = step_memory(model, engine, batch)
    monkeypatch.setattr(memory, "available_memory", lambda: fixed + 20 * each + each // 2)
    with pytest.raises(InputError, match=r"batch_size=50 needs about .* Use batch_size=20, or"):
        require_memory(model, engine, batch)
    require_memory(model, engine, Batch("train", torch.arange(20)))
    monkeypatch.setattr(memory, "available_memory", lambda: fixed)
    with pytest.raises(InputError, match="smaller source"):
        require_memory(model, engine, batch)
    with pytest.raises(InputError, match="batch_size=16"):
        run("pad+ilm")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    require_memory(model, engine, batch)


def test_what_trains_a_mapping_only_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1)
    assert run("linear-probe").row["status"] == "done"


def test_free_memory_is_told_or_unknown() -> None:
    free = available_memory()
    assert free is None or free > 0


def test_a_training_pass_is_not_split_by_the_engine(small_memory: list[int]) -> None:
    model, engine = build()
    assert trainable(model)
    splitting = SplittingEngine(engine)
    with pytest.raises(torch.OutOfMemoryError):
        splitting.outputs(model, Batch("train", torch.arange(8)))
    with torch.no_grad():
        assert len(splitting.outputs(model, Batch("train", torch.arange(8)))) == 8


def test_a_last_batch_of_one_image_is_explained() -> None:
    deep = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 16),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    )
    source = load_source(
        deep, mean=0.5, std=0.2, image_size=16, class_names=list("abcde"), head="3"
    )
    settings = get_method("full-finetune").settings.updated({"epochs": 1, "batch_size": 53})
    cell = Cell("deep", "tiny", "full-finetune", settings=settings)  # 54 images to train on
    with pytest.raises(InputError, match="batch of 1 image.*batches of 53.*another batch_size"):
        run_cell(cell, source=source, task=tiny_task())


def test_a_container_s_limit_is_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    whole = available_memory()
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert available_memory() == (None if whole is None else 3_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert whole is None or available_memory() > 3_000_000
