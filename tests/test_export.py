"""Exported graphs compute what the model computes, for other batch sizes too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import tiny_source, tiny_task

import reprogram as rp
from reprogram.export import export

METHODS = ["pad+ilm", "smm+blm+", "full+linear", "scale+ilm", "head-finetune", "full-finetune"]


def fitted(method: str) -> rp.Reprogrammed:
    return rp.fit(tiny_source(), tiny_task(), method, progress=False, epochs=1, batch_size=16)


def pixels(model: rp.Reprogrammed, n: int) -> torch.Tensor:
    return torch.rand(n, 3, *[model.input_transform.image_size] * 2)


@pytest.mark.parametrize("method", METHODS)
def test_torch_export(method: str, tmp_path: Path) -> None:
    model = fitted(method)
    assert export(model, tmp_path / "model.pt2", "pt2") < 1e-5
    graph = torch.export.load(str(tmp_path / "model.pt2")).module()
    for n in (1, 7):
        x = pixels(model, n)
        torch.testing.assert_close(graph(x), model(x))


@pytest.mark.parametrize("method", ["pad+ilm", "smm+ilm", "head-finetune"])
@pytest.mark.filterwarnings("ignore")  # torch.onnx's own
def test_onnx(method: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    model = fitted(method)
    assert export(model, tmp_path / "model.onnx", "onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    x = pixels(model, 5)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(x), rtol=1e-4, atol=1e-4)


def test_a_graph_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted("pad+ilm")
    monkeypatch.setattr("reprogram.export.TOLERANCE", -1.0)
    with pytest.raises(rp.InputError, match="differs from the model"):
        export(model, tmp_path / "model.pt2", "pt2")
