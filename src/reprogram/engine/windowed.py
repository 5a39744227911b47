"""Padding prompts by the shared background: convolutions run on the image's window only."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.data.batches import ResidentData
from reprogram.engine.folded import FoldedEngine
from reprogram.engine.window import Background, Planned, plan_window
from reprogram.errors import InputError
from reprogram.input_transforms import BorderPrompt
from reprogram.model import Reprogrammed
from reprogram.sources import NetworkSource

__all__ = ["WindowEngine", "plan_padding"]


def plan_padding(source: NetworkSource, transform: BorderPrompt) -> Planned:
    """The windowed forward pass of a source for the images of a padding prompt."""
    return plan_window(
        source.network, canvas=transform.canvas, image_size=transform.image_size,
        top=transform.top, left=transform.left, head=source.head,
    )  # fmt: skip


class WindowEngine(FoldedEngine):
    """The prompt's canvas goes through the network once a batch, the images through their windows.

    Attributes:
        reason: Why the folded engine is as fast here; "" where windows pay.

    Raises:
        InputError: The prompt is no border around the image, or the network cannot be followed.
    """

    name = "window"

    def __init__(
        self, model: Reprogrammed, data: ResidentData, device: torch.device, precision: str
    ) -> None:
        transform = model.input_transform
        if not isinstance(transform, BorderPrompt):
            raise InputError(
                "engine=window needs a padding prompt (pad or pad-raw). Use engine=auto."
            )
        super().__init__(model, data, device, precision)
        plan, self.reason = plan_padding(self.source, transform)
        if plan is None:
            raise InputError(f"engine=window cannot follow this source: {self.reason}")
        self._plan = plan
        self._prepared: tuple[Tensor, Background] | None = None

    def forward(self, model: Reprogrammed, x: Tensor) -> Float[Tensor, "batch source"]:
        transform = model.input_transform
        assert isinstance(transform, BorderPrompt)
        background = self._background(self.source.normalise(transform.prompt()[None]))
        patches = self.source.normalise(transform.check(x))
        if model.mapping.reads == "features":
            return self._plan.logits_and_features(background, patches)[1]
        return self._plan.run(background, patches)

    def _background(self, canvas: Float[Tensor, "1 3 H W"]) -> Tensor | Background:
        """Where nothing is trained, the maps of an equal canvas serve every batch of a pass."""
        if torch.is_grad_enabled():
            return canvas
        if self._prepared is None or not torch.equal(self._prepared[0], canvas):
            self._prepared = canvas, self._plan.prepare(canvas)
        return self._prepared[1]
