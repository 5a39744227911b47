"""What each node of a network's graph does to a window: its own window, and what it reads.

A node without a rule is computed on whole maps; so a rule can only make a network faster.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx, nn

from reprogram.engine.folding import is_batchnorm
from reprogram.engine.tracing import operation
from reprogram.engine.window_autograd import convolve_first, frame, inside
from reprogram.engine.window_geometry import Box, Slide
from reprogram.engine.window_slides import (
    ConvolutionSlide,
    MapSlide,
    function_slide,
    module_slide,
    pooling_slide,
)

__all__ = ["GlobalMean", "Known", "Rule", "Values", "asks_shape", "rule_for"]

_POINTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.ELU),
    *(nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Mish, nn.Softplus, nn.SELU, nn.CELU, nn.PReLU),
    *(nn.Identity, nn.Dropout, nn.Dropout2d),
)
_POINTWISE_FUNCTIONS = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pow),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.neg, torch.maximum, torch.minimum),
    *(torch.relu, torch.sigmoid, torch.tanh, torch.clamp, torch.abs, torch.exp, torch.square),
    *(F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.silu, F.gelu, F.elu, F.mish),
    *(F.leaky_relu, F.sigmoid, F.softplus, F.selu, F.celu, F.dropout, F.dropout2d),
}
_POINTWISE_METHODS = {
    *("add", "sub", "mul", "div", "neg", "relu", "sigmoid", "tanh", "clamp", "abs", "contiguous"),
}
_CONCATENATIONS = {torch.cat, torch.concat}
_SHAPE_METHODS = {"size", "dim", "ndimension", "is_floating_point"}
_SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad"}
_RECTIFIERS = {F.relu, torch.relu, "relu"}


class Values(ABC):
    """What rules may ask of a running forward pass."""

    @abstractmethod
    def window(self, node: fx.Node, box: Box) -> Float[Tensor, "batch c h w"]:
        """A node's maps in a box that its rule's readers announced."""

    @abstractmethod
    def background(self, node: fx.Node) -> Float[Tensor, "1 c h w"]:
        """A node's map on the background alone."""

    @abstractmethod
    def patches(self) -> tuple[Tensor, Box]:
        """The images, and where they lie on the canvas."""


@dataclass(frozen=True)
class Known:
    """What planning knows when it comes to a node.

    Args:
        network: Owner of the graph's modules.
        examples: Every node's value on one canvas.
        windows: Windows of the nodes that have one; a node with neither a window nor a place
            in `constants` differs between images everywhere.
        constants: Nodes that do not depend on the images.
    """

    network: nn.Module
    examples: Mapping[fx.Node, Any]
    windows: dict[fx.Node, Box]
    constants: set[fx.Node]

    def size(self, node: fx.Node) -> tuple[int, int]:
        """Height and width of a node's map."""
        height, width = self.examples[node].shape[-2:]
        return height, width


class Rule(ABC):
    """How to compute a node's window."""

    box: Box
    rectifies: bool = False

    @property
    @abstractmethod
    def reads(self) -> dict[fx.Node, Box]:
        """The boxes of other nodes' maps that `window` asks for."""

    @abstractmethod
    def window(self, values: Values) -> Float[Tensor, "batch c h w"]:
        """The node's maps in `box`."""


class _Sliding(Rule):
    """A convolution or pooling."""

    def __init__(self, source: fx.Node, slide: MapSlide, window: Box) -> None:
        self.source, self.slide = source, slide
        self.box = slide.reached(window)
        self.region = slide.region(self.box)

    @property
    def reads(self) -> dict[fx.Node, Box]:
        return {self.source: self.region}

    def window(self, values: Values) -> Tensor:
        return self.slide(values.window(self.source, self.region), self.box)


class _FirstConvolution(_Sliding):
    """A convolution of the canvas itself, of which no gradient by image is wanted."""

    @property
    def reads(self) -> dict[fx.Node, Box]:
        return {}

    def window(self, values: Values) -> Tensor:
        assert isinstance(self.slide, ConvolutionSlide)
        patches, box = values.patches()
        geometry = (box, self.region)
        module, how = self.slide.module, self.slide.how(self.slide.pads(self.box))
        background = values.background(self.source)
        if patches.requires_grad:
            return self.slide(frame(patches, background, *geometry), self.box)
        return convolve_first(patches, background, geometry, module.weight, module.bias, how)


class _Pointwise(Rule):
    """An operation position by position, on the smallest box that holds its inputs' windows."""

    def __init__(self, node: fx.Node, known: Known) -> None:
        self.node, self.call = node, operation(node, known.network)
        inputs = [n for n in node.all_input_nodes if n in known.windows]
        self.box = known.windows[inputs[0]]
        for other in inputs[1:]:
            self.box = self.box.join(known.windows[other])
        self.inputs = inputs
        rectifier = node.target in _RECTIFIERS or type(self.call) is nn.ReLU
        self.rectifies = rectifier and len(inputs) == 1

    @property
    def reads(self) -> dict[fx.Node, Box]:
        return dict.fromkeys(self.inputs, self.box)

    def window(self, values: Values) -> Tensor:
        def value(node: fx.Node) -> Any:
            if node in self.inputs:
                return values.window(node, self.box)
            return values.background(node)

        args = fx.node.map_arg(self.node.args, value)
        return self.call(*args, **fx.node.map_arg(self.node.kwargs, value))


class _Slice(Rule):
    """x[:, channels, rows, cols] with slices of positive steps."""

    def __init__(self, node: fx.Node, known: Known) -> None:
        self.source = node.all_input_nodes[0]
        index: Any = node.args[1]
        index = (*index, *[slice(None)] * 4)[:4]
        (height, width), outputs = known.size(self.source), known.size(node)
        rows, cols = (
            Slide(1, step, 1, -start)
            for start, _, step in (index[2].indices(height), index[3].indices(width))
        )
        self.channels, self.steps = index[1], (rows.stride, cols.stride)
        window = known.windows[self.source]
        self.box = Box(rows.reached(window.rows, outputs[0]), cols.reached(window.cols, outputs[1]))
        self.region = Box(rows.read(self.box.rows), cols.read(self.box.cols))

    @property
    def reads(self) -> dict[fx.Node, Box]:
        return {self.source: self.region}

    def window(self, values: Values) -> Tensor:
        x = values.window(self.source, self.region)
        return x[:, self.channels, :: self.steps[0], :: self.steps[1]]


class _Pad(Rule):
    """Constant padding of channels, and of the map around the window."""

    def __init__(self, source: fx.Node, pads: list[int], value: float, window: Box) -> None:
        left, _, top, _, *self.channels = (*pads, *[0] * 6)[:6]
        self.source, self.value = source, value
        self.read, self.box = window, window.shift(top, left)

    @property
    def reads(self) -> dict[fx.Node, Box]:
        return {self.source: self.read}

    def window(self, values: Values) -> Tensor:
        x = values.window(self.source, self.read)
        return F.pad(x, (0, 0, 0, 0, *self.channels), value=self.value)


class GlobalMean:
    """(sum over the window + sum of the background around it) / area, for maps not yet whole.

    Args:
        source: The node to pool.
        known: Its window and size.
        keepdim: Whether the result is (B, C, 1, 1) rather than (B, C).
    """

    def __init__(self, source: fx.Node, known: Known, *, keepdim: bool) -> None:
        self.source, self.keepdim = source, keepdim
        self.box, self.size = known.windows[source], known.size(source)

    @property
    def reads(self) -> dict[fx.Node, Box]:
        return {self.source: self.box}

    def __call__(self, values: Values) -> Float[Tensor, "batch c *one"]:
        background = values.background(self.source)
        around = torch.ones_like(background[:, :1])
        inside(around, self.box).zero_()
        rest = (background * around).sum((2, 3), keepdim=self.keepdim)
        window = values.window(self.source, self.box).sum((2, 3), keepdim=self.keepdim)
        return (window + rest) / (self.size[0] * self.size[1])


def rule_for(node: fx.Node, known: Known) -> Rule | GlobalMean | None:
    """The rule of a node with a window among its inputs; None where it needs whole maps."""
    example = known.examples[node]
    inputs = node.all_input_nodes
    windowed = [n for n in inputs if n in known.windows]
    if not isinstance(example, Tensor) or any(
        n not in known.windows and n not in known.constants for n in inputs
    ):
        return None
    call = operation(node, known.network)
    if _is_pointwise(node, call, known, windowed):
        return _Pointwise(node, known)
    if len(inputs) != 1 or node.args[:1] != (inputs[0],) or example.dim() == 0:
        return None
    return _map_rule(node, call, known)


def asks_shape(node: fx.Node) -> bool:
    """Whether a node reads no content of a map, only its shape and the like."""
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


def _is_pointwise(
    node: fx.Node, call: Callable[..., Any], known: Known, windowed: list[fx.Node]
) -> bool:
    if known.examples[node].dim() != 4:
        return False
    if len({known.size(n) for n in windowed} | {known.size(node)}) > 1:
        return False
    for constant in set(node.all_input_nodes) - set(windowed):
        value = known.examples[constant]
        if isinstance(value, Tensor) and any(n > 1 for n in value.shape[-2:]):
            return False
    if node.target in _CONCATENATIONS:
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        return dim in (1, -3) and len(windowed) == len(node.all_input_nodes)
    if node.op == "call_module":
        return type(call) in _POINTWISE_MODULES or is_batchnorm(call)
    table = _POINTWISE_METHODS if node.op == "call_method" else _POINTWISE_FUNCTIONS
    return node.target in table


def _map_rule(node: fx.Node, call: Callable[..., Any], known: Known) -> Rule | GlobalMean | None:
    """Rules of nodes that read one map and nothing else."""
    (source,) = node.all_input_nodes
    window, example = known.windows[source], known.examples[source]
    if example.dim() != 4:
        return None
    if _is_global_mean(node, call, known):
        return GlobalMean(source, known, keepdim=known.examples[node].dim() == 4)
    if known.examples[node].dim() != 4:
        return None
    slide = _slide(node, call, known)
    if isinstance(slide, ConvolutionSlide) and source.op == "placeholder":
        rule = _FirstConvolution(source, slide, window)
        if rule.region.join(window) == rule.region and slide.pads(rule.box).symmetric:
            return rule
    if slide is not None:
        return _Sliding(source, slide, window)
    if node.target is operator.getitem and _is_slice(node.args[1]):
        return _Slice(node, known)
    return _pad_rule(node, call, window)


def _slide(node: fx.Node, call: Callable[..., Any], known: Known) -> MapSlide | None:
    (source,) = node.all_input_nodes
    size, outputs = known.size(source), known.size(node)
    if isinstance(call, nn.AdaptiveAvgPool2d) or call is F.adaptive_avg_pool2d:
        if size[0] % outputs[0] or size[1] % outputs[1]:
            return None
        kernel = (size[0] // outputs[0], size[1] // outputs[1])
        return pooling_slide({"kernel_size": kernel, "count_include_pad": True}, size, outputs)
    if isinstance(call, nn.Module):
        return module_slide(call, known.examples[source], outputs)
    return function_slide(call, node.args[1:], node.kwargs, size, outputs)


def _is_global_mean(node: fx.Node, call: Callable[..., Any], known: Known) -> bool:
    if isinstance(call, nn.AdaptiveAvgPool2d) or call is F.adaptive_avg_pool2d:
        return known.size(node) == (1, 1)
    if call is not torch.mean and call is not Tensor.mean:
        return False
    options = dict(zip(("dim", "keepdim"), node.args[1:], strict=False)) | node.kwargs
    dims = options.get("dim")
    both = isinstance(dims, (tuple, list)) and {d % 4 for d in dims} == {2, 3}
    return both and options.keys() <= {"dim", "keepdim"}


def _is_slice(index: Any) -> bool:
    def plain(part: Any) -> bool:
        whole = (part.start, part.stop, part.step) if isinstance(part, slice) else (object(),)
        return all(value is None or isinstance(value, int) for value in whole)

    return (
        isinstance(index, tuple)
        and len(index) <= 4
        and all(plain(part) for part in index)
        and index[0] == slice(None)
    )


def _pad_rule(node: fx.Node, call: Callable[..., Any], window: Box) -> Rule | None:
    (source,) = node.all_input_nodes
    if isinstance(call, (nn.ZeroPad2d, nn.ConstantPad2d)):
        options: dict[str, Any] = {"pad": call.padding, "value": getattr(call, "value", 0.0)}
    elif call is F.pad:
        options = dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)) | node.kwargs
    else:
        return None
    pads = list(options["pad"])
    plain = all(isinstance(pad, int) and pad >= 0 for pad in pads) and len(pads) <= 6
    if not plain or options.get("mode", "constant") != "constant":
        return None
    return _Pad(source, pads, options.get("value") or 0.0, window)
