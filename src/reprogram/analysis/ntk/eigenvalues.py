"""One call for a kernel's spectrum, by the cheapest route that fits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from reprogram.analysis.ntk.assembly import Work, build_table, contract, store_key
from reprogram.analysis.ntk.dual import dual_size, stream
from reprogram.analysis.ntk.estimates import Estimate, hutchpp, lanczos
from reprogram.analysis.ntk.jacobian import Jacobian, as_pixels, jacobian_of
from reprogram.analysis.ntk.memory import DEFAULT_MAX_MEMORY, require_memory
from reprogram.analysis.ntk.operators import FunctionOperator, KernelOperator, TableOperator
from reprogram.analysis.ntk.table import OnProgress
from reprogram.errors import unknown
from reprogram.model import Reprogrammed, functional

__all__ = ["ROUTES", "Cost", "Eigenvalues", "costs", "eigenvalues_of"]


@dataclass(frozen=True)
class Eigenvalues:
    """The spectrum of a full kernel over n examples.

    Attributes:
        values: Largest first, in float64: all n k, or the largest of the lanczos route.
        errors: How far each may be off; None of an exact route.
        trace: tr Theta; its error is 0 where it is exact.
        examples: n.
        outputs: k.
        parameters: P; at most min(n k, P) eigenvalues are not 0.
        rows: How J was computed; empty where it was not.
        route: How the spectrum was: a name in ROUTES.
        seconds: Wall time.
    """

    values: Float[Tensor, " count"]
    errors: Float[Tensor, " count"] | None
    trace: Estimate
    examples: int
    outputs: int
    parameters: int
    rows: str
    route: str
    seconds: float


class Cost(NamedTuple):
    """What a route would take."""

    flops: float
    bytes: int


@dataclass(frozen=True)
class _Job:
    """A spectrum to compute, and with what."""

    model: Reprogrammed
    jacobian: Jacobian
    x: Tensor
    work: Work
    count: int


Answer = tuple[Tensor, Tensor | None, Estimate]


def _dual(job: _Job) -> Answer:
    w = job.work
    dual = stream(job.jacobian, job.x, None, w.max_memory, w.batch_size, w.on_progress, w.prepare)
    return dual.eigenvalues(), None, Estimate(float(dual.matrix.trace()), 0.0)


def _dense(job: _Job) -> Answer:
    rows = len(job.x) * job.jacobian.outputs
    require_memory(
        gram_size(rows), job.work.max_memory, f"the eigenproblem of {rows:,} rows",
        "Use the dual or the lanczos route, or fewer examples.",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ntk-") as scratch:
        table = build_table(job.jacobian, job.x, job.work, Path(scratch))
        theta = contract(table, table, "full", job.jacobian.device).flatten(2).flatten(0, 1)
        del table
    values = torch.linalg.eigvalsh(theta).flip(0).clamp_min(0)
    return values, None, Estimate(float(theta.trace()), 0.0)


def _lanczos(job: _Job) -> Answer:
    with tempfile.TemporaryDirectory(prefix="ntk-") as scratch:
        table = build_table(job.jacobian, job.x, job.work, Path(scratch))
        return _from_products(TableOperator(table, job.jacobian.device), job.count)


def _matrix_free(job: _Job) -> Answer:
    f, params = functional(job.model)
    return _from_products(FunctionOperator(f, params, job.work.prepare(job.x)), job.count)


def _from_products(operator: KernelOperator, count: int) -> Answer:
    if operator.size == 1:  # ARPACK finds fewer than all
        only = (operator @ torch.ones(1, 1).double()).cpu().flatten()
        return only, torch.zeros(1).double(), Estimate(float(only), 0.0)
    values, errors = lanczos(operator, count)
    trace = operator.trace()
    return values, errors, hutchpp(operator) if trace is None else Estimate(trace, 0.0)


# dual: C = J^T J, streamed. gram: Theta itself. lanczos: products with a J that is kept on disk.
# matrix-free: products by automatic differentiation, where not even a disk holds J.
ROUTES: dict[str, Callable[[_Job], Answer]] = {
    "dual": _dual,
    "gram": _dense,
    "hadamard": _dense,
    "lanczos": _lanczos,
    "matrix-free": _matrix_free,
}


def costs(examples: int, outputs: int, parameters: int, widths: int) -> dict[str, Cost]:
    """Flops behind the gradients, and bytes of memory, of the exact routes.

    Args:
        examples: n.
        outputs: k.
        parameters: P.
        widths: Numbers that the factors of J hold an output: P, or far less for a linear layer.

    >>> table = costs(examples=50_000, outputs=10, parameters=3_072, widths=3_072)
    >>> min(table, key=lambda route: table[route].flops)
    'dual'
    """
    rows = float(examples * outputs)
    return {
        "dual": Cost(rows * parameters**2 + 9.0 * parameters**3, dual_size(parameters)),
        "gram": Cost(rows**2 * widths + 9.0 * rows**3, gram_size(int(rows))),
    }


def gram_size(rows: int) -> int:
    """Bytes of Theta and of its copy in the eigensolver."""
    return 2 * 8 * rows**2


def eigenvalues_of(
    model: Reprogrammed,
    x: Num[Tensor, "n c h w"],
    *,
    route: str = "auto",
    rows: str = "auto",
    count: int = 100,
    max_memory: int = DEFAULT_MAX_MEMORY,
    store: Path | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Eigenvalues:
    """The spectrum of the full kernel of a model on images, by the cheapest route that fits.

    Args:
        model: In eval mode.
        x: Images in [0, 1], or bytes.
        route: "auto" or a name in ROUTES.
        rows: "auto", "sensitivities" or "jacobian".
        count: Eigenvalues that lanczos finds.
        max_memory: Bytes that an exact route may take.
        store: Directory that keeps J for gram and lanczos.
        batch_size: Images a pass; None chooses.
        on_progress: Called with examples done and in all.

    Raises:
        InputError: As in :func:`kernel_of`, an unknown route, or one that does not fit.
    """
    if route not in ("auto", *ROUTES):
        raise unknown("route", route, ["auto", *ROUTES])
    began = time.perf_counter()
    jacobian = jacobian_of(model, x, rows=rows)
    key = "" if store is None else store_key(model, jacobian, x)
    work = Work(max_memory, store, key, batch_size, on_progress, lambda v: as_pixels(v, model))
    nk = len(x) * jacobian.outputs
    factors = jacobian.factors(work.prepare(x[:1]))
    factored = any(f.inputs is not None for f in factors)
    if route == "auto":
        held = sum(f.rows.shape[2] for f in factors)
        table = costs(len(x), jacobian.outputs, jacobian.parameters, held)
        fitting = {r: c for r, c in table.items() if c.bytes <= max_memory}
        route = min(fitting, key=lambda r: fitting[r].flops) if fitting else "lanczos"
    if route == "gram" and factored:
        route = "hadamard"
    values, errors, trace = ROUTES[route](_Job(model, jacobian, x, work, min(count, nk - 1)))
    return Eigenvalues(
        values.cpu(), errors, trace, len(x), jacobian.outputs, jacobian.parameters,
        "" if route == "matrix-free" else jacobian.rows, route, time.perf_counter() - began,
    )  # fmt: skip
