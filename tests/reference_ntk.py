"""The kernel by its definition: one gradient of one output of one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def jacobian(
    f: Callable[[Mapping[str, Tensor], Tensor], Tensor], params: Mapping[str, Tensor], x: Tensor
) -> Tensor:
    """(n, k, P): every gradient by ordinary backpropagation, one example a batch."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    rows = []
    for example in x:
        for output in f(leaves, example[None])[0]:
            grads = torch.autograd.grad(
                output, list(leaves.values()), retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows).view(len(x), -1, rows[0].numel())


def kernel(j1: Tensor, j2: Tensor) -> Tensor:
    """Theta[i, c, j, e]: the inner product of two gradients."""
    theta = torch.empty(*j1.shape[:2], *j2.shape[:2], dtype=j1.dtype)
    for i, c in torch.cartesian_prod(torch.arange(j1.shape[0]), torch.arange(j1.shape[1])):
        for j, e in torch.cartesian_prod(torch.arange(j2.shape[0]), torch.arange(j2.shape[1])):
            theta[i, c, j, e] = j1[i, c] @ j2[j, e]
    return theta
