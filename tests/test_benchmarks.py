"""The benchmark's peer is the published loop, no slower; its rows measure what they name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases import CANVAS, tiny_source, tiny_task
from torch import Tensor

from benchmarks import gpu, growth, ours
from benchmarks.__main__ import choose, main
from benchmarks.document import Document
from benchmarks.matmul import SHAPES, rates_of
from benchmarks.peer import FullPrompt, Loop, PaddingPrompt, Probe, frequency_mapping
from benchmarks.registry import Measured, Row
from benchmarks.rows import GPU_ROWS, ROWS
from benchmarks.scale import Scale
from reprogram.data.batches import Batch
from reprogram.engine import Engine
from reprogram.errors import InputError
from reprogram.model import Reprogrammed
from reprogram.output_mappings import frequency_matrix

GOALS = {
    "pad32_train": 3.3, "pad32_eval": 2.8, "pad64_train": 1.9, "pad128_train": 1.3,
    "epoch_ilm": 4, "full_train": 1.35, "probe": 120, "probe_fractions": 400,
    "matmul_share_train": 0.75, "matmul_share_eval": 0.8, "memory": 0.4, "squeezenet_train": 2,
    "mobilenetv2_train": 2,
}  # fmt: skip


def trial_and_peer(method: str, **changes) -> tuple[ours.Trial, Loop, Tensor, Tensor]:
    """A method with the plain engine in float64, the peer's loop, and the batch that both see."""
    source, task = tiny_source().double(), tiny_task(16)
    trial = ours.prepare(
        source,
        task,
        method,
        engine="plain",
        batch_size=16,
        epochs=4,
        schedule="constant",
        **changes,
    )
    full = method.startswith("full")
    loop = Loop(source, FullPrompt(source) if full else PaddingPrompt(source, 7), 3)
    loop.mapping = trial.model.mapping.weight.argmax(0)
    x = trial.data.render(trial.batch).double()
    return trial, loop, (x - source.mean) / source.std if full else x, trial.data.labels["train"]


@pytest.mark.parametrize(("method", "changes"), [("pad+rlm", {"size": 7}), ("full+rlm", {})])
def test_peer_computes_what_the_plain_engine_computes(method: str, changes: dict) -> None:
    trial, loop, x, labels = trial_and_peer(method, **changes)
    logits = trial.model.mapping(trial.engine.outputs(trial.model, trial.batch))
    torch.nn.functional.cross_entropy(logits, labels).backward()
    loss, peer_logits = loop.loss(x, labels)
    loss.backward()
    torch.testing.assert_close(peer_logits, logits, rtol=0, atol=1e-12)
    delta = trial.model.input_transform.delta
    assert delta.grad.abs().max() > 1e-6
    torch.testing.assert_close(loop.prompt.delta.grad, delta.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("method", "changes"), [("pad+rlm", {"size": 7}), ("full+rlm", {})])
def test_peer_trains_the_same_prompt(method: str, changes: dict) -> None:
    """Four Adam steps at the published rate."""
    trial, loop, x, labels = trial_and_peer(method, **changes)
    ours.run(trial)
    for _ in range(4):
        loop.step(x, labels)
    delta = trial.model.input_transform.delta
    torch.testing.assert_close(loop.prompt.delta, delta, rtol=0, atol=1e-9)


def test_peer_computes_no_weight_gradient_and_is_otherwise_as_published() -> None:
    _, loop, x, labels = trial_and_peer("pad+rlm", size=7)
    loop.step(x, labels)
    assert not loop.network.training
    assert all(p.grad is None and p.is_contiguous() for p in loop.network.parameters())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in loop.network.modules())


def test_peer_mapping_is_ilms() -> None:
    for seed in range(200):
        torch.manual_seed(seed)
        n, s = int(torch.randint(1, 40, ())), int(torch.randint(3, 12, ()))
        t = int(torch.randint(2, min(s, 6) + 1, ()))
        outputs, labels = torch.rand(n, s), torch.randint(t, (n,))
        expected = frequency_matrix(outputs.argmax(1), labels, s, t).argmax(0)
        assert torch.equal(frequency_mapping(outputs, labels, t), expected)


@pytest.mark.parametrize(
    ("method", "reads"), [("linear-probe", "logits"), ("head-finetune", "features")]
)
def test_peer_probe_computes_what_the_plain_engine_computes(method: str, reads: str) -> None:
    source, task = tiny_source(), tiny_task(16)
    trial = ours.prepare(source, task, method, engine="plain", batch_size=16, epochs=1)
    probe = Probe(source, 3, reads)
    probe.head.load_state_dict(trial.model.mapping.linear.state_dict())
    images = [task.train.image(i) for i in range(16)]  # 8 px, resized to the canvas
    logits = probe.network(probe.load(images))
    torch.testing.assert_close(logits, ours.logits(trial), rtol=0, atol=1e-5)
    probe.train(images, trial.data.labels["train"], 16)
    trained = [p for p in probe.network.parameters() if p.grad is not None]
    assert {id(p) for p in trained} == {id(p) for p in probe.head.parameters()}


class Counting(Engine):
    """Counts the images that another engine answers for."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name, self.images = engine, engine.name, 0

    def outputs(self, model: Reprogrammed, batch: Batch) -> Tensor:
        self.images += len(batch.index)
        return self.engine.outputs(model, batch)


def counting(method: str, n_train: int, val: bool, **changes) -> tuple[ours.Trial, Counting]:
    trial = ours.prepare(tiny_source(), tiny_task(n_train, val=val), method, size=8, **changes)
    engine = Counting(trial.engine)
    return ours.Trial(trial.model, engine, trial.data, trial.plan, trial.settings), engine


def test_a_step_is_one_batch_and_the_peer_runs_between_steps() -> None:
    trial, engine = counting("pad+rlm", 16, val=False, batch_size=16, epochs=3)
    between: list[int] = []
    seen = ours.step_seconds(
        trial, lambda: between.append(engine.images), meter=lambda: engine.images
    )
    assert seen == [16, 16, 16]
    first = between[0]  # what the library looks at before it trains
    assert between == [first, first + 16, first + 32]


def test_an_epoch_is_mapping_pass_training_and_validation() -> None:
    trial, engine = counting("pad+ilm", 32, val=True, batch_size=8, epochs=3)
    between: list[int] = []
    seen = ours.epoch_seconds(
        trial, lambda: between.append(engine.images), meter=lambda: engine.images
    )
    assert seen == [32 + 32 + 15] * 2
    assert len(between) == 2


def test_every_row_of_the_table_is_there_with_its_goal() -> None:
    rows = {name: row for name, row in ROWS.items() if name in GOALS}
    assert {name: row.goal for name, row in rows.items()} == GOALS
    assert [name for name, row in rows.items() if row.better == "lower"] == ["memory"]
    assert not any(row.slow for row in rows.values())
    assert all("projected" in rows[name].peer for name in ("probe", "probe_fractions"))


def test_slow_rows_need_their_name_or_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "slow_row", Row(lambda _: None, "", "", None, slow=True))
    assert "slow_row" not in choose(None, slow=False)
    assert "slow_row" in choose(None, slow=True)
    assert list(choose(["slow_row"], slow=False)) == ["slow_row"]


def test_ratio_and_goal() -> None:
    assert Measured(6.0, 2.0, "CPU s", 3).ratio == 3
    assert Measured(100.0, 25.0, "MiB", 1).ratio == 0.25
    assert Measured(200.0, 150.0, "GFLOP/s", 3).ratio == 0.75
    assert Measured(100.0, 300.0, "images/s", 3).ratio == 3
    higher, lower = ROWS["pad32_train"], ROWS["memory"]
    assert higher.reached(3.3) and not higher.reached(3.2)
    assert lower.reached(0.4) and not lower.reached(0.41)


def test_command_writes_the_document(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "rows.json"
    assert main(["--quick", "--only", "pad32_eval", "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    (row,) = document["rows"]
    assert list(row) == [
        "name", "peer", "peer_value", "our_value", "unit", "ratio", "goal", "better", "n", "git_sha",
    ]  # fmt: skip
    assert row["name"] == "pad32_eval" and row["unit"] == "CPU s"
    assert row["ratio"] == row["peer_value"] / row["our_value"] > 0
    assert document["environment"]["threads"] == 1
    assert "pad32_eval" in capsys.readouterr().out


def test_rows_measured_later_join_the_document(tmp_path: Path) -> None:
    file, here = tmp_path / "rows.json", {"git_sha": "a", "cores": 2, "sizes": (1, 2)}
    Document(file, here).put([{"name": "memory", "n": 1}, {"name": "probe", "n": 1}])
    Document(file, here | {"git_sha": "b"}).put([{"name": "pad32_eval"}, {"name": "probe", "n": 3}])
    document = json.loads(file.read_text())
    assert document["environment"] == {"cores": 2, "sizes": [1, 2]}
    assert document["rows"] == [  # in the table's order
        {"name": "pad32_eval", "git_sha": "b"},
        {"name": "probe", "n": 3, "git_sha": "b"},
        {"name": "memory", "n": 1, "git_sha": "a"},
    ]
    with pytest.raises(InputError, match="holds rows of another cores"):
        Document(file, here | {"cores": 64})
    file.write_text("[]")
    with pytest.raises(InputError, match="no document of rows"):
        Document(file, here)


def test_unknown_row_is_bad_usage(capsys: pytest.CaptureFixture) -> None:
    assert main(["--only", "pad32_trian"]) == 2
    assert "Did you mean pad32_train" in capsys.readouterr().err


@pytest.mark.slow
def test_all_rows_in_small(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert main(["--quick", "--growth", str(tmp_path), "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["name"] for row in rows] == [name for name, row in ROWS.items() if not row.slow]
    assert (tmp_path / "growth.png").stat().st_size > 0


def test_matrix_product_rates_are_of_every_library() -> None:
    rates = rates_of(64, 64, 64)
    assert {"torch", "numpy"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())
    assert all(m >= 1024 for m, _, _ in SHAPES)


def test_growth_is_drawn_with_both_sides() -> None:
    points = {"x": [1, 2, 4], "peer": [1.0, 2.0, 4.0], "reprogram": [0.5, 1.0, 2.0]}
    figure = growth.draw({name: points for name in growth.PANELS})
    assert [len(axes.lines) for axes in figure.axes] == [2] * 4


def test_the_reports_table_counts_every_image() -> None:
    """One image a second everywhere: training, mapping pass, validation and test, in seconds."""
    trial = ours.prepare(tiny_source(), tiny_task(), "pad+ilm", size=8, batch_size=8, epochs=1)
    n, n_test = (sum(sizes) for sizes in zip(*gpu.SETS, strict=True))
    train = 50 * 3.0 * 0.9 * n  # the five fractions add up to 3
    val, test = 50 * 5 * 0.1 * n, 5 * n_test
    assert gpu.method_seconds(trial, 1, 1) == pytest.approx(2 * train + val + test)


def test_gpu_rows_are_there_where_cuda_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "KERNEL_IMAGES", 64)
    assert gpu.kernel(Scale(batch=2, repetitions=1, canvas=CANVAS, classes=2)).our_value > 0
    assert (set(GPU_ROWS) <= set(ROWS)) == torch.cuda.is_available()
    measured = gpu.evaluation(Scale(batch=2, repetitions=1, canvas=4 * CANVAS, classes=2))
    assert measured.unit == "images/s" and measured.our_value > 0
