"""A frozen feature extractor: a pretrained network up to its last spatial map."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from reprogram.errors import InputError
from reprogram.sources.architectures import create_network, find_head
from reprogram.sources.clip import CLIP, create_clip
from reprogram.sources.config import ExtractorConfig
from reprogram.sources.state import fingerprint_of, tensors_of

__all__ = ["Extractor", "OnExtractor", "create_extractor"]


@dataclass(frozen=True)
class Extractor:
    """A frozen network from normalised images to maps, with its own preprocessing.

    Attributes:
        name: What it was loaded by.
        architecture: What :func:`create_extractor` builds.
        model_args: Likewise.
        network: Normalised images (B, 3, H, W) to maps (B, C, h, w); frozen, in eval mode.
        mean: Of the normalisation, in pixel units.
        std: Likewise.
        image_size: Side H of its images, pixels.
    """

    name: str
    architecture: str
    model_args: dict[str, Any]
    network: nn.Module
    mean: Float[Tensor, "3 1 1"]
    std: Float[Tensor, "3 1 1"]
    image_size: int

    def __call__(self, x: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch c h w"]:
        """Maps of images in pixel units."""
        return self.network((x - self.mean.to(x)) / self.std.to(x))

    def to(self, device: torch.device | str) -> Extractor:
        """The same, its network moved in place."""
        self.network.to(device)
        return self

    @cached_property
    def map_shape(self) -> tuple[int, int]:
        """Channels and side of a map."""
        image = self.mean.new_zeros(1, 3, self.image_size, self.image_size)
        with torch.no_grad():
            found = self.network(image.to(next(self.network.parameters()).device))
        return found.shape[1], found.shape[2]

    @property
    def config(self) -> ExtractorConfig:
        """What a source directory says of it."""
        return ExtractorConfig(self.name, self.architecture, self.model_args, self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its weights."""
        return fingerprint_of(tensors_of(self.network))


class OnExtractor(nn.Module):
    """A network on an extractor's map.

    Args:
        body: Normalised images (B, 3, H, W) to maps (B, C, h, w).
        top: Maps to logits.
    """

    def __init__(self, body: nn.Module, top: nn.Module) -> None:
        super().__init__()
        self.body, self.top = body, top

    def forward(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch classes"]:
        return self.top(self.body(x))


def create_extractor(
    architecture: str, model_args: Mapping[str, Any], image_size: int
) -> nn.Module:
    """An untrained network up to its last spatial map, in eval mode.

    Args:
        architecture: As `create_network` takes it, or "open_clip/NAME".
        model_args: Constructor arguments.
        image_size: Side of its square images, pixels.

    Raises:
        InputError: The network cannot be built or has no such map.
    """
    if architecture.startswith(CLIP):
        return create_clip(architecture.removeprefix(CLIP), model_args).eval()
    network = create_network(architecture, 1000, model_args).eval()
    return last_map(network, image_size, architecture)


def last_map(network: nn.Module, image_size: int, name: str) -> nn.Module:
    """The part of a classifier that makes what is pooled in front of its head.

    A convolutional network is cut where its graph, followed upwards from the head, first holds a
    map (B, C, h, w); what timm calls forward_intermediates serves its vision transformers.

    Args:
        network: In eval mode; its parameters are shared with the result.
        image_size: Side of its images, pixels.
        name: For the message.

    Raises:
        InputError: It has no single head, or tokens without a map are all it makes.
    """
    from reprogram.engine.tracing import Untraceable  # the engines import sources

    try:
        cut = _cut(network, image_size)
    except Untraceable:
        cut = None
    if cut is not None:
        return cut.eval()
    if hasattr(network, "forward_intermediates") and hasattr(network, "patch_embed"):
        network.reset_classifier(0)  # type: ignore[operator]
        return TimmTokens(network).eval()
    raise InputError(
        f"extractor {name!r} has no spatial map in front of its head. Take a convolutional "
        "network, a timm vision transformer or open_clip/NAME."
    )


class TimmTokens(nn.Module):
    """The normalised last tokens of a timm transformer, laid out as a map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch d h2 w2"]:
        taken = self.network.forward_intermediates(  # type: ignore[operator]
            x, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return taken[-1]


def _cut(network: nn.Module, image_size: int) -> nn.Module | None:
    """The graph up to the last map, None where the head reads something else than pooled maps."""
    from reprogram.engine.tracing import trace

    head = find_head(network)
    if head is None:
        return None
    graph = trace(network, head)
    shapes = _shapes(network, graph, image_size)
    node = next((n for n in graph.nodes if n.op == "call_module" and n.target == head), None)
    while node is not None:
        (node, *others) = [n for n in node.all_input_nodes if n.op != "get_attr"] or [None]
        shape = shapes.get(node, ()) if not others else ()
        if len(shape) == 4 and shape[2] == shape[3] > 1:
            assert node is not None
            return _ending_at(network, graph, node)
        if not shape or max(shape[1:]) != math.prod(shape[1:]):  # more than one vector an image
            return None
    return None


def _shapes(network: nn.Module, graph: fx.Graph, image_size: int) -> dict[Any, tuple[int, ...]]:
    """The shape of every tensor that the graph makes of one image."""
    shapes: dict[Any, tuple[int, ...]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                shapes[n] = tuple(value.shape)
            return value

    with torch.no_grad():
        Recorder(network, graph=graph).run(torch.zeros(1, 3, image_size, image_size))
    return shapes


def _ending_at(network: nn.Module, graph: fx.Graph, last: fx.Node) -> fx.GraphModule:
    """A network that computes `last`; modules behind it are not part of it."""
    after = list(graph.nodes)
    for node in reversed(after[operator.indexOf(after, last) + 1 :]):
        graph.erase_node(node)
    graph.output(last)
    cut = fx.GraphModule(network, graph, type(network).__name__)
    cut.graph.eliminate_dead_code()
    cut.delete_all_unused_submodules()
    cut.recompile()
    return cut
