"""export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from reprogram.cli.fit import open_model
from reprogram.cli.options import Common, Shared
from reprogram.cli.output import result
from reprogram.errors import InputError

__all__ = ["export"]


def export(
    directory: Path,
    *,
    to: Literal["onnx", "pt2"] = "onnx",
    out: Path | None = None,
    source: str | None = None,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Write a fitted model, source included, as one ONNX or torch.export file.

    Args:
        directory: What `reprogram fit` wrote.
        to: onnx (extra `onnx`) or pt2 (torch.export).
        out: File; by default model.onnx or model.pt2 in the directory.
        source: Where the source lies now, if it moved.
    """
    from reprogram.export import export as write

    path = out or directory / f"model.{to}"
    if path.is_dir():
        raise InputError(f"--out {path} is a directory. Give a file.")
    model = open_model(directory, source, common)
    difference = write(model, path, to)
    side = model.input_transform.image_size
    text = (
        f"exported {path}   input (batch, 3, {side}, {side}) in [0, 1]   "
        f"largest difference from the model {difference:.1e}"
    )
    result({"file": str(path), "difference": difference, "image_size": side}, text, common.json)
