"""The shared background of padding prompts: a forward pass on windows.

With a padding prompt and a frozen convolutional source, everything outside the receptive cone of
the image is the same for all images. It is computed once, at batch 1; the images are followed
through the network on windows that grow from layer to layer, until they cover the whole map.
The gradient of the background is summed over the batch and propagated once. Logits and gradients
are those of the plain forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from reprogram.engine.tracing import Untraceable, operation, trace
from reprogram.engine.window_geometry import Box, Span
from reprogram.engine.window_rules import GlobalMean, Known, Rule, asks_shape, rule_for
from reprogram.engine.window_run import Background, Forward, Step
from reprogram.errors import InputError

__all__ = ["Background", "Planned", "WindowPlan", "plan_window"]

# Framing and smaller convolutions cost a few per cent, so fewer saved FLOPs than this do not pay.
_WORTHWHILE = 0.9
_TYPICAL_BATCH = 64


class Planned(NamedTuple):
    """A plan, and why it should not be used ("" where it should); None where there is none."""

    plan: WindowPlan | None
    reason: str


def plan_window(
    network: nn.Module,
    *,
    canvas: int,
    image_size: int,
    top: int,
    left: int,
    head: str | None = None,
) -> Planned:
    """Plan the windowed forward pass of a network for images at one place of a canvas.

    Args:
        network: From a normalised (B, 3, H, W) batch to logits, in eval mode; best folded.
        canvas: Side H of the canvas, pixels.
        image_size: Side s of the images, pixels.
        top: Rows of the canvas above the image.
        left: Columns of the canvas on its left.
        head: Submodule whose input `logits_and_features` returns.

    Returns:
        The plan with a reason where the plain pass is as fast, or None with the reason where
        the network's graph cannot be followed.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    >>> plan, reason = plan_window(net, canvas=64, image_size=8, top=28, left=28)
    >>> round(plan.flops_plain / plan.flops_window)
    38
    """
    try:
        plan = WindowPlan(network, trace(network, head), canvas, image_size, (top, left), head)
    except Untraceable as error:
        return Planned(None, str(error))
    share = (plan.flops_window + plan.flops_background / _TYPICAL_BATCH) / plan.flops_plain
    if share > _WORTHWHILE:
        return Planned(plan, f"windows need {share:.0%} of the plain pass's FLOPs.")
    return Planned(plan, "")


class WindowPlan:
    """The windowed forward pass of one network for one placement of the images.

    Attributes:
        flops_plain: Of the plain forward pass, for one image.
        flops_window: Of the windowed one, for one image.
        flops_background: Of the background, once for a whole batch.
    """

    def __init__(
        self,
        network: nn.Module,
        graph: fx.Graph,
        canvas: int,
        image_size: int,
        corner: tuple[int, int],
        head: str | None,
    ) -> None:
        top, left = corner
        self._network, self._graph = network, graph
        self._box = Box(Span(top, top + image_size), Span(left, left + image_size))
        if self._box.clip(canvas, canvas) != self._box or image_size < 1:
            raise InputError(
                f"an image of {image_size} px at row {top} and column {left} must lie on the "
                f"canvas of {canvas} px. Use a smaller image_size."
            )
        (self._input,) = _nodes(graph, "placeholder", expected=1)
        (output,) = _nodes(graph, "output", expected=1)
        result = output.args[0]
        if not isinstance(result, fx.Node):
            raise Untraceable("the network returns something else than one tensor.")
        self._output = result
        self._features = _head_input(graph, head)
        examples, flops = _measure(network, graph, canvas)
        known = Known(network, examples, {}, set())
        rules = self._choose_rules(known)
        self._pool = self._feature_rule(known)
        stored = self._choose_stored(known, rules)
        self._shared = self._choose_shared(known, rules, stored)
        self._steps = self._make_steps(known, rules, stored)
        self._count(known, flops)

    def _choose_rules(self, known: Known) -> dict[fx.Node, Rule | GlobalMean | None]:
        """Follow the window through the graph: fills `known`, returns a rule by node."""
        windows = known.windows
        rules: dict[fx.Node, Rule | GlobalMean | None] = {}
        windows[self._input] = self._box
        for node in self._graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            inputs = node.all_input_nodes
            if all(n in known.constants for n in inputs):
                known.constants.add(node)
                continue
            any_window = any(n in windows for n in inputs)
            rules[node] = rule = rule_for(node, known) if any_window else None
            if isinstance(rule, Rule) and rule.box != Box.whole(*known.size(node)):
                windows[node] = rule.box
        return rules

    def _feature_rule(self, known: Known) -> GlobalMean | None:
        if self._features is None or self._features not in known.windows:
            return None
        return GlobalMean(self._features, known, keepdim=False)

    def _choose_stored(
        self, known: Known, rules: Mapping[fx.Node, Rule | GlobalMean | None]
    ) -> dict[fx.Node, Box]:
        """For every node with a window the part of its maps that its readers need."""
        stored = dict(known.windows)

        def need(node: fx.Node, box: Box | None = None) -> None:
            if node in stored:
                stored[node] = stored[node].join(box or Box.whole(*known.size(node)))

        for node, rule in rules.items():
            if rule is not None:
                for source, box in rule.reads.items():
                    need(source, box)
            elif not asks_shape(node):
                for source in node.all_input_nodes:
                    need(source)
        need(self._output)
        return stored

    def _choose_shared(
        self,
        known: Known,
        rules: Mapping[fx.Node, Rule | GlobalMean | None],
        stored: Mapping[fx.Node, Box],
    ) -> set[fx.Node]:
        """The nodes that must be computed on the background."""
        shared = set(known.constants)
        shared |= {node for node, box in stored.items() if box != known.windows[node]}
        shared |= {rule.source for rule in rules.values() if isinstance(rule, GlobalMean)}
        if self._pool is not None:
            shared.add(self._pool.source)
        for node in rules:
            if asks_shape(node):
                shared |= {n for n in node.all_input_nodes if n in known.windows}
        self._read = frozenset(shared) | {self._input}
        for node in reversed(self._graph.nodes):
            if node in shared:
                shared.update(node.all_input_nodes)
        return shared

    def _make_steps(
        self,
        known: Known,
        rules: Mapping[fx.Node, Rule | GlobalMean | None],
        stored: Mapping[fx.Node, Box],
    ) -> list[Step]:
        last: dict[fx.Node, fx.Node] = {}
        for node in rules:
            for source in node.all_input_nodes:
                last[source] = node
        kept = {self._output, self._features}
        done: dict[fx.Node, list[fx.Node]] = {}
        for source, node in last.items():
            if source not in kept:
                done.setdefault(node, []).append(source)
        self._windows, self._stored = dict(known.windows), dict(stored)
        self._reads_input = any(
            self._input in (rule.reads if rule else node.all_input_nodes)
            for node, rule in rules.items()
        )
        return [
            Step(node, rule, operation(node, self._network), tuple(done.get(node, ())))
            for node, rule in rules.items()
        ]

    def _count(self, known: Known, flops: Mapping[fx.Node, int]) -> None:
        self.flops_plain = max(sum(flops.values()), 1)
        self.flops_background = sum(flops[node] for node in self._shared if node in flops)
        window = 0.0
        for step in self._steps:
            share = 1.0
            if step.node in known.windows:
                height, width = known.size(step.node)
                share = known.windows[step.node].area / (height * width)
            window += share * flops[step.node]
        self.flops_window = max(round(window), 1)

    def windows(self) -> dict[str, tuple[Box, tuple[int, int]]]:
        """Window and stored part's size by node name, for reports."""
        return {
            node.name: (box, (self._stored[node].rows.size, self._stored[node].cols.size))
            for node, box in self._windows.items()
        }

    def prepare(self, background: Float[Tensor, "1 3 H W"]) -> Background:
        """The background's maps: once a training step, or once for many batches of one prompt.

        Args:
            background: The normalised canvas with the prompt; what lies under the image is not
                read by any result.
        """
        maps: dict[fx.Node, Any] = {}
        maps[self._input] = background.contiguous(memory_format=torch.channels_last)
        for node in self._graph.nodes:
            if node not in self._shared or node is self._input:
                continue
            maps[node] = _call(node, self._network, maps.__getitem__)
        return Background({node: value for node, value in maps.items() if node in self._read})

    def run(
        self, background: Tensor | Background, patches: Float[Tensor, "batch 3 s s"]
    ) -> Float[Tensor, "batch *outputs"]:
        """Logits of normalised images, each in its place on the background."""
        return self._forward(background, patches).whole(self._output)

    def logits_and_features(
        self, background: Tensor | Background, patches: Float[Tensor, "batch 3 s s"]
    ) -> tuple[Float[Tensor, "batch *outputs"], Float[Tensor, "batch d"]]:
        """Logits, and the input of the head, averaged over positions where it is a map."""
        if self._features is None:
            raise InputError("features need the name of the head. Pass head= to plan_window.")
        values = self._forward(background, patches)
        if self._pool is not None:
            return values.whole(self._output), self._pool(values)
        features = values.whole(self._features)
        return (
            values.whole(self._output),
            features.mean((2, 3)) if features.dim() == 4 else features,
        )

    def _forward(self, background: Tensor | Background, patches: Tensor) -> Forward:
        if isinstance(background, Tensor):
            background = self.prepare(background)
        values = Forward(background.maps, self._windows, self._stored, patches, self._input)
        if self._reads_input:
            values.store(self._input, patches)
        for step in self._steps:
            values.take(step)
        return values


def _call(node: fx.Node, network: nn.Module, value: Callable[[fx.Node], Any]) -> Any:
    if node.op == "get_attr":
        return _attribute(network, str(node.target))
    args = fx.node.map_arg(node.args, value)
    return operation(node, network)(*args, **fx.node.map_arg(node.kwargs, value))


def _attribute(network: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)


def _nodes(graph: fx.Graph, kind: str, expected: int) -> list[fx.Node]:
    nodes = [node for node in graph.nodes if node.op == kind]
    if len(nodes) != expected:
        raise Untraceable(f"the network has {len(nodes)} {kind} nodes, not {expected}.")
    return nodes


def _head_input(graph: fx.Graph, head: str | None) -> fx.Node | None:
    if head is None:
        return None
    for node in graph.nodes:
        if node.op == "call_module" and node.target == head:
            return node.all_input_nodes[0]
    raise Untraceable(f"the graph holds no call of the head {head!r}.")


@torch.no_grad()
def _measure(
    network: nn.Module, graph: fx.Graph, canvas: int
) -> tuple[dict[fx.Node, Any], dict[fx.Node, int]]:
    """Every node's value on one empty canvas, and the FLOPs that it took."""
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(()))
    values: dict[fx.Node, Any] = {}
    flops: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = torch.zeros(1, 3, canvas, canvas, dtype=like.dtype, device=like.device)
        elif node.op != "output":
            with FlopCounterMode(display=False) as counter:
                values[node] = _call(node, network, values.__getitem__)
            flops[node] = counter.get_total_flops()
    return values, flops
