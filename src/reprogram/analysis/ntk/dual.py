"""The dual route: the P x P matrix C = J^T J of a whole data set, streamed in fixed memory.

The non-zero eigenvalues of Theta = J J^T (nK x nK) are those of C, and ridge regression is the same
in both (I5): J^T (Theta + rho I)^{-1} r = (C + rho I)^{-1} J^T r. Where P is small and n large, C is
all that one needs to keep; a smaller binary mask at the same base point is a principal submatrix.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from reprogram.analysis.ntk.factor import double, double_device, explicit
from reprogram.analysis.ntk.forward_mode import along
from reprogram.analysis.ntk.jacobian import Function, Jacobian, as_pixels, jacobian_of
from reprogram.analysis.ntk.memory import DEFAULT_MAX_MEMORY, require_memory
from reprogram.analysis.ntk.table import OnProgress
from reprogram.errors import InputError
from reprogram.model import Reprogrammed

__all__ = ["Dual", "dual_of", "linearised", "rows_of"]

ROWS_AT_ONCE = 1024  # of J: a product of so many pays for adding its P x P result up
COLUMNS_AT_ONCE = 768  # of C: only blocks on and above the diagonal are computed


@dataclass(frozen=True)
class Dual:
    """C = J^T J over n examples and, for a prediction, J^T r.

    `reprogram.analysis.spectrum` reads it: summaries, ridge regression, gradient flow.

    Attributes:
        matrix: C in float64.
        moment: J^T r of the residual r, (P,); zero where none was given.
        square: |r|^2.
        jacobian_mean: Mean of J over the examples, (k, P), which centres what is read from C.
        examples: n.
        outputs: k, rows of J an example.
        parameters: P.
        rows: How J was computed.
        seconds: Wall time.
        unravel: From a vector of P parameters to tensors by the model's names.
    """

    matrix: Float[Tensor, "p p"]
    moment: Float[Tensor, " p"]
    square: float
    jacobian_mean: Float[Tensor, "k p"]
    examples: int
    outputs: int
    parameters: int
    rows: str
    seconds: float
    unravel: Callable[[Tensor], dict[str, Tensor]]

    def eigenvalues(self) -> Float[Tensor, " nk"]:
        """All n k eigenvalues of the kernel, largest first; beyond the P-th they are 0."""
        values = torch.linalg.eigvalsh(self.matrix).flip(0).clamp_min(0)
        rows = self.examples * self.outputs
        return torch.cat([values[:rows], values.new_zeros(max(0, rows - len(values)))])


def dual_of(
    model: Reprogrammed,
    x: Num[Tensor, "n c h w"],
    residual: Float[Tensor, "n k"] | None = None,
    *,
    rows: str = "auto",
    max_memory: int = DEFAULT_MAX_MEMORY,
    batch_size: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Dual:
    """C = J^T J of all images, in memory that does not grow with their number.

    Args:
        model: In eval mode.
        x: Images in [0, 1], or bytes, which are converted batch by batch.
        residual: r = Y - f_0(X), for predictions.
        rows: "auto", "sensitivities" or "jacobian".
        max_memory: Bytes that C and its eigenvalues may take. With its eigenvectors (a summary, ridge
            regression) it takes twice as many.
        batch_size: Images a pass; None chooses.
        on_progress: Called with examples done and in all.

    Raises:
        InputError: As in :func:`kernel_of`, or P x P numbers are too many.
    """
    jacobian = jacobian_of(model, x, rows=rows)
    return stream(
        jacobian, x, residual, max_memory, batch_size, on_progress, lambda v: as_pixels(v, model)
    )


def stream(
    jacobian: Jacobian,
    x: Tensor,
    residual: Tensor | None = None,
    max_memory: int = DEFAULT_MAX_MEMORY,
    batch_size: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
    prepare: Callable[[Tensor], Tensor] = lambda x: x,
) -> Dual:
    """:func:`dual_of` for any Jacobian."""
    began, p, k = time.perf_counter(), jacobian.parameters, jacobian.outputs
    require_memory(
        dual_size(p), max_memory, f"the dual matrix of {p:,} parameters",
        "Use the gram, hadamard or lanczos route, or a prompt with fewer parameters.",
    )  # fmt: skip
    if residual is not None and residual.shape != (len(x), k):
        raise InputError(f"residual must be (n, k) = ({len(x)}, {k}), got {tuple(residual.shape)}.")
    device = double_device(jacobian.device)
    matrix = torch.zeros(p, p, dtype=torch.float64, device=device)
    moment = torch.zeros(p, dtype=torch.float64, device=device)
    total = torch.zeros(k, p, dtype=torch.float64, device=device)
    size = batch_size or jacobian.batch_size(x, max_memory)
    waiting: list[Tensor] = []
    for start in range(0, len(x), size):
        part = prepare(x[start : start + size])
        j = double(explicit(jacobian.factors(part)))
        total += j.sum(0)
        if residual is not None:
            moment += torch.einsum("nkp,nk->p", j, residual[start : start + size].to(moment))
        waiting.append(j.flatten(0, 1))
        if sum(map(len, waiting)) >= ROWS_AT_ONCE or start + size >= len(x):
            _add_products(matrix, torch.cat(waiting))
            waiting = []
        on_progress(min(start + size, len(x)), len(x))
    for start in range(0, p, COLUMNS_AT_ONCE):  # mirror what was computed above the diagonal
        block = slice(start, start + COLUMNS_AT_ONCE)
        matrix[start + COLUMNS_AT_ONCE :, block] = matrix[block, start + COLUMNS_AT_ONCE :].T
    square = 0.0 if residual is None else float(double(residual).square().sum())
    return Dual(
        matrix, moment, square, total / len(x), len(x), k, p, jacobian.rows, time.perf_counter() - began,
        jacobian.unravel,
    )  # fmt: skip


def rows_of(
    model: Reprogrammed,
    x: Num[Tensor, "n c h w"],
    *,
    rows: str = "auto",
    max_memory: int = DEFAULT_MAX_MEMORY,
    batch_size: int | None = None,
) -> Float[Tensor, "n k p"]:
    """J itself in the order of C, of the few examples that are predicted, or left out, in the dual.

    Args:
        model: In eval mode.
        x: Images in [0, 1], or bytes.
        rows: "auto", "sensitivities" or "jacobian".
        max_memory: Bytes that J may take.
        batch_size: Images a pass; None chooses.

    Raises:
        InputError: As in :func:`kernel_of`, or J is too large.
    """
    jacobian = jacobian_of(model, x, rows=rows)
    require_memory(
        len(x) * jacobian.outputs * jacobian.parameters * jacobian.dtype.itemsize, max_memory,
        f"the Jacobian of {len(x):,} examples and {jacobian.parameters:,} parameters",
        "Take fewer examples, or the dense kernel.",
    )  # fmt: skip
    parts = x.split(batch_size or jacobian.batch_size(x, max_memory))
    return torch.cat([explicit(jacobian.factors(as_pixels(part, model))) for part in parts])


def dual_size(parameters: int) -> int:
    """Bytes of C and of the workspace that its eigenvalues take."""
    return 3 * 8 * parameters**2


def linearised(
    f: Function,
    params: dict[str, Tensor],
    move: dict[str, Tensor],
    x: Float[Tensor, "n ..."],
    batch_size: int = 64,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """f_0(x) and J(x) move: the first-order model f_0 + J move, one forward-mode pass for all k.

    Args:
        f: As `reprogram.functional` gives.
        params: Base point theta_0.
        move: theta - theta_0, by name; parameters without an entry stay.
        x: Examples.
        batch_size: Examples a pass.
    """
    tangent = {n: move[n].to(p) if n in move else torch.zeros_like(p) for n, p in params.items()}
    outputs, changes = [], []
    for part in x.split(batch_size):
        f0, change = along(f, params, tangent, part)
        outputs.append(f0)
        changes.append(change)
    return torch.cat(outputs), torch.cat(changes)


def _add_products(matrix: Float[Tensor, "p p"], j: Float[Tensor, "rows p"]) -> None:
    """Add J^T J to a matrix, blocks on and above the diagonal only."""
    for start in range(0, len(matrix), COLUMNS_AT_ONCE):
        left = slice(start, start + COLUMNS_AT_ONCE)
        matrix[left, start:] += j[:, left].T @ j[:, start:]
