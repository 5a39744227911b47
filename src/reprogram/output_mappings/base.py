"""What every output mapping is: the source's outputs in, target logits out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprogram.errors import InputError

__all__ = ["MatrixMapping", "OutputMapping"]


class OutputMapping(nn.Module, ABC):
    """m: what the source gives to target logits.

    Args:
        num_source_classes: S, number of outputs that it reads.
        num_target_classes: T, number of logits that it gives.

    Attributes:
        reads: "logits" of the source, or its "features".
        refit: When :meth:`fit` is called: "never", at the "start" or before every "epoch".
    """

    reads: str = "logits"
    refit: str = "never"

    def __init__(self, num_source_classes: int, num_target_classes: int) -> None:
        super().__init__()
        for name, n in (
            ("num_source_classes", num_source_classes),
            ("num_target_classes", num_target_classes),
        ):
            if n < 1:
                raise InputError(f"{name} must be at least 1, got {n}.")
        self.num_source_classes = num_source_classes
        self.num_target_classes = num_target_classes

    def fit(self, outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"]) -> None:  # noqa: B027
        """Adapt, without a gradient, to outputs for the un-augmented training images.

        A mapping whose `refit` is "never" stays as it is.

        Args:
            outputs: The source's logits under the current prompt in eval mode.
            labels: Target classes, 0 to T - 1.
        """

    @property
    def matrix(self) -> Float[Tensor, "source target"] | None:
        """W of target logits = outputs @ W + constant; None of a mapping that is not linear."""
        return None

    @abstractmethod
    def forward(self, outputs: Float[Tensor, "batch source"]) -> Float[Tensor, "batch target"]:
        """Target logits."""

    def extra_repr(self) -> str:
        return f"{self.num_source_classes} -> {self.num_target_classes}, refit={self.refit}"


class MatrixMapping(OutputMapping, ABC):
    """A mapping without trained parameters: target logits = source logits @ W.

    Attributes:
        weight: (S, T) buffer W, stored with the prompt; zero until :meth:`fit` where W is fitted.
    """

    weight: Tensor

    def __init__(self, num_source_classes: int, num_target_classes: int) -> None:
        super().__init__(num_source_classes, num_target_classes)
        self.register_buffer("weight", torch.zeros(num_source_classes, num_target_classes))

    @property
    def matrix(self) -> Float[Tensor, "source target"]:
        return self.weight

    def forward(self, outputs: Float[Tensor, "batch source"]) -> Float[Tensor, "batch target"]:
        return outputs @ self.weight

    def checked(self, outputs: Tensor) -> Tensor:
        """The outputs, detached and on the CPU, where sums have one order.

        Raises:
            InputError: They are not (n, S) or not finite.
        """
        if outputs.ndim != 2 or outputs.shape[1] != self.num_source_classes:
            raise InputError(
                f"outputs must have shape (n, {self.num_source_classes}), one column a source "
                f"class, got {tuple(outputs.shape)}."
            )
        outputs = outputs.detach().cpu()
        if not outputs.isfinite().all():
            bad = int((~outputs.isfinite()).any(1).sum())
            raise InputError(
                f"outputs must be finite, got NaN or infinity for {bad} of {len(outputs)} images. "
                "Lower the learning rate of the prompt."
            )
        return outputs
