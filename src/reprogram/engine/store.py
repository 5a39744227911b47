"""Stored features: where only the mapping is trained, the frozen body runs once over the images.

Every data fraction, seed and learning rate of a head or probe reads the same stored outputs; an
epoch then costs a matrix product. A flip needs a second stored view; a random crop would need one
for every position, so with crops the plain engine is used.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.data.batches import Batch, ResidentData, in_order
from reprogram.engine.base import Engine
from reprogram.engine.plain import PlainEngine
from reprogram.model import Reprogrammed
from reprogram.sources import preprocessing_of

__all__ = ["FeatureStore", "StoreEngine"]


class FeatureStore:
    """Outputs of frozen bodies, least recently used first, within a budget.

    Args:
        limit: Bytes to hold at most.
    """

    def __init__(self, limit: int = 2 << 30) -> None:
        self.limit = limit
        self._entries: OrderedDict[tuple, Tensor] = OrderedDict()

    def get(self, key: tuple) -> Tensor | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: tuple, outputs: Tensor) -> None:
        self._entries[key] = outputs
        while sum(map(_bytes, self._entries.values())) > self.limit and len(self._entries) > 1:
            self._entries.popitem(last=False)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class StoreEngine(Engine):
    """Looks outputs up; what is missing is computed once by the plain engine."""

    name = "store"

    def __init__(
        self,
        data: ResidentData,
        device: torch.device,
        precision: str,
        store: FeatureStore,
        batch_size: int = 256,
    ) -> None:
        self.plain = PlainEngine(data, device, precision)
        self.store, self.batch_size = store, batch_size

    @staticmethod
    def serves(model: Reprogrammed, data: ResidentData) -> bool:
        """Whether nothing in front of the mapping is trained and no image is cropped at random."""
        before = (*model.input_transform.parameters(), *model.source.parameters())
        return data.augmentation.margin == 0 and not any(p.requires_grad for p in before)

    def outputs(self, model: Reprogrammed, batch: Batch) -> Float[Tensor, "batch source"]:
        straight = self._view(model, batch.split, flip=False)[batch.index]
        if batch.draw is None or not batch.draw.flip.any():
            return straight
        mirrored = self._view(model, batch.split, flip=True)[batch.index]
        return torch.where(batch.draw.flip[:, None].to(straight.device), mirrored, straight)

    def _view(self, model: Reprogrammed, split: str, flip: bool) -> Tensor:
        data = self.plain.data
        images = data.splits[split]
        key = (
            model.source.fingerprint, preprocessing_of(model.source),
            getattr(model.source, "head", None), repr(model.input_transform), model.mapping.reads,
            images.fingerprint, data.size, self.plain.precision, str(self.plain.device), flip,
        )  # fmt: skip
        stored = self.store.get(key)
        if stored is None:
            stored = self._compute(model, split, flip)
            self.store.put(key, stored)
        return stored

    @torch.no_grad()
    def _compute(self, model: Reprogrammed, split: str, flip: bool) -> Tensor:
        everything = torch.arange(len(self.plain.data.splits[split]))
        parts = []
        for batch in in_order(split, everything, self.batch_size):
            x = self.plain.data.render(batch)
            parts.append(self.plain.run(model, x.flip(-1) if flip else x))
        return torch.cat(parts)
