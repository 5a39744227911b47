"""One stored matrix in one safetensors file: written row block by row block, read memory-mapped.

The file is its whole length or not there, and says what it holds: a reader that asks for another
key, or finds a file that was cut off, gets nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reprogram.files import replacing

__all__ = ["file_size", "read_matrix", "write_matrix"]

_NAME = "outputs"
_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}


def file_size(key: str, shape: tuple[int, int], dtype: torch.dtype) -> int:
    """Bytes of the file that :func:`write_matrix` makes."""
    return len(_header(key, shape, dtype)) + shape[0] * shape[1] * dtype.itemsize


def write_matrix(
    path: Path, key: str, shape: tuple[int, int], dtype: torch.dtype, blocks: Iterable[Tensor]
) -> None:
    """Write the rows that `blocks` yields, one block in memory at a time.

    Args:
        path: The file; it appears when its last byte is on the disk.
        key: What the rows were made from; :func:`read_matrix` asks for it.
        shape: Rows and columns of the whole matrix.
        dtype: Of every block.
        blocks: Matrices that together have `shape`.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(key, shape, dtype))
        start = file.tell()
        for block in blocks:
            file.write(block.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        written = file.tell() - start
        if written != shape[0] * shape[1] * dtype.itemsize:
            raise ValueError(f"{written} bytes of rows for a matrix of {shape} and {dtype}")


def read_matrix(path: Path, key: str) -> Float[Tensor, "n d"] | None:
    """The matrix in a file, mapped and not yet read; None where there is none of that key.

    The tensor must not be written to.
    """
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return file.get_tensor(_NAME)
    except (OSError, SafetensorError):  # not there, or not whole
        return None


def _header(key: str, shape: tuple[int, int], dtype: torch.dtype) -> bytes:
    """Length of the JSON text as eight bytes, then the text, padded to a multiple of eight."""
    size = shape[0] * shape[1] * dtype.itemsize
    entry = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": {"key": key}, _NAME: entry}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
