"""What an engine is: one function from a model and a batch to what the mapping reads."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from reprogram.data.batches import Batch
from reprogram.model import Reprogrammed

__all__ = ["Engine"]


class Engine(ABC):
    """Answers `model.outputs` for a batch; may be fast about it, may not change the answer."""

    name: str

    @abstractmethod
    def outputs(self, model: Reprogrammed, batch: Batch) -> Float[Tensor, "batch source"]:
        """Source logits or features of the batch, with the graph that training needs."""
