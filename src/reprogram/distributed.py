"""Several devices by `torchrun`: every rank computes its share of each batch, gradients are summed.

The loss of a batch is a sum divided by the size of the *whole* batch, so summing the ranks'
gradients gives the gradient of one process up to rounding. Without torchrun every function here is
the identity. BatchNorm that trains (SMM's mask network, full fine-tuning) normalises each rank's
share by itself, and the first rank's running statistics are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reprogram.data.augmentation import Draw
from reprogram.data.batches import Batch

__all__ = [
    "barrier",
    "gather_rows",
    "is_main",
    "rank",
    "setup",
    "shard",
    "share_buffers",
    "sum_gradients",
    "sum_scalar",
    "world",
]


def setup() -> None:
    """Join the process group that torchrun describes; does nothing where it did not start us."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files and shows progress."""
    return rank() == 0


def shard(batch: Batch) -> Batch:
    """This rank's images of a batch: every world-th one."""
    if world() == 1:
        return batch
    mine = slice(rank(), None, world())
    draw = Draw(*(part[mine] for part in batch.draw)) if batch.draw else None
    return Batch(batch.split, batch.index[mine], draw)


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Add every rank's gradients; a rank without images adds zeros."""
    if world() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def sum_scalar(value: float) -> float:
    """The sum of every rank's number."""
    if world() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)


def gather_rows(rows: Tensor) -> Tensor:
    """Put the ranks' shares of a batch, made by :func:`shard`, back in the batch's order."""
    if world() == 1:
        return rows
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(world())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    longest = int(max(counts))
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(parts, padded)
    # Rank r holds rows r, r + world, ...: interleaved, the padding lies at the end.
    return torch.stack(parts, 1).flatten(0, 1)[: int(sum(counts))]


def share_buffers(model: nn.Module) -> None:
    """Give every rank the first one's buffers: BatchNorm statistics that training has moved."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def barrier() -> None:
    """Wait until every rank is here."""
    if world() > 1:
        dist.barrier()
