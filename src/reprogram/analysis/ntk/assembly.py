"""From a Jacobian to a table of all examples, and from tables to a dense kernel, within memory."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reprogram.analysis.ntk.factor import Factor, double_device, kernel, trace_kernel_of
from reprogram.analysis.ntk.jacobian import Jacobian
from reprogram.analysis.ntk.memory import gib, require_memory
from reprogram.analysis.ntk.table import FactorTable, OnProgress, fill, fingerprint
from reprogram.errors import InputError
from reprogram.model import Reprogrammed, trainable

__all__ = ["Work", "build_table", "contract", "store_key"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a computation may use, and whom it tells."""

    max_memory: int
    store: Path | None = None
    key: str = ""
    batch_size: int | None = None
    on_progress: OnProgress = lambda done, total: None
    prepare: Callable[[Tensor], Tensor] = lambda x: x


def store_key(model: Reprogrammed, jacobian: Jacobian, x: Tensor) -> str:
    """What a kept Jacobian belongs to: tensors and options of the model, what is trained, images."""
    state = dict(model.state_dict()) | dict(model.named_buffers())
    options = {
        name: value
        for name, value in vars(model.input_transform).items()
        if isinstance(value, bool | int | float | str) and name != "training"
    }
    names = ",".join(trainable(model))
    return fingerprint(
        state, names, repr(model), repr(sorted(options.items())), jacobian.rows,
        f"{jacobian.outputs}", x,
    )  # fmt: skip


def build_table(jacobian: Jacobian, x: Tensor, work: Work, scratch: Path) -> FactorTable:
    """J of all examples: in the store, in memory, or in a scratch directory where it is too large.

    Raises:
        InputError: One example is too large for memory, or all of them for the disk.
    """
    if jacobian.rows == "jacobian":
        row = jacobian.outputs * jacobian.parameters * jacobian.dtype.itemsize
        require_memory(
            row, work.max_memory, f"the Jacobian of one example, {jacobian.parameters:,} parameters,",
            "Use rows=sensitivities for a frozen source, or the matrix-free route.",
        )  # fmt: skip
    batch = work.batch_size or jacobian.batch_size(x, work.max_memory)
    table = FactorTable(len(x), work.store, work.key)
    first = [] if table.done else jacobian.factors(work.prepare(x[:batch]))
    missing = (len(x) - table.done) * sum(f.row_bytes() for f in first or table.factors)
    if work.store is None and missing > work.max_memory:
        _log.info("the Jacobian takes %s and lies in %s", gib(missing), scratch)
        table = FactorTable(len(x), scratch)
    if missing and table.path is not None:
        _require_disk(missing, table.path)
    if first:
        table.append(first)
    return fill(table, jacobian, x, batch, work.on_progress, work.prepare)


def _require_disk(size: int, folder: Path) -> None:
    """Refuse files that the disk does not hold: a full one would end the process where it writes."""
    there = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(there).free - (64 << 20)
    if size > free:
        raise InputError(
            f"the Jacobian takes {gib(size)} more in {folder}, whose disk has {gib(max(0, free))} to "
            "spare. Take fewer examples, the dual or the matrix-free route, or another store=."
        )


def contract(a: FactorTable, b: FactorTable, kind: str, device: torch.device) -> Tensor:
    """J(a) J(b)^T block by block; of one table only the blocks on and above the diagonal."""
    k, combine = a.factors[0].rows.shape[1], trace_kernel_of if kind == "trace" else kernel
    device = double_device(device)
    k = k if kind == "full" else 1
    values = torch.empty(a.n, k, b.n, k, dtype=torch.float64, device=device)
    examples = _block(a.factors, a.n, device)
    for rows, left in a.blocks(examples, device):
        left = [f.map(Tensor.double) for f in left]  # once, not once a product
        for columns, right in b.blocks(examples, device):
            if a is b and columns.start < rows.start:
                continue
            block = combine(left, right)
            if kind != "full":
                block = block.view(rows.stop - rows.start, 1, -1, 1)
            values[rows, :, columns] = block
            if a is b and columns != rows:
                values[columns, :, rows] = block.permute(2, 3, 0, 1)
    return values if kind == "full" else values.view(a.n, b.n)


def _block(factors: list[Factor], n: int, device: torch.device) -> int:
    """Examples of a block: 320 rows, which a CPU's cache likes, more on a GPU; at most 64 MiB."""
    rows = 320 if device.type == "cpu" else 8192
    largest = max(f.row_bytes() for f in factors)
    return max(1, min(n, rows // factors[0].rows.shape[1], (64 << 20) // largest))
