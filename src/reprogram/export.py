"""Export a reprogrammed model to torch.export or ONNX; the resize to its image size stays outside."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from reprogram.errors import InputError
from reprogram.files import replacing, write_bytes
from reprogram.linearized import Linearized
from reprogram.model import Reprogrammed

__all__ = ["export"]

TOLERANCE = 1e-4


def export(model: Reprogrammed, path: str | Path, kind: Literal["pt2", "onnx"]) -> float:
    """Write the model as a graph from (batch, 3, s, s) pixels in [0, 1] to target logits.

    Args:
        model: Left as it is.
        path: File to write.
        kind: "pt2" (torch.export) or "onnx" (extra `onnx`).

    Returns:
        Largest difference of the exported graph's logits from the model's own, on random images.

    Raises:
        InputError: The extra is missing, the exported graph computes something else, or the model
            is a first-order one, whose forward-mode derivative no graph holds.
    """
    if isinstance(model, Linearized):
        raise InputError(
            "a @linearized model has no graph to export: its forward pass is a derivative. Export "
            "the method that it linearises."
        )
    model = copy.deepcopy(model).cpu().eval()  # the caller's stays where it is
    side = model.input_transform.image_size
    x = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}}, strict=False)
    target = Path(path)
    if kind == "pt2":
        buffer = io.BytesIO()  # a file would have to be called .pt2 while it is half written
        torch.export.save(program, buffer)
        write_bytes(target, buffer.getvalue())
        found = torch.export.load(str(target)).module()(x)
    else:
        found = _onnx(program, target, x)
    with torch.no_grad():
        difference = float((found - model(x)).abs().max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"the exported graph differs from the model by {difference:.2g} (allowed {TOLERANCE:g}); "
            f"{target} should not be used."
        )
    return difference


def _onnx(program: torch.export.ExportedProgram, path: Path, x: Tensor) -> Tensor:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError('ONNX export needs an extra: pip install "reprogram[onnx]".') from error
    with replacing(path) as temporary:
        torch.onnx.export(
            program, (), str(temporary), input_names=["pixels"], output_names=["logits"],
            external_data=False, verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
