"""The kernel as an operator: products with vectors, where the matrix would be too large."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.ntk.factor import apply, apply_transposed, double, double_device, width
from reprogram.analysis.ntk.forward_mode import along
from reprogram.analysis.ntk.jacobian import Function
from reprogram.analysis.ntk.table import FactorTable

__all__ = ["FunctionOperator", "KernelOperator", "TableOperator"]


class KernelOperator(ABC):
    """Theta = J J^T, n k rows, example by example.

    Attributes:
        size: n k.
    """

    size: int

    @abstractmethod
    def __matmul__(self, u: Float[Tensor, "nk r"]) -> Float[Tensor, "nk r"]:
        """Theta u in float64."""

    @abstractmethod
    def trace(self) -> float | None:
        """The trace where it costs no products: the sum of squared gradient norms (I7)."""


class TableOperator(KernelOperator):
    """Products with a Jacobian that was built once and is kept.

    Args:
        table: J as factors, in memory or memory-mapped.
        device: Where the products are computed.
    """

    def __init__(self, table: FactorTable, device: torch.device) -> None:
        self.table = table
        self.device = double_device(device)
        n, self.outputs = table.factors[0].rows.shape[:2]
        self.size = n * self.outputs
        row = max(f.row_bytes() for f in table.factors)
        self.examples = max(1, (64 << 20) // row)
        self.columns = max(1, (64 << 20) // (8 * width(table.factors)))

    def __matmul__(self, u: Float[Tensor, "nk r"]) -> Float[Tensor, "nk r"]:
        # J^T u has P numbers a column: few columns at a time where a linear layer has many.
        return torch.cat([self._products(part) for part in u.split(self.columns, 1)], 1)

    def _products(self, u: Float[Tensor, "nk r"]) -> Float[Tensor, "nk r"]:
        u = u.to(self.device).view(self.table.n, self.outputs, -1)
        move: Tensor | float = 0.0
        for part, factors in self.table.blocks(self.examples, self.device):
            move = move + apply_transposed(factors, u[part])
        assert isinstance(move, Tensor)
        blocks = self.table.blocks(self.examples, self.device)
        return torch.cat([apply(factors, move) for _, factors in blocks]).flatten(0, 1)

    def trace(self) -> float:
        total = 0.0
        for _, factors in self.table.blocks(self.examples, self.device):
            for rows, inputs in factors:
                norms = rows.double().square().sum((1, 2))
                if inputs is not None:
                    norms = norms * inputs.double().square().sum(1)
                total += float(norms.sum())
        return total


class FunctionOperator(KernelOperator):
    """Products by automatic differentiation, J^T u backward and J w forward; J is never formed.

    Args:
        f: f(params, x) maps (n, ...) to (n, k) and treats examples apart.
        params: Trained parameters by name.
        x: Examples.
        batch_size: Examples a pass.
    """

    def __init__(
        self,
        f: Function,
        params: dict[str, Tensor],
        x: Float[Tensor, "n ..."],
        batch_size: int = 32,
    ) -> None:
        self.f, self.params, self.batches = f, params, x.split(batch_size)
        with torch.no_grad():
            self.outputs = f(params, x[:1]).shape[1]
        self.size = len(x) * self.outputs

    def __matmul__(self, u: Float[Tensor, "nk r"]) -> Float[Tensor, "nk r"]:
        return torch.stack([self._product(column) for column in u.T], 1)

    def trace(self) -> None:
        return None

    def _product(self, u: Float[Tensor, " nk"]) -> Float[Tensor, " nk"]:
        move = {name: double(torch.zeros_like(p)) for name, p in self.params.items()}
        parts = u.view(-1, self.outputs).split([len(x) for x in self.batches])
        for x, part in zip(self.batches, parts, strict=True):
            backward = torch.func.vjp(lambda p, x=x: self.f(p, x), self.params)
            for name, gradient in backward[1](part.to(backward[0]))[0].items():
                move[name] += double(gradient.detach())
        tangent = {name: m.to(self.params[name]) for name, m in move.items()}
        changes = [double(along(self.f, self.params, tangent, x)[1]) for x in self.batches]
        return torch.cat(changes).flatten()
