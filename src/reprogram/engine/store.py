"""Stored features: where only the mapping is trained, the frozen body runs once over the images.

Every data fraction, seed and learning rate of a head or probe reads the same stored outputs; an
epoch then costs a matrix product. A flip needs a second stored view; a random crop would need one
for every position, so with crops another engine is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.data.augmentation import Augmentation, Draw
from reprogram.data.batches import Batch, ResidentData, in_order
from reprogram.engine.base import Engine
from reprogram.engine.feature_store import FeatureStore
from reprogram.engine.folded import folded_source, is_frozen_network
from reprogram.engine.plain import PlainEngine
from reprogram.engine.splitting import SplittingEngine
from reprogram.model import Reprogrammed
from reprogram.sources import Source, preprocessing_of
from reprogram.sources.state import fingerprint_of, tensors_of

__all__ = ["StoreEngine"]

_BATCH_SIZE = 256


class StoreEngine(Engine):
    """Looks outputs up; what is missing is computed once, in order, through the folded source.

    Args:
        model: Whose outputs; nothing in front of its mapping is trained.
        data: The images.
        device: Where missing outputs are computed.
        precision: "float32" or "bf16", in which they are.
        store: Where outputs are kept.
    """

    name = "store"

    def __init__(
        self,
        model: Reprogrammed,
        data: ResidentData,
        device: torch.device,
        precision: str,
        store: FeatureStore,
    ) -> None:
        self.data, self.device, self.precision, self.store = data, device, precision, store
        source = model.source
        self.dtype = source.mean.dtype
        # A row is an image's logits and, where the source has them, its features: one pass of the
        # body gives both, and a probe and a head share it.
        classes = source.num_classes
        self.width = classes + (source.num_features if _has_features(source) else 0)
        of_features = model.mapping.reads == "features"
        self.columns = slice(classes, self.width) if of_features else slice(0, classes)
        way = "folded" if is_frozen_network(source) else "plain"
        self._origin = {
            "weights": source.fingerprint,
            # Equal weights in another architecture are another function.
            "network": hashlib.sha256(repr(source).encode()).hexdigest(),
            "preprocessing": preprocessing_of(source),
            "head": getattr(source, "head", None),
            "transform": repr(model.input_transform),
            "transform_state": fingerprint_of(tensors_of(model.input_transform)),
            "size": data.size,
            "precision": f"{precision}, {self.dtype}",
            # Rounding differs between devices and ways to compute; a result must not.
            "computed": f"{way} on {device}, {_BATCH_SIZE} images a batch, "
            f"{torch.get_num_threads()} threads",
        }

    @staticmethod
    def views(model: Reprogrammed, augmentation: Augmentation) -> int:
        """Outputs of a training image that serve all epochs: 2 with flips, 0 where none can.

        They can where nothing in front of the mapping is trained and no image is cropped at random.
        """
        before = (*model.input_transform.parameters(), *model.source.parameters())
        if augmentation.margin or any(p.requires_grad for p in before):
            return 0
        return 2 if augmentation.flip else 1

    @staticmethod
    def serves(model: Reprogrammed, data: ResidentData) -> bool:
        """Whether it has views of the training images."""
        return StoreEngine.views(model, data.augmentation) > 0

    @property
    def size(self) -> int:
        """Bytes of every view that a run may read."""
        rows = sum(map(len, self.data.splits.values()))
        if self.data.augmentation.flip:
            rows += len(self.data.splits["train"])
        return rows * self.width * self.dtype.itemsize

    def outputs(self, model: Reprogrammed, batch: Batch) -> Float[Tensor, "batch source"]:
        straight = self._rows(model, batch, flip=False)
        if batch.draw is None or not batch.draw.flip.any():
            return straight
        mirrored = self._rows(model, batch, flip=True)
        return torch.where(batch.draw.flip[:, None].to(self.device), mirrored, straight)

    def _rows(self, model: Reprogrammed, batch: Batch, flip: bool) -> Tensor:
        images = self.data.splits[batch.split]
        view = {"images": images.fingerprint, "count": len(images), "flip": flip}
        key = json.dumps(self._origin | view)
        stored = self.store.get(key)
        if stored is None:
            shape = (len(images), self.width)
            with torch.no_grad():
                blocks = self._compute(model, batch.split, flip)
                stored = self.store.make(key, shape, self.dtype, blocks)
        return stored[:, self.columns][batch.index].to(self.device)

    def _compute(self, model: Reprogrammed, split: str, flip: bool) -> Iterator[Tensor]:
        engine = SplittingEngine(_Everything(model, self.data, self.device, self.precision))
        for batch in in_order(split, torch.arange(len(self.data.splits[split])), _BATCH_SIZE):
            yield engine.outputs(model, _mirrored(batch) if flip else batch)


class _Everything(PlainEngine):
    """Logits and, where the source has them, features side by side: one pass gives both."""

    def __init__(
        self, model: Reprogrammed, data: ResidentData, device: torch.device, precision: str
    ) -> None:
        super().__init__(data, device, precision)
        frozen = is_frozen_network(model.source)
        self.source = folded_source(model.source) if frozen else model.source

    def forward(self, model: Reprogrammed, x: Tensor) -> Float[Tensor, "batch source"]:
        z = model.input_transform(x)
        if not _has_features(self.source):
            return self.source(z)
        return torch.cat(self.source.logits_and_features(z), 1)


def _has_features(source: Source) -> bool:
    return getattr(source, "head", None) is not None


def _mirrored(batch: Batch) -> Batch:
    corner, flip = torch.zeros_like(batch.index), torch.ones_like(batch.index, dtype=torch.bool)
    return Batch(batch.split, batch.index, Draw(corner, corner, flip))
