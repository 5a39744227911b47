"""A reprogrammed model: input transformation, frozen source, output mapping.

    target inputs -> InputTransform -> Source (frozen) -> OutputMapping -> target logits

Everything this package trains is one such module. Methods differ in its three parts and in which
parameters require a gradient, so :func:`trainable` feeds the optimizer, the parameter count and the
neural tangent kernel alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.input_transforms import InputTransform
from reprogram.output_mappings import OutputMapping
from reprogram.sources import Source

__all__ = ["Reprogrammed", "count_parameters", "functional", "trainable"]


class Reprogrammed(nn.Module):
    """Target inputs to target logits through a source classifier.

    Args:
        input_transform: g, from target inputs in [0, 1] to source inputs before normalisation.
        source: f, normalises and classifies; frozen in every method but full fine-tuning.
        mapping: m, from the source's logits (or its features) to target logits.
        class_names: Name of each target logit.
    """

    def __init__(
        self,
        input_transform: InputTransform,
        source: Source,
        mapping: OutputMapping,
        class_names: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.input_transform = input_transform
        self.source = source
        self.mapping = mapping
        self.class_names = class_names
        self.record: dict[str, Any] | None = None  # the row of the run that made this model

    def outputs(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch source"]:
        """What the mapping reads: source logits or features of the transformed inputs."""
        z = self.input_transform(x)
        return self.source.features(z) if self.mapping.reads == "features" else self.source(z)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch target"]:
        return self.mapping(self.outputs(x))

    def own_tensors(self) -> dict[str, Tensor]:
        """Every tensor that is not bitwise the source's: what an artefact and a checkpoint store."""
        own = {f"input_transform.{k}": v for k, v in self.input_transform.state_dict().items()}
        own |= {f"mapping.{k}": v for k, v in self.mapping.state_dict().items()}
        return own | {f"source.{k}": v for k, v in self.source.changed_tensors().items()}

    @property
    def stored_bytes(self) -> int:
        """Bytes of what an artefact stores."""
        return sum(t.numel() * t.element_size() for t in self.own_tensors().values())

    def load_own_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`own_tensors` gave; the source's other tensors stay as they are."""
        parts: dict[str, dict[str, Tensor]] = {"input_transform": {}, "mapping": {}, "source": {}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor
        self.input_transform.load_state_dict(parts["input_transform"])
        self.mapping.load_state_dict(parts["mapping"])
        self.source.load_changed(parts["source"])

    def save_pretrained(self, path: str | Path) -> Path:
        """Store everything but the source; see :mod:`reprogram.artefact`."""
        from reprogram import artefact

        return artefact.save(self, path)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, source: Source | None = None, **source_options: Any
    ) -> Reprogrammed:
        """Load what :meth:`save_pretrained` stored; a source with other weights is refused."""
        from reprogram import artefact

        return artefact.load(path, source, **source_options)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def count_parameters(model: Reprogrammed) -> int:
    """Number of values that training can change; entries beneath a padded image are not counted.

    A padding prompt of 28 in 32 pixels has 3 (32^2 - 28^2) = 720, though its tensor holds 3,072.
    """
    return sum(p.numel() for p in trainable(model).values()) - model.input_transform.idle


def functional(
    model: nn.Module,
) -> tuple[Callable[[Mapping[str, Tensor], Tensor], Tensor], dict[str, Tensor]]:
    """The model as a pure function of its trainable parameters, for kernels and `torch.func`.

    The model is put into eval mode: in train mode BatchNorm would couple the examples of a batch.

    Returns:
        f and params: f(params, x) maps (n, c, h, w) to target logits (n, k).
    """
    model.eval()
    params = {name: p.detach() for name, p in trainable(model).items()}

    def f(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(params), (x,))

    return f, params
