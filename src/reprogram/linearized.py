"""The first-order model as a method of the benchmark: `pad+flm@linearized`.

    f_lin(theta, x) = f_0(x) + J(x) (theta - theta_0),   J = df / dtheta at theta_0,

is what the neural tangent kernel describes exactly (Lee et al. 2019, eq. 5). Trained by the same
loop as the true model, it shows how much of a result the first order explains. What has no first
order at the start stays there: SMM's mask network while delta = 0, one factor of a low-rank prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from operator import attrgetter

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from reprogram.errors import InputError
from reprogram.input_transforms import InputTransform
from reprogram.model import Reprogrammed, trainable
from reprogram.output_mappings import LinearMapping, OutputMapping
from reprogram.sources import Source

__all__ = ["FirstOrderMapping", "Linearized", "linearized", "move_to"]


def linearized(model: Reprogrammed) -> Linearized:
    """The first-order model of `model` at its present parameters, whose parts it takes over.

    A mapping that is refitted stays outside: it is linear in the source's logits, so whichever it
    is at the moment, the model is first-order in theta.
    """
    mapping = model.mapping
    if isinstance(mapping, LinearMapping):
        mapping = FirstOrderMapping(mapping)
    return Linearized(model.input_transform, model.source, mapping, model.class_names)


class FirstOrderMapping(OutputMapping):
    """A trained linear mapping, W h + b, to first order in its own parameters and in h.

    The model hands over h_0 and J(x) (theta - theta_0) side by side: W h_0 + b + W_0 (h - h_0).

    Args:
        inner: The mapping, whose layer this one trains.

    Attributes:
        linear: The layer, under the name that it has in the true model.
        start: (T, S) buffer W_0.
    """

    start: Tensor

    def __init__(self, inner: LinearMapping) -> None:
        super().__init__(inner.num_source_classes, inner.num_target_classes)
        self.reads = inner.reads
        self.linear = inner.linear
        self.register_buffer("start", inner.linear.weight.detach().clone())

    def forward(self, outputs: Float[Tensor, "batch two_source"]) -> Float[Tensor, "batch target"]:
        at_start, change = outputs.chunk(2, dim=1)
        return self.linear(at_start) + change @ self.start.T


class Linearized(Reprogrammed):
    """A reprogrammed model replaced by its first order in the parameters in front of the mapping.

    Both transform and source stay in eval mode: in train mode BatchNorm would couple the examples
    of a batch, and a random patch would move.

    Args:
        input_transform: As in :class:`Reprogrammed`; its present parameters are theta_0.
        source: As in :class:`Reprogrammed`.
        mapping: Linear in the source's outputs, or a :class:`FirstOrderMapping`.
        class_names: Name of each target logit.
    """

    def __init__(
        self,
        input_transform: InputTransform,
        source: Source,
        mapping: OutputMapping,
        class_names: tuple[str, ...],
    ) -> None:
        super().__init__(input_transform, source, mapping, class_names)
        self._names = [k for k in trainable(self) if not k.startswith("mapping.")]
        for i, value in enumerate(self.moving().values()):
            self.register_buffer(f"start_{i}", value.detach().clone(), persistent=False)
        self.train()

    def moving(self) -> dict[str, Tensor]:
        """Theta in front of the mapping, by the name that the true model gives it."""
        # Not get_parameter: functional_call puts plain tensors in a parameter's place.
        return {name: attrgetter(name)(self) for name in self._names}

    def start(self) -> dict[str, Tensor]:
        """theta_0, by the same names."""
        return {name: self.get_buffer(f"start_{i}") for i, name in enumerate(self._names)}

    def has_moved(self) -> bool:
        """Whether theta is no longer theta_0."""
        start = self.start()
        return any(not torch.equal(p, start[name]) for name, p in self.moving().items())

    def train(self, mode: bool = True) -> Linearized:
        super().train(mode)
        self.input_transform.eval()
        self.source.eval()
        return self

    def outputs(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch outputs"]:
        """h_0 + J(x) (theta - theta_0); the two side by side for a :class:`FirstOrderMapping`."""
        h, moved = self._outputs_and_change(x)
        if isinstance(self.mapping, FirstOrderMapping):
            return torch.cat([h, moved], 1)
        return h + moved

    def _outputs_and_change(self, x: Tensor) -> tuple[Tensor, Tensor]:
        body = _Body(self.input_transform, self.source, self.mapping.reads)
        start = self.start()
        if not start:
            h = body(x)
            return h, torch.zeros_like(h)
        change = {name: p - start[name] for name, p in self.moving().items()}
        _load_forward_mode()
        # Fused attention has no forward derivative.
        with sdpa_kernel(SDPBackend.MATH):
            pair = torch.func.jvp(
                lambda params: torch.func.functional_call(body, params, (x,)), (start,), (change,)
            )
        return pair[0], pair[1]

    def own_tensors(self) -> dict[str, Tensor]:
        # The source's theta_0 is the source itself.
        start = {k: v for k, v in self.start().items() if not k.startswith("source.")}
        return super().own_tensors() | {f"start.{k}": v for k, v in start.items()}

    def load_own_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        own = dict(tensors)
        for name, value in self.start().items():
            if not name.startswith("source."):
                value.copy_(own.pop(f"start.{name}"))
        super().load_own_tensors(own)


class _Body(nn.Module):
    """What lies in front of the mapping, as the module that `functional_call` needs."""

    def __init__(self, input_transform: InputTransform, source: Source, reads: str) -> None:
        super().__init__()
        self.input_transform, self.source, self.reads = input_transform, source, reads

    def forward(self, x: Tensor) -> Tensor:
        z = self.input_transform(x)
        return self.source.features(z) if self.reads == "features" else self.source(z)


@cache
def _load_forward_mode() -> None:
    """Let PyTorch compile its forward-mode rules, for which it calls a deprecated function of its own."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


@torch.no_grad()
def move_to(model: Linearized, change: Float[Tensor, " p"] | Mapping[str, Tensor]) -> None:
    """Set theta = theta_0 + change: the closed form of `analysis.spectrum` put into the model.

    Args:
        model: Its mapping must not be trained, since theta_0 of that is not in front of it.
        change: By name, as `Dual.unravel` gives it; or flattened, in the order of `trainable(model)`
            (which for a linear layer is not that of a dual's vectors).

    Raises:
        InputError: A trained mapping, other parameters or another number of them.
    """
    params, start = trainable(model), model.start()
    if params.keys() != start.keys():
        raise InputError("a closed form needs a mapping without trained parameters, such as flm.")
    moves = change if isinstance(change, Mapping) else _named(change, params)
    if moves.keys() != params.keys():
        raise InputError(f"the change must be one of {', '.join(params)}; got {', '.join(moves)}.")
    for name, p in params.items():
        p.copy_(start[name] + moves[name].reshape(p.shape).to(p))


def _named(change: Float[Tensor, " p"], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sizes = [p.numel() for p in params.values()]
    if len(change) != sum(sizes):
        raise InputError(
            f"the change must hold {sum(sizes):,} values, one a parameter, got {len(change):,}."
        )
    return dict(zip(params, change.split(sizes), strict=True))
