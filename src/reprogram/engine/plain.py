"""The definition: render the images, call the model as written."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.data.batches import Batch, ResidentData
from reprogram.engine.base import Engine
from reprogram.model import Reprogrammed

__all__ = ["PlainEngine"]


class PlainEngine(Engine):
    """Every other engine is tested against this one."""

    name = "plain"

    def __init__(self, data: ResidentData, device: torch.device, precision: str) -> None:
        self.data, self.device, self.precision = data, device, precision

    def outputs(self, model: Reprogrammed, batch: Batch) -> Float[Tensor, "batch source"]:
        return self.run(model, self.data.render(batch))

    def run(self, model: Reprogrammed, x: Tensor) -> Float[Tensor, "batch source"]:
        """The model's outputs for rendered pixels; bf16 ends in front of the mapping."""
        x = x.to(self.device, model.source.mean.dtype)
        if self.precision != "bf16":
            return self.forward(model, x)
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.forward(model, x).float()

    def forward(self, model: Reprogrammed, x: Tensor) -> Float[Tensor, "batch source"]:
        """What the engines that render images differ in."""
        return model.outputs(x)
