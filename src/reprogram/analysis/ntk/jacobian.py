"""Jacobians of a batch, one interface for all ways of computing them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

import torch
from jaxtyping import Float, Num
from torch import Tensor

from reprogram.analysis.ntk.checks import check_finite, check_trainable, refuse_train_mode
from reprogram.analysis.ntk.factor import Factor
from reprogram.analysis.ntk.pullback import LayerPullback, pullbacks_of
from reprogram.analysis.ntk.sensitivities import SensitivitySource
from reprogram.engine.folded import is_frozen_network
from reprogram.errors import InputError, unknown
from reprogram.linearized import Linearized
from reprogram.model import Reprogrammed, functional, trainable
from reprogram.output_mappings import LinearMapping

__all__ = [
    "ROWS", "Function", "FunctionJacobian", "Jacobian", "SensitivityJacobian", "jacobian_of",
]  # fmt: skip

Result = TypeVar("Result")
Function = Callable[[Mapping[str, Tensor], Tensor], Tensor]
ROWS = ("auto", "sensitivities", "jacobian")
ROWS_LIMIT = 256 << 20  # bytes of a batch's rows
COPIES = 4  # of them, on the way from gradients to a table


class Jacobian(ABC):
    """k combinations of the outputs, differentiated by every trained parameter.

    Attributes:
        rows: Name of the way: "sensitivities" or "jacobian".
        parameters: P, entries that are counted.
        outputs: k, rows an example.
        device: Where the model is.
    """

    rows: str
    parameters: int
    outputs: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def factors(self, x: Float[Tensor, "n ..."]) -> list[Factor]:
        """The Jacobian of a batch, as factors that are the same in number and width for all."""

    @abstractmethod
    def unravel(self, vector: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """A vector of parameters in the order of the factors, by their names in the model."""

    @abstractmethod
    def batch_size(self, x: Num[Tensor, "n ..."], max_memory: int) -> int:
        """Examples of a batch whose Jacobian is computed at once, its rows within so many bytes."""

    def _fitting(self, fast: int, numbers: int, max_memory: int) -> int:
        """At most `fast` examples, and few enough for rows of so many numbers an output."""
        row = self.outputs * numbers * self.dtype.itemsize
        return max(1, min(fast, min(ROWS_LIMIT, max_memory // COPIES) // max(1, row)))

    def keep_reads(self) -> None:
        """Keep what a model's mapping reads of the examples that come, for :meth:`reads`."""
        return None

    def reads(self, n: int) -> Float[Tensor, "n source"] | None:
        """What a model's mapping read of the first n examples; None where that was not kept."""
        return None


class FunctionJacobian(Jacobian):
    """Any callable: `vmap(jacrev)` of one example, in batches.

    Args:
        f: f(params, x) maps (n, ...) to (n, k); it treats examples apart.
        params: Trained parameters by name.
        example: (1, ...) an input, which tells k.
        combine: "full" for every output, "pseudo" for their sum / sqrt(k).
    """

    rows = "jacobian"

    def __init__(
        self, f: Function, params: Mapping[str, Tensor], example: Tensor, combine: str = "full"
    ) -> None:
        check_trainable(params)
        self.f, self.combine = f, combine
        self.params = {name: p.detach() for name, p in params.items()}
        with torch.no_grad():
            shape = _translated(
                lambda: torch.vmap(self._one, (None, 0))(self.params, example)
            ).shape
        if len(shape) != 2:
            raise InputError(
                f"f(params, x) must return (n, k), got {tuple(shape)} for one example. "
                "Flatten its outputs."
            )
        self.outputs = shape[1]
        self.parameters = sum(p.numel() for p in self.params.values())
        first = next(iter(self.params.values()))
        self.device, self.dtype = first.device, first.dtype

    def _one(self, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        outputs = self.f(params, x[None])[0]
        if self.combine == "pseudo":
            return (outputs.sum(-1) / outputs.shape[-1] ** 0.5)[None]
        return outputs

    def factors(self, x: Float[Tensor, "n ..."]) -> list[Factor]:
        per_example = torch.func.vmap(torch.func.jacrev(self._one), (None, 0))
        by_name = _translated(lambda: per_example(self.params, x))
        rows = torch.cat(
            [by_name[n].detach().reshape(*by_name[n].shape[:2], -1) for n in self.params], 2
        )
        return [Factor(check_finite(rows))]

    def unravel(self, vector: Float[Tensor, " p"]) -> dict[str, Tensor]:
        parts = vector.split([p.numel() for p in self.params.values()])
        return {n: v.view(p.shape) for v, (n, p) in zip(parts, self.params.items(), strict=True)}

    def batch_size(self, x: Num[Tensor, "n ..."], max_memory: int) -> int:
        # 16 images of 32 px are the fastest on a CPU.
        fast = min(64, 49152 // max(1, x[0].numel()))
        return self._fitting(fast, self.parameters, max_memory)


class SensitivityJacobian(Jacobian):
    """A reprogrammed model with a frozen source: k batched backward passes, then algebra.

    Args:
        model: In eval mode.
        combine: "full" for every target logit, "pseudo" for their sum / sqrt(k).
    """

    rows = "sensitivities"

    def __init__(self, model: Reprogrammed, combine: str = "full") -> None:
        check_trainable(trainable(model))
        k = model.mapping.num_target_classes
        combinations = (
            torch.full((1, k), k**-0.5, dtype=torch.float64) if combine == "pseudo" else None
        )
        self.source = SensitivitySource(model, combinations)
        self.groups = pullbacks_of(model.input_transform, model.mapping, self.source.combinations)
        self.outputs = len(self.source.combinations)
        self.parameters = sum(group.width for group in self.groups)
        self.device, self.dtype = model.source.mean.device, model.source.mean.dtype
        self._read: list[Tensor] | None = None

    def factors(self, x: Float[Tensor, "n ..."]) -> list[Factor]:
        s = self.source(x)
        if self._read is not None:
            self._read.append(s.outputs.cpu())
        return [
            Factor(check_finite(rows), inputs)
            for rows, inputs in (group.factor(s) for group in self.groups)
        ]

    def keep_reads(self) -> None:
        self._read = []

    def reads(self, n: int) -> Float[Tensor, "n source"] | None:
        read = self._read or []
        # Fewer are known where a stored Jacobian was taken up again.
        return torch.cat(read)[:n] if sum(map(len, read)) >= n else None

    def unravel(self, vector: Float[Tensor, " p"]) -> dict[str, Tensor]:
        parts = vector.split([group.width for group in self.groups])
        named: dict[str, Tensor] = {}
        for group, part in zip(self.groups, parts, strict=True):
            named |= group.unravel(part)
        return named

    def batch_size(self, x: Num[Tensor, "n ..."], max_memory: int) -> int:
        # Measured: 32 images of 32 px and 4 of 224 px on a CPU; a GPU wants full kernels instead.
        pixels = (1 << 15) if self.device.type == "cpu" else (1 << 21)
        side = self.source.model.source.image_size
        fast = max(4, min(1024, pixels // side**2))
        explicit = sum(g.width for g in self.groups if not isinstance(g, LayerPullback))
        return self._fitting(fast, 3 * side**2 + explicit, max_memory)


def jacobian_of(
    model: Reprogrammed, x: Num[Tensor, "n c h w"], *, rows: str = "auto", combine: str = "full"
) -> Jacobian:
    """The cheapest Jacobian of a model: sensitivities where the source is frozen.

    Args:
        model: In eval mode.
        x: Images; one of them is run.
        rows: "auto", "sensitivities" or "jacobian" (`torch.func`).
        combine: "full" or "pseudo".

    Raises:
        InputError: Train mode, nothing trained, or sensitivities of a source that trains.
    """
    if rows not in ROWS:
        raise unknown("rows", rows, ROWS)
    refuse_train_mode(model)
    if not len(x):
        raise InputError("a kernel needs at least one example, got none.")
    if rows == "auto":
        rows = "sensitivities" if has_sensitivities(model) else "jacobian"
    if rows == "sensitivities":
        if not has_sensitivities(model):
            raise InputError(
                "rows=sensitivities needs a frozen differentiable source and a mapping that is "
                "linear or not trained. Use rows=jacobian."
            )
        return SensitivityJacobian(model, combine)
    return FunctionJacobian(*functional(model), as_pixels(x[:1], model), combine)


def has_sensitivities(model: Reprogrammed) -> bool:
    """Whether everything trained lies in the input transformation or in a linear mapping.

    A first-order model has the gradients of its start wherever it has moved: those of the model's
    own parameters are others.
    """
    trained_mapping = any(p.requires_grad for p in model.mapping.parameters())
    return (
        not (isinstance(model, Linearized) and model.has_moved())
        and model.source.differentiable
        and is_frozen_network(model.source)
        and (isinstance(model.mapping, LinearMapping) or not trained_mapping)
    )


def as_pixels(x: Tensor, model: Reprogrammed) -> Tensor:
    """Images where and as the model takes them; stored bytes become [0, 1]."""
    like = model.source.mean
    return x.to(like.device, like.dtype).div(255) if x.dtype == torch.uint8 else x.to(like)


def _translated(run: Callable[[], Result]) -> Result:
    """Say what `torch.func` means where a module in train mode stops it."""
    try:
        return run()
    except (RuntimeError, ValueError) as error:
        _explain(error)


def _explain(error: Exception) -> NoReturn:
    text = str(error)
    if "randomness" in text:
        raise InputError(
            "f draws random numbers (dropout in train mode?). Call model.eval()."
        ) from error
    if "running_mean" in text or "more than 1 value per channel" in text:
        raise InputError(
            "f holds a BatchNorm in train mode, which couples examples. Call model.eval()."
        ) from error
    raise error
