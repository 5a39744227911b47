"""One forward pass of a window plan: its steps, and the values that they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, fx

from reprogram.engine.window_autograd import frame, inside, rectify_and_frame
from reprogram.engine.window_geometry import Box
from reprogram.engine.window_rules import GlobalMean, Rule, Values, asks_shape

__all__ = ["Background", "Forward", "Step"]


class Background(NamedTuple):
    """The maps of the background alone that a plan reads, by node."""

    maps: Mapping[fx.Node, Any]


@dataclass(frozen=True)
class Step:
    """One node: by a rule on a window, by a rule to a whole value, or plainly on whole values.

    Args:
        node: What to compute.
        rule: How; None for `call` on whole values.
        call: The node's plain operation.
        done: Nodes whose values no later step reads.
    """

    node: fx.Node
    rule: Rule | GlobalMean | None
    call: Callable[..., Any]
    done: tuple[fx.Node, ...]


class Forward(Values):
    """The values of a running forward pass."""

    def __init__(
        self,
        maps: Mapping[fx.Node, Any],
        windows: Mapping[fx.Node, Box],
        stored: Mapping[fx.Node, Box],
        patches: Tensor,
        placeholder: fx.Node,
    ) -> None:
        self._maps, self._windows, self._stored = maps, windows, stored
        self._patches, self._input = patches, placeholder
        self._values: dict[fx.Node, Any] = {}

    def window(self, node: fx.Node, box: Box) -> Tensor:
        value = self._values[node]
        stored = self._stored.get(node)
        if stored is None:
            return inside(value, box)
        if stored == box:
            return value
        return inside(value, box.shift(-stored.rows.start, -stored.cols.start))

    def background(self, node: fx.Node) -> Any:
        return self._maps[node]

    def patches(self) -> tuple[Tensor, Box]:
        return self._patches, self._windows[self._input]

    def whole(self, node: fx.Node) -> Any:
        """A node's value on whole maps."""
        return self._values[node] if node in self._values else self._maps[node]

    def store(self, node: fx.Node, window: Tensor) -> None:
        box, stored = self._windows[node], self._stored[node]
        self._values[node] = frame(window, self._maps.get(node), box, stored)

    def take(self, step: Step) -> None:
        """Compute one node and forget what it was the last to read."""
        node, rule = step.node, step.rule
        if isinstance(rule, Rule):
            self._take_window(node, rule)
        elif rule is not None:
            self._values[node] = rule(self)
        else:
            self._values[node] = self._plain(step)
        for source in step.done:
            self._values.pop(source, None)

    def _take_window(self, node: fx.Node, rule: Rule) -> None:
        if node not in self._stored:
            self._values[node] = rule.window(self)
        elif rule.rectifies:
            (source,) = rule.reads
            window = self.window(source, rule.box)
            box, stored = rule.box, self._stored[node]
            self._values[node] = rectify_and_frame(window, self._maps.get(node), box, stored)
        else:
            self.store(node, rule.window(self))

    def _plain(self, step: Step) -> Any:
        shape_only = asks_shape(step.node)

        def value(node: fx.Node) -> Any:
            if shape_only and node in self._windows:
                return self._maps[node].expand(len(self._patches), -1, -1, -1)
            return self.whole(node)

        args = fx.node.map_arg(step.node.args, value)
        return step.call(*args, **fx.node.map_arg(step.node.kwargs, value))
