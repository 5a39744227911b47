"""From sensitivities to factors, for each of the library's transformations and mappings.

A prompt that is added to every image alike is pulled back by its own derivative; a linear layer is
a Khatri-Rao factor; anything else (a learned scale, a mask network) is differentiated image by
image, while the source's k passes are shared by all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.analysis.ntk.closed_forms import with_one
from reprogram.analysis.ntk.factor import Factor
from reprogram.analysis.ntk.sensitivities import Sensitivities
from reprogram.input_transforms import FC, AdditivePrompt, FCPad, InputTransform, SharedPrompt
from reprogram.output_mappings import LinearMapping

__all__ = ["Pullback", "pullbacks_of"]

Parameters = dict[str, Tensor]


class Pullback(ABC):
    """One group of a model's parameters: its factor, and its part of a parameter vector."""

    width: int

    @abstractmethod
    def factor(self, s: Sensitivities) -> Factor:
        """The Jacobian of a batch with respect to this group."""

    @abstractmethod
    def unravel(self, vector: Float[Tensor, " p"]) -> Parameters:
        """A vector of this group's parameters in the factor's order, by their names."""


class PromptPullback(Pullback):
    """z = place(x) + prompt(theta): J = S d prompt / d theta, the same map for every image.

    Entries that never reach the image (those of a border prompt under the image, a low-rank A
    behind B = 0) are left out: their columns of J are zero.

    Args:
        transform: The prompt.
        prefix: Of its parameter names in the model.
    """

    def __init__(self, transform: SharedPrompt, prefix: str) -> None:
        self.transform, self.prefix = transform, prefix
        self.params = _trainable(transform)
        module = _Prompt(transform)

        def prompt(p: Parameters) -> Tensor:
            named = {f"transform.{name}": value for name, value in p.items()}
            return torch.func.functional_call(module, named, ())

        pulled = torch.func.vjp(prompt, self.params)
        self.vjp = pulled[1]
        # The map is linear: what a random image's gradient does not reach, none does.
        probe = torch.randn(pulled[0].shape, generator=torch.Generator().manual_seed(0))
        reached = torch.cat([g.flatten() for g in self.vjp(probe.to(pulled[0]))[0].values()])
        self.active = reached.nonzero().squeeze(1)
        self.width = len(self.active)

    def factor(self, s: Sensitivities) -> Factor:
        assert s.gradients is not None
        gradients = s.gradients
        if isinstance(self.transform, AdditivePrompt) and self.transform.clamp:
            with torch.no_grad():
                free = self.transform.place(s.x) + self.transform.prompt()
            gradients = gradients * ((free >= 0) & (free <= 1))[:, None]
        n, k = gradients.shape[:2]
        pulled = torch.vmap(lambda g: self.vjp(g)[0])(gradients.flatten(0, 1))
        columns = torch.cat([g.flatten(1) for g in pulled.values()], 1)
        if self.width < columns.shape[1]:
            columns = columns[:, self.active]
        return Factor(columns.view(n, k, -1))

    def unravel(self, vector: Float[Tensor, " p"]) -> Parameters:
        whole = vector.new_zeros(sum(p.numel() for p in self.params.values()))
        whole[self.active] = vector
        return _by_name(whole, self.params, self.prefix)


class LayerPullback(Pullback, ABC):
    """A linear layer W x + b as one Khatri-Rao factor; W, b or both are trained."""

    def __init__(self, layer: nn.Linear, prefix: str) -> None:
        self.layer, self.prefix = layer, prefix
        self.has_weight = layer.weight.requires_grad
        self.has_bias = layer.bias is not None and layer.bias.requires_grad
        self.width = layer.out_features * (self.has_weight * layer.in_features + self.has_bias)

    @abstractmethod
    def rows(self, s: Sensitivities) -> Float[Tensor, "n k d"]:
        """Gradients by what the layer gives."""

    @abstractmethod
    def inputs(self, s: Sensitivities) -> Float[Tensor, "n q"]:
        """What the layer reads."""

    def factor(self, s: Sensitivities) -> Factor:
        x = self.inputs(s)
        if not self.has_weight:
            return Factor(self.rows(s))
        return Factor(self.rows(s), with_one(x) if self.has_bias else x)

    def unravel(self, vector: Float[Tensor, " p"]) -> Parameters:
        table = vector.view(self.layer.out_features, -1)
        named = {}
        if self.has_weight:
            named[f"{self.prefix}weight"] = table[:, : self.layer.in_features]
        if self.has_bias:
            named[f"{self.prefix}bias"] = table[:, -1]
        return named


class ImageLayerPullback(LayerPullback):
    """The dense map of FC, or of MIX inside its border."""

    def __init__(self, transform: FC | FCPad, prefix: str) -> None:
        super().__init__(transform.linear, prefix)
        self.transform = transform

    def rows(self, s: Sensitivities) -> Float[Tensor, "n k d"]:
        assert s.gradients is not None
        if isinstance(self.transform, FC):
            return s.gradients.flatten(2)
        padding, side = self.transform.padding, self.transform.image_size
        window = s.gradients[
            ..., padding.top : padding.top + side, padding.left : padding.left + side
        ]
        return window.flatten(2)

    def inputs(self, s: Sensitivities) -> Float[Tensor, "n q"]:
        return s.x.flatten(1)


class MappingPullback(LayerPullback):
    """A trained linear mapping: its rows are the combinations of the target logits themselves."""

    def __init__(self, mapping: LinearMapping, combinations: Tensor) -> None:
        super().__init__(mapping.linear, "mapping.linear.")
        self.combinations = combinations

    def rows(self, s: Sensitivities) -> Float[Tensor, "n k d"]:
        return self.combinations.expand(len(s.outputs), -1, -1)

    def inputs(self, s: Sensitivities) -> Float[Tensor, "n q"]:
        return s.outputs


class ImagePullback(Pullback):
    """Any other transformation, differentiated image by image.

    Args:
        transform: Of any kind, in eval mode.
        prefix: Of its parameter names in the model.
    """

    def __init__(self, transform: InputTransform, prefix: str) -> None:
        self.transform, self.prefix = transform, prefix
        self.params = _trainable(transform)
        self.width = sum(p.numel() for p in self.params.values())

    def factor(self, s: Sensitivities) -> Factor:
        assert s.gradients is not None

        def of_image(x: Tensor, gradients: Tensor) -> Parameters:
            def image(p: Parameters) -> Tensor:
                return torch.func.functional_call(self.transform, p, (x[None],))[0]

            vjp = torch.func.vjp(image, self.params)[1]
            return torch.vmap(lambda g: vjp(g)[0])(gradients)

        pulled = torch.vmap(of_image)(s.x, s.gradients)
        n, k = s.gradients.shape[:2]
        return Factor(torch.cat([g.reshape(n, k, -1) for g in pulled.values()], 2))

    def unravel(self, vector: Float[Tensor, " p"]) -> Parameters:
        return _by_name(vector, self.params, self.prefix)


def pullbacks_of(
    transform: InputTransform, mapping: nn.Module, combinations: Float[Tensor, "k target"]
) -> list[Pullback]:
    """The trained parameters of a transformation and a mapping, group by group.

    Args:
        transform: In eval mode.
        mapping: Trained only where it is a :class:`LinearMapping`.
        combinations: (k, T) combinations of the target logits that are differentiated.
    """
    groups = _transform_pullbacks(transform, "input_transform.")
    if isinstance(mapping, LinearMapping):
        groups.append(MappingPullback(mapping, combinations))
    return [group for group in groups if group.width]


def _transform_pullbacks(transform: InputTransform, prefix: str) -> list[Pullback]:
    if not _trainable(transform):
        return []
    if isinstance(transform, FC):
        return [ImageLayerPullback(transform, f"{prefix}linear.")]
    if isinstance(transform, FCPad):
        border = _transform_pullbacks(transform.padding, f"{prefix}padding.")
        return [*border, ImageLayerPullback(transform, f"{prefix}linear.")]
    if isinstance(transform, SharedPrompt) and (
        transform.shared or isinstance(transform, AdditivePrompt)
    ):
        return [PromptPullback(transform, prefix)]
    return [ImagePullback(transform, prefix)]


class _Prompt(nn.Module):
    """The part of a shared prompt that does not depend on the image, as a module."""

    def __init__(self, transform: SharedPrompt) -> None:
        super().__init__()
        self.transform = transform

    def forward(self) -> Float[Tensor, "3 H W"]:
        return self.transform.prompt()


def _trainable(module: nn.Module) -> Parameters:
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}


def _by_name(vector: Tensor, params: Parameters, prefix: str) -> Parameters:
    parts = vector.split([p.numel() for p in params.values()])
    return {
        f"{prefix}{name}": part.view(p.shape)
        for part, (name, p) in zip(parts, params.items(), strict=True)
    }
