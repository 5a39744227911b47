"""The graph of a network in eval mode: a convolution, normalisation or pooling is one node."""

from __future__ import annotations

import contextlib
import copy
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reprogram.errors import InputError

__all__ = ["Untraceable", "operation", "trace"]

_LEAVES = (
    nn.Conv2d,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.dropout._DropoutNd,
)
_IN_PLACE_OPERATORS: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


class Untraceable(InputError):
    """The network cannot be written as a graph; the message says why."""


class _Tracer(fx.Tracer):
    def __init__(self, head: str | None) -> None:
        super().__init__()
        self.head = head

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name == self.head or isinstance(m, _LEAVES):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, head: str | None = None) -> fx.Graph:
    """The forward pass of a network in eval mode as a graph without in-place operations.

    Subclasses of `nn.Conv2d`, of BatchNorm and of the pooling layers are single nodes whatever
    their code does, and so is the module named `head`.

    Args:
        network: A module of one image batch; it is not changed.
        head: Qualified name of a submodule that must be a node.

    Returns:
        The graph; its module nodes name submodules of `network`.

    Raises:
        Untraceable: Where the forward pass branches on values, or a module is in train mode.
    """
    if any(module.training for module in network.modules()):
        raise Untraceable("a module of the network is in train mode. Call network.eval() first.")
    try:
        # The tracer stores constants on its root; a shallow copy keeps them off the caller's.
        with _unchecked_shapes():
            graph = _Tracer(head).trace(copy.copy(network))
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise Untraceable(f"torch.fx cannot trace {type(network).__name__}: {first}") from error
    if any(node.op == "get_attr" and not _has(network, str(node.target)) for node in graph.nodes):
        raise Untraceable(f"{type(network).__name__} makes tensors in its forward pass.")
    position = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if _make_out_of_place(node, network):
            # What an in-place operation wrote, later readers of its input read as well.
            written, *_ = node.all_input_nodes
            for user in list(written.users):
                if position[user] > position[node]:
                    user.replace_input_with(written, node)
    return graph


def operation(node: fx.Node, network: nn.Module) -> Callable[..., Any]:
    """What a call node does, as a function that leaves its arguments as they are."""
    if node.op == "call_method":
        return getattr(Tensor, str(node.target))
    if node.op == "call_function":
        return node.target  # type: ignore[return-value]
    module = network.get_submodule(str(node.target))
    if getattr(module, "inplace", False):
        module = copy.copy(module)
        module.inplace = False  # type: ignore[assignment]
    return module


@contextlib.contextmanager
def _unchecked_shapes() -> Iterator[None]:
    """No run-time check of shape annotations: a tracer's stand-ins are not tensors."""
    config = jaxtyping.config
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


def _has(network: nn.Module, path: str) -> bool:
    try:
        operator.attrgetter(path)(network)
    except AttributeError:
        return False
    return True


def _make_out_of_place(node: fx.Node, network: nn.Module) -> bool:
    """Replace an in-place operation by its ordinary form; whether it was one."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in _IN_PLACE_OPERATORS:
        node.target = _IN_PLACE_OPERATORS[node.target]
        return True
    name = node.target if isinstance(node.target, str) else node.target.__name__
    if name.endswith("_") and not name.endswith("__"):
        spaces = [Tensor] if node.op == "call_method" else [torch, F]
        found = [getattr(space, name[:-1]) for space in spaces if hasattr(space, name[:-1])]
        if not found:
            raise Untraceable(f"the in-place operation {name} has no ordinary form.")
        node.target = name[:-1] if node.op == "call_method" else found[0]
        return True
    return _clear_in_place_argument(node)


def _clear_in_place_argument(node: fx.Node) -> bool:
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    if not bound.arguments.get("inplace", False):
        return False
    bound.arguments["inplace"] = False
    node.args, node.kwargs = bound.args, bound.kwargs
    return True
