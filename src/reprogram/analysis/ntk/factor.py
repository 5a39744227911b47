"""Jacobians as sums of factors: the algebra that every kernel here is made of.

A factor holds parameters theta[a, b] whose Jacobian is a product,

    d f_c(x_i) / d theta[a, b] = rows[i, c, a] inputs[i, b].

A prompt that is added to the image has inputs = 1; a linear layer z = W x + b has rows = df/dz and
inputs = [x, 1], so its d q parameters are never formed. By Schur's product rule the factor's kernel is

    Theta[i, c, j, e] = (rows rows^T)[i, c, j, e] (inputs inputs^T)[i, j],

and the kernel of a model is the sum over its factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Factor", "apply", "apply_transposed", "double", "double_device", "explicit", "kernel"]
__all__ += ["trace_kernel_of", "width"]


class Factor(NamedTuple):
    """One group of parameters.

    Attributes:
        rows: Gradients with respect to what the group's layer gives.
        inputs: What the layer reads; None is a single 1.
    """

    rows: Float[Tensor, "n k d"]
    inputs: Float[Tensor, "n q"] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Factor:
        """The factor with both parts changed."""
        return Factor(change(self.rows), None if self.inputs is None else change(self.inputs))

    def row_bytes(self) -> int:
        """Bytes of one example."""
        return sum(a[0].numel() * a.element_size() for a in self if a is not None)


def double_device(device: torch.device) -> torch.device:
    """Where float64 numbers of a device are kept: MPS has none, the CPU serves it."""
    return torch.device("cpu") if device.type == "mps" else device


def double(value: Tensor) -> Tensor:
    """A tensor in float64, on its own device where that has it."""
    return value.to(double_device(value.device)).double()


def width(factors: Sequence[Factor]) -> int:
    """P: number of parameters of all factors."""
    return sum(f.rows.shape[2] * (1 if f.inputs is None else f.inputs.shape[1]) for f in factors)


def explicit(factors: Sequence[Factor]) -> Float[Tensor, "n k p"]:
    """J itself, parameters in the order of the factors, theta[a, b] row by row."""
    parts = []
    for rows, inputs in factors:
        if inputs is not None:
            rows = torch.einsum("nka,nb->nkab", rows, inputs).flatten(2)
        parts.append(rows)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def products(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """A B^T in float64: float32 products are off by more than a kernel's smallest eigenvalues."""
    return a.double() @ b.double().T


def kernel(a: Sequence[Factor], b: Sequence[Factor]) -> Float[Tensor, "n1 k n2 k"]:
    """J(a) J(b)^T in float64."""
    total: Tensor | None = None
    for f, g in zip(a, b, strict=True):
        shape = (*f.rows.shape[:2], *g.rows.shape[:2])
        theta = products(f.rows.flatten(0, 1), g.rows.flatten(0, 1)).view(shape)
        if f.inputs is not None and g.inputs is not None:
            theta *= products(f.inputs, g.inputs)[:, None, :, None]
        total = theta if total is None else total.add_(theta)
    assert total is not None
    return total


def trace_kernel_of(a: Sequence[Factor], b: Sequence[Factor]) -> Float[Tensor, "n1 n2"]:
    """The trace of each k x k block over k, in float64; k times cheaper than the blocks."""
    total: Tensor | None = None
    for f, g in zip(a, b, strict=True):
        theta = products(f.rows.flatten(1), g.rows.flatten(1)) / f.rows.shape[1]
        if f.inputs is not None and g.inputs is not None:
            theta *= products(f.inputs, g.inputs)
        total = theta if total is None else total.add_(theta)
    assert total is not None
    return total


def apply(factors: Sequence[Factor], move: Float[Tensor, "p r"]) -> Float[Tensor, "n k r"]:
    """J times r moves of the parameters, in float64."""
    total: Tensor | None = None
    for (rows, inputs), part in zip(factors, _split(factors, move), strict=True):
        if inputs is None:
            change = rows.double() @ part
        else:
            change = torch.einsum(
                "nka,nar->nkr", rows.double(), torch.einsum("nb,abr->nar", inputs.double(), part)
            )
        total = change if total is None else total + change
    assert total is not None
    return total


def apply_transposed(
    factors: Sequence[Factor], outputs: Float[Tensor, "n k r"]
) -> Float[Tensor, "p r"]:
    """J^T times r vectors over the outputs, in float64."""
    parts = []
    for rows, inputs in factors:
        pulled = torch.einsum("nka,nkr->nar", rows.double(), outputs)
        if inputs is None:
            parts.append(pulled.sum(0))
        else:
            parts.append(torch.einsum("nar,nb->abr", pulled, inputs.double()).flatten(0, 1))
    return torch.cat(parts)


def _split(factors: Sequence[Factor], move: Tensor) -> list[Tensor]:
    """The parameters of each factor: (d, r), or (d, q, r) where it has inputs."""
    sizes = [width([f]) for f in factors]
    parts = list(move.split(sizes))
    return [
        part if f.inputs is None else part.view(f.rows.shape[2], f.inputs.shape[1], -1)
        for f, part in zip(factors, parts, strict=True)
    ]
