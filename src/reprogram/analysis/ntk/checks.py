"""What cannot have a kernel is refused in front of the computation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.input_transforms import Patch

__all__ = ["check_finite", "check_trainable", "refuse_train_mode"]


def refuse_train_mode(model: nn.Module) -> None:
    """Refuse modules whose train mode couples the examples of a batch or is random.

    Raises:
        InputError: BatchNorm, dropout or a random patch in train mode.
    """
    for name, module in model.named_modules():
        if module.training and _differs_in_train_mode(module):
            raise InputError(
                f"{name or 'the model'} ({type(module).__name__}) is in train mode, where the "
                "gradient of one example is not its own. Call model.eval() first."
            )


def _differs_in_train_mode(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    if isinstance(module, Patch):
        return module.position == "random"
    return "drop" in type(module).__name__.lower()  # also the stochastic depth of other libraries


def check_trainable(params: Mapping[str, Tensor]) -> None:
    """Refuse a model in which nothing is trained.

    Raises:
        InputError: No parameters.
    """
    if not any(p.numel() for p in params.values()):
        raise InputError(
            "the model has no trainable parameters, so it has no tangent kernel. "
            "Use a prompt such as pad, or the mapping linear."
        )


def check_finite(values: Tensor, what: str = "gradients") -> Tensor:
    """The values themselves.

    Args:
        values: (n, ...) with one example a row.
        what: Their name.

    Raises:
        InputError: NaN or infinity among them.
    """
    if not torch.isfinite(values.sum()):  # one pass; a sum of finite values can only overflow
        bad = ~torch.isfinite(values.flatten(1)).all(1)
        if bad.any():
            raise InputError(
                f"{what} must be finite, got NaN or infinity for {int(bad.sum())} of "
                f"{len(values)} examples (the first is {int(bad.nonzero()[0])}). Lower the "
                "learning rate that made this model, or look at its inputs."
            )
    return values
