"""What a training step takes on a CPU, known before the first: there nothing splits a batch."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reprogram.data.batches import Batch
from reprogram.engine.base import Engine
from reprogram.errors import InputError
from reprogram.model import Reprogrammed, trainable

__all__ = ["available_memory", "require_memory", "step_memory"]

CGROUP = Path("/sys/fs/cgroup")

# Gradient, Adam's two moments, the copy of the best state.
_COPIES = 4
# Networks hold up to a few hundred times their input: what is far from the limit is not measured.
_MOST_PER_INPUT = 1000


def require_memory(model: Reprogrammed, engine: Engine, batch: Batch) -> None:
    """Refuse a batch size whose training step would not fit the machine's free memory.

    Does nothing on other devices, where a batch that does not fit is split, and on systems that
    do not tell their free memory.

    Args:
        model: Left in eval mode, otherwise as it is.
        engine: Answers its outputs.
        batch: Of the size that training has.

    Raises:
        InputError: It does not fit; names the need and the batch size that would fit.
    """
    free, size = available_memory(), len(batch.index)
    inputs = 3 * size * model.input_transform.canvas**2 * model.source.mean.element_size()
    if free is None or model.source.mean.device.type != "cpu" or not _parameters(model):
        return
    if _MOST_PER_INPUT * inputs <= free:
        return
    fixed, each = step_memory(model, engine, batch)
    if fixed + size * each <= free:
        return
    fitting = (free - fixed) // each
    remedy = f"Use batch_size={fitting}" if fitting > 0 else "Use a smaller source"
    raise InputError(
        f"batch_size={size} needs about {(fixed + size * each) / 2**30:.1f} GiB to train, and "
        f"{free / 2**30:.1f} GiB are free. {remedy}, or a GPU."
    )


def step_memory(model: Reprogrammed, engine: Engine, batch: Batch) -> tuple[int, int]:
    """Bytes that a training step takes whatever the batch, and those of each of its images.

    Extrapolated from steps of two and four images; nothing is changed by them.
    """
    model.eval()  # so that no statistic moves and nothing is drawn
    with torch.no_grad():
        engine.outputs(model, _first(batch, 1))  # loads the images
    two, four = (_Held.by_step(model, engine, _first(batch, n)) for n in (2, 4))
    # The background of a padding prompt is computed in front of the images: its peak is no slope.
    each = max((four.peak - two.peak) // 2, (four.after_forward - two.after_forward) // 2, 1)
    state = sum(_COPIES * p.numel() * p.element_size() for p in trainable(model).values())
    return max(two.peak - 2 * each, 0) + state, each


def available_memory() -> int | None:
    """Bytes that can be used without swapping; None where the system does not tell.

    In a container with a limit of its own (cgroup, version 2) what that leaves, if it is less.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (kibibytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return None
    try:
        limit, used = (int((CGROUP / f"memory.{n}").read_text()) for n in ("max", "current"))
    except (OSError, ValueError):  # no container, or "max": no limit
        return 1024 * int(kibibytes)
    return min(1024 * int(kibibytes), max(0, limit - used))


def _first(batch: Batch, n: int) -> Batch:
    """The batch's first images, repeated where it has fewer."""
    return Batch(batch.split, batch.index[torch.arange(n) % len(batch.index)])


def _parameters(model: Reprogrammed) -> list[Tensor]:
    """What is trained in front of the mapping."""
    return [*trainable(model.input_transform).values(), *trainable(model.source).values()]


class _Held(TorchDispatchMode):
    """The most bytes that tensors made under it hold at once."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = self.now = self.after_forward = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in known}

    @classmethod
    def by_step(cls, model: Reprogrammed, engine: Engine, batch: Batch) -> _Held:
        """What a forward and a backward pass hold; no gradient is left."""
        with torch.enable_grad(), cls(model.parameters()) as held:
            outputs = engine.outputs(model, batch)
            held.after_forward = held.now
            torch.autograd.grad(outputs.sum(), _parameters(model), allow_unused=True)
        return held

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if size and address not in self._seen:
            self._seen.add(address)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, address, size).atexit = False

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size
