"""The Jacobian of many examples: built once, kept in memory or in memory-mapped files.

One product with the kernel by automatic differentiation costs a third of building J, so J is built
once. In files it survives an interruption: a progress file, replaced as a whole after every batch,
says how many examples are done and what they belong to.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from reprogram.analysis.ntk.factor import Factor
from reprogram.analysis.ntk.jacobian import Jacobian
from reprogram.errors import InputError
from reprogram.files import write_json

__all__ = ["FactorTable", "fingerprint"]

OnProgress = Callable[[int, int], None]  # examples done, examples in all
PROGRESS = "progress.json"


class FactorTable:
    """Factors of n examples, filled batch by batch.

    Args:
        n: Number of examples.
        path: Directory of the files; None keeps the arrays in memory, where the model is.
        key: What the rows belong to; files with another key are refused.

    Attributes:
        done: Examples that are filled.
    """

    def __init__(self, n: int, path: Path | None = None, key: str = "") -> None:
        self.n, self.path, self.key = n, path, key
        self.done = 0
        self.factors: list[Factor] = []
        self._files: list[np.memmap] = []
        if path is not None and (path / PROGRESS).exists():
            self._reopen(path)

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return self.n * sum(f.row_bytes() for f in self.factors)

    def reached(self) -> int:
        """Parameters that some output depends on, P: columns of J with an entry that is not 0.

        Of a linear layer those of rows and of inputs are counted apart, so their product is a bound.
        """
        found = 0
        for factor in self.factors:
            sides = (factor.rows.flatten(0, 1), factor.inputs)
            found += math.prod(_nonzero_columns(side) for side in sides if side is not None)
        return found

    def append(self, factors: Sequence[Factor]) -> None:
        """Put the next batch behind what is there."""
        if not self.factors:
            self.factors = [self._arrays(i, factor) for i, factor in enumerate(factors)]
        stop = self.done + len(factors[0].rows)
        for held, new in zip(self.factors, factors, strict=True):
            held.rows[self.done : stop] = new.rows.to(held.rows.device)
            if held.inputs is not None and new.inputs is not None:
                held.inputs[self.done : stop] = new.inputs.to(held.inputs.device)
        self.done = stop
        self._write_progress()

    def blocks(self, examples: int, device: torch.device) -> Iterator[tuple[slice, list[Factor]]]:
        """Consecutive examples, at most so many at a time, on a device."""
        for start in range(0, self.n, examples):
            part = slice(start, min(start + examples, self.n))

            def cut(array: Tensor, part: slice = part) -> Tensor:
                return array[part].to(device)

            yield part, [factor.map(cut) for factor in self.factors]

    def _arrays(self, i: int, like: Factor) -> Factor:
        inputs = None if like.inputs is None else self._array(f"inputs_{i}", like.inputs)
        return Factor(self._array(f"rows_{i}", like.rows), inputs)

    def _array(self, name: str, like: Tensor) -> Tensor:
        shape = (self.n, *like.shape[1:])
        if self.path is None:
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / f"{name}.npy"
        # float32 holds half precision as it is; numpy has no bf16.
        kind = np.float64 if like.dtype == torch.float64 else np.float32
        return self._kept(np.lib.format.open_memmap(file, "w+", kind, shape))

    def _kept(self, array: np.memmap) -> Tensor:
        self._files.append(array)
        return torch.from_numpy(array)

    def _write_progress(self) -> None:
        if self.path is None:
            return
        for array in self._files:  # rows first: what the progress file counts is on the disk
            array.flush()
        has_inputs = [f.inputs is not None for f in self.factors]
        document = {"key": self.key, "n": self.n, "done": self.done, "has_inputs": has_inputs}
        write_json(self.path / PROGRESS, document)

    def _reopen(self, path: Path) -> None:
        progress: dict[str, Any] = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        if (progress["key"], progress["n"]) != (self.key, self.n):
            raise InputError(
                f"store {str(path)!r} holds the Jacobian of another model or of other inputs. "
                "Name another directory, or delete this one."
            )
        self.done = progress["done"]
        for i, has_inputs in enumerate(progress["has_inputs"]):
            rows = self._kept(_opened(path / f"rows_{i}.npy"))
            inputs = self._kept(_opened(path / f"inputs_{i}.npy")) if has_inputs else None
            self.factors.append(Factor(rows, inputs))


def fill(
    table: FactorTable,
    jacobian: Jacobian,
    x: Num[Tensor, "n ..."],
    batch_size: int,
    on_progress: OnProgress,
    prepare: Callable[[Tensor], Tensor] = lambda x: x,
) -> FactorTable:
    """Fill a table from where it stands.

    Args:
        table: Of len(x) examples.
        jacobian: Whose rows it holds.
        x: All examples in order.
        batch_size: Examples at once.
        on_progress: Called with the examples done and in all.
        prepare: From stored examples to what the model takes.
    """
    on_progress(table.done, table.n)
    while table.done < table.n:
        table.append(jacobian.factors(prepare(x[table.done : table.done + batch_size])))
        on_progress(table.done, table.n)
    return table


def fingerprint(tensors: Mapping[str, Tensor], *more: Tensor | str) -> str:
    """Hash of tensors with their names, and of whatever else a Jacobian depends on."""
    digest = hashlib.sha256()
    for name, tensor in [*tensors.items(), *((str(i), m) for i, m in enumerate(more))]:
        digest.update(name.encode())
        if isinstance(tensor, str):
            digest.update(tensor.encode())
        else:
            value = tensor.detach().cpu().contiguous()
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _nonzero_columns(array: Float[Tensor, "m d"]) -> int:
    """Columns with an entry that is not 0, block by block, as the array may be a file."""
    parts = array.split(max(1, (16 << 20) // max(1, array.shape[1])))
    return int(torch.stack([part.ne(0).any(0) for part in parts]).any(0).sum())


def _opened(file: Path) -> np.memmap:
    return np.load(file, mmap_mode="r+", allow_pickle=False)
