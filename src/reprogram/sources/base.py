"""A source: a pretrained classifier that stays frozen, from pixels in [0, 1] to logits."""

from __future__ import annotations

import copy
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.sources.state import fingerprint_of, require_finite, same_bits, tensors_of
from reprogram.sources.weights import load_tensors

__all__ = ["NetworkSource", "Source", "require_head", "preprocessing_of"]


class Source(nn.Module, ABC):
    """What every source offers.

    Args:
        mean: Channel means of the source's own normalisation, of pixels in [0, 1].
        std: Channel standard deviations, of pixels in [0, 1].
        image_size: Side H of the square images it takes, pixels.
        class_names: One name a logit.
        name: What it was loaded by: "resnet18", "timm/NAME", a directory, "embedded".

    Attributes:
        differentiable: Whether logits carry a gradient to the input.
        variant: What the name does not tell: another head, the layers of a module of one's own.
    """

    differentiable: bool = True
    variant: str = ""
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: float | Sequence[float] | Tensor,
        std: float | Sequence[float] | Tensor,
        image_size: int,
        class_names: Sequence[str],
        name: str,
    ) -> None:
        super().__init__()
        if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
            raise InputError(f"image_size must be a whole number of pixels >= 1, got {image_size}.")
        self.name = name
        self.image_size = image_size
        self.class_names = tuple(class_names)
        self.num_classes = len(self.class_names)
        self.register_buffer("mean", _channels("mean", mean), persistent=False)
        self.register_buffer("std", _channels("std", std), persistent=False)
        if not ((0 <= self.mean) & (self.mean <= 1) & (0 < self.std) & (self.std <= 1)).all():
            raise InputError(
                "mean must be in [0, 1] and std in (0, 1], those of pixels from 0 to 1, got mean "
                f"{self.mean.flatten().tolist()} and std {self.std.flatten().tolist()}. Divide "
                "those of pixels from 0 to 255 by 255."
            )

    def normalise(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
        """(x - mean) / std for x in pixel units.

        Raises:
            InputError: x is not a float batch of three-channel images.
        """
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise InputError(
                f"a source takes floating point images (batch, 3, height, width) in [0, 1], got "
                f"{tuple(x.shape)} of {x.dtype}. Convert with images.float() / 255 and repeat a "
                "grey channel three times."
            )
        return (x - self.mean) / self.std

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch source"]:
        """Logits of images in pixel units, which may leave [0, 1]."""

    @property
    def num_features(self) -> int:
        """Width d of the penultimate features."""
        raise InputError(f"source {self.name!r} has no features. Use a mapping that reads logits.")

    def features(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch d"]:
        """What the classification head reads, globally average-pooled.

        Raises:
            InputError: The source has none.
        """
        return self.logits_and_features(x)[1]

    def logits_and_features(
        self, x: Float[Tensor, "batch 3 h w"]
    ) -> tuple[Float[Tensor, "batch source"], Float[Tensor, "batch d"]]:
        """Both from one pass.

        Raises:
            InputError: The source has no features.
        """
        raise InputError(f"source {self.name!r} has no features. Use a mapping that reads logits.")

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the frozen weights: equal hashes mean equal logits up to the file format."""

    def trainable_copy(self) -> Source:
        """A deep copy in ordinary train mode, for full fine-tuning.

        Raises:
            InputError: The source cannot be trained.
        """
        raise InputError(f"source {self.name!r} has no weights here that could be trained.")

    def changed_tensors(self) -> dict[str, Tensor]:
        """Tensors that are not bitwise the loaded source's, by name; {} for a frozen one."""
        return {}

    def load_changed(self, changed: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`changed_tensors` gave; a frozen source takes nothing.

        Raises:
            InputError: `changed` holds tensors.
        """
        if changed:
            raise InputError(
                f"source {self.name!r} is frozen and takes no changed tensors, got "
                f"{len(changed)}. Load them into its trainable_copy()."
            )


def preprocessing_of(source: Source) -> str:
    """Canvas, mean, standard deviation and variant: the same weights with others are another source."""
    mean, std = source.mean.flatten().tolist(), source.std.flatten().tolist()
    return f"{source.image_size} px, mean {mean}, std {std}{source.variant}"


class NetworkSource(Source):
    """A source that is a PyTorch network on this machine.

    The features are the input of the submodule `head`: maps (B, d, h, w) are averaged over their
    positions and tokens (B, n, d) over theirs; what an `nn.Linear` reads has its channels last.

    Args:
        network: Normalised images (B, 3, H, W) to logits (B, S); frozen in place, and kept whole.
        mean, std, image_size, class_names, name: As in :class:`Source`.
        head: Name of the submodule that makes the logits, as in `network.named_modules()`; None
            for a network with several heads, which then has no features.

    Raises:
        InputError: No such head, or NaN or inf in the weights.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: float | Sequence[float] | Tensor,
        std: float | Sequence[float] | Tensor,
        image_size: int,
        class_names: Sequence[str],
        name: str,
        head: str | None,
    ) -> None:
        super().__init__(
            mean=mean, std=std, image_size=image_size, class_names=class_names, name=name
        )
        if head is not None:
            require_head(network, head)
        require_finite(network, name)
        self.network = network.requires_grad_(False)
        self.head = head
        self._origin: _Origin | None = None
        self.train()

    def train(self, mode: bool = True) -> NetworkSource:
        """Train mode reaches a trainable copy only; a frozen source stays in eval mode."""
        super().train(mode and self._origin is not None)
        return self

    def forward(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch source"]:
        logits = self.network(self.normalise(x))
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (x.shape[0], self.num_classes):
            raise InputError(
                f"source {self.name!r} must return logits (batch, {self.num_classes}), one a "
                f"class name, got {shape}. Wrap the network, or pass class_names of that length."
            )
        return logits

    def logits_and_features(
        self, x: Float[Tensor, "batch 3 h w"]
    ) -> tuple[Float[Tensor, "batch source"], Float[Tensor, "batch d"]]:
        head, thread = self._head_module(), threading.get_ident()
        read: list[Tensor] = []

        def remember(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == thread:  # another thread's pass sees this hook too
                read.extend(inputs[:1])

        handle = head.register_forward_pre_hook(remember)
        try:
            logits = self(x)
        finally:
            handle.remove()
        if not read:
            raise InputError(
                f"head {self.head!r} of source {self.name!r} was not called with a tensor in the "
                f"forward pass. {_suggest_heads(self.network)}"
            )
        return logits, _pooled(read[-1], head)

    @cached_property
    def num_features(self) -> int:
        head = self._head_module()
        if isinstance(head, nn.Linear):
            return head.in_features
        if isinstance(head, nn.Conv2d):
            return head.in_channels
        image = self.mean.new_zeros(1, 3, self.image_size, self.image_size)
        frozen = self if self._origin is None else self._origin.source
        with torch.no_grad():
            return frozen.features(image.to(frozen.mean)).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the frozen weights; a trainable copy keeps that of its origin."""
        return (
            fingerprint_of(tensors_of(self.network))
            if self._origin is None
            else self._origin.source.fingerprint
        )

    def trainable_copy(self) -> NetworkSource:
        """A deep copy in ordinary train mode: gradients on everything but the old head.

        The old head gets none, because its logits are not read: a new head is put on `features`.
        """
        new = copy.deepcopy(self)
        new._origin = self._origin or _Origin(self)
        new.network.requires_grad_(True)
        if self.head is not None:
            new.network.get_submodule(self.head).requires_grad_(False)
        return new.train()

    def changed_tensors(self) -> dict[str, Tensor]:
        """Entries of `network.state_dict()` that are not bitwise the origin's, {} when frozen."""
        if self._origin is None:
            return {}
        before = tensors_of(self._origin.source.network)
        now = tensors_of(self.network)
        return {k: v for k, v in now.items() if not same_bits(v, before[k])}

    def load_changed(self, changed: Mapping[str, Tensor]) -> None:
        """Make this trainable copy its origin with the tensors of :meth:`changed_tensors` on top.

        Raises:
            InputError: A name or shape that the network does not have, NaN or inf, or a frozen
                source.
        """
        if self._origin is None:
            return super().load_changed(changed)
        state = tensors_of(self._origin.source.network)
        for key, value in changed.items():
            if key not in state or value.shape != state[key].shape:
                want = tuple(state[key].shape) if key in state else "no such tensor"
                raise InputError(
                    f"changed tensor {key!r} of shape {tuple(value.shape)} does not fit source "
                    f"{self.name!r} ({want}). Load it into the source that it was trained from."
                )
        load_tensors(self.network, {**state, **changed})
        require_finite(self.network, self.name)

    def _head_module(self) -> nn.Module:
        if self.head is None:
            raise InputError(
                f"source {self.name!r} has no single classification head, so it has no features. "
                f"Pass head=, or use a mapping that reads logits. {_suggest_heads(self.network)}"
            )
        return self.network.get_submodule(self.head)


class _Origin:
    """The frozen source behind a trainable copy: no submodule of it, and shared by its copies."""

    def __init__(self, source: NetworkSource) -> None:
        self.source = source

    def __deepcopy__(self, memo: dict) -> _Origin:
        return self


def _pooled(x: Tensor, head: nn.Module) -> Float[Tensor, "batch d"]:
    if x.ndim == 2:
        return x
    if isinstance(head, nn.Linear) or x.ndim == 3:
        return x.flatten(1, -2).mean(1)
    if x.ndim == 4:
        return x.mean((2, 3))
    raise InputError(
        f"the head reads a tensor of shape {tuple(x.shape)}; features need (batch, d), tokens "
        "(batch, n, d) or maps (batch, d, h, w). Name another submodule with head=."
    )


def _suggest_heads(network: nn.Module) -> str:
    linear = [k for k, m in network.named_modules() if isinstance(m, nn.Linear) and k]
    return f"Its last linear layers: {', '.join(linear[:-4:-1])}." if linear else ""


def require_head(network: nn.Module, head: str) -> None:
    """Refuse a head that the network does not have, and suggest its linear layers.

    Raises:
        InputError: No such submodule.
    """
    if head not in dict(network.named_modules()):
        raise InputError(
            f"head {head!r} is no submodule of the network. {_suggest_heads(network)}".rstrip()
        )


def _channels(name: str, value: float | Sequence[float] | Tensor) -> Float[Tensor, "3 1 1"]:
    try:
        tensor = torch.as_tensor(value, dtype=torch.float32).detach().clone().flatten()
    except (TypeError, ValueError, RuntimeError):
        tensor = torch.tensor(math.nan)
    if tensor.numel() not in (1, 3) or not torch.isfinite(tensor).all():
        raise InputError(
            f"{name} must be one or three finite numbers, of pixels in [0, 1], got {value}."
        )
    return tensor.expand(3).reshape(3, 1, 1).clone()
