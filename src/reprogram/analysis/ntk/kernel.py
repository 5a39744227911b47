"""Kernels as dense matrices: full, trace and pseudo."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float, Num
from torch import Tensor

from reprogram.analysis.ntk.assembly import Work, build_table, contract, store_key
from reprogram.analysis.ntk.jacobian import (
    Function,
    FunctionJacobian,
    Jacobian,
    as_pixels,
    jacobian_of,
)
from reprogram.analysis.ntk.memory import DEFAULT_MAX_MEMORY, require_memory
from reprogram.analysis.ntk.table import OnProgress
from reprogram.errors import InputError, unknown
from reprogram.model import Reprogrammed

__all__ = ["KINDS", "Kernel", "empirical_ntk", "kernel_of", "pseudo_ntk", "trace_kernel"]

_log = logging.getLogger(__name__)

KINDS = ("full", "trace", "pseudo")
MANY_CLASSES = 43  # above it a full kernel costs more than it tells: a trace kernel is k^2 smaller


@dataclass(frozen=True)
class Kernel:
    """A dense kernel and how it was made.

    Attributes:
        values: Theta in float64, (n1, k, n2, k), or (n1, n2) of a trace or pseudo kernel.
        kind: "full", "trace" or "pseudo".
        rows: How J was computed: "sensitivities" or "jacobian" (`torch.func`).
        route: How J became the kernel: "gram", or "hadamard" where a layer's J was never formed.
        parameters: P, entries that the outputs depend on.
        outputs: k.
        seconds: Wall time.
        bytes: Of the Jacobian's factors.
        note: What the user should know, "" otherwise.
        reads: What the mapping reads of the first images, on the CPU; None where no pass over all
            of them was made here.
    """

    values: Tensor
    kind: str
    rows: str
    route: str
    parameters: int
    outputs: int
    seconds: float
    bytes: int
    note: str = ""
    reads: Float[Tensor, "n1 source"] | None = None

    @property
    def matrix(self) -> Float[Tensor, "rows columns"]:
        """(n1 k, n2 k), row i k + c for example i and output c; (n1, n2) of a small kernel."""
        return self.values if self.values.ndim == 2 else self.values.flatten(2).flatten(0, 1)


def kernel_of(
    model: Reprogrammed,
    x: Num[Tensor, "n1 c h w"],
    x2: Num[Tensor, "n2 c h w"] | None = None,
    *,
    kind: str = "full",
    rows: str = "auto",
    max_memory: int = DEFAULT_MAX_MEMORY,
    store: Path | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Kernel:
    """The kernel of a reprogrammed model or a baseline between images.

    Theta(x, x') = J(x) J(x')^T over the trained parameters. A Jacobian that does not fit
    `max_memory` lies in memory-mapped files, in `store` or in a temporary directory.

    Args:
        model: In eval mode.
        x: Images in [0, 1] (or bytes), of the input transformation's size.
        x2: Other images; None is `x`.
        kind: "full", "trace" (tr Theta / k) or "pseudo" (of the sum of the logits / sqrt(k)).
        rows: "auto", "sensitivities" or "jacobian".
        max_memory: Bytes for the kernel and for each block that is worked on.
        store: Directory that keeps J; a second call resumes or reuses it.
        batch_size: Images a pass; None chooses.
        on_progress: Called with examples done and in all.

    Raises:
        InputError: Train mode, nothing trained, non-finite gradients, or too large a kernel.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    jacobian = jacobian_of(model, x, rows=rows, combine="pseudo" if kind == "pseudo" else "full")
    jacobian.keep_reads()
    key = "" if store is None else store_key(model, jacobian, x)
    work = Work(max_memory, store, key, batch_size, on_progress, lambda v: as_pixels(v, model))
    return _dense(jacobian, x, x2, kind, work)


def empirical_ntk(
    f: Function,
    params: Mapping[str, Tensor],
    x1: Float[Tensor, "n1 ..."],
    x2: Float[Tensor, "n2 ..."] | None = None,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> Float[Tensor, "n1 k n2 k"]:
    """Theta(x, x') = J(x) J(x')^T of any callable, J = d f(params, x) / d params, in float64.

    Jacot et al. 2018, "Neural tangent kernel"; empirical: at these parameters.

    Args:
        f: f(params, x) maps (n, ...) to (n, k) and treats examples apart.
        params: By name, such as `reprogram.functional` gives.
        x1: Examples.
        x2: Other examples; None is `x1`.
        max_memory: Bytes that the kernel may take.

    >>> import torch
    >>> f = lambda params, x: x @ params["w"]  # I1: a linear model has X X^T (x) I
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    >>> empirical_ntk(f, {"w": torch.zeros(2, 1)}, x)[:, 0, :, 0].tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    return _of_function(f, params, x1, x2, "full", max_memory)


def trace_kernel(
    f: Function,
    params: Mapping[str, Tensor],
    x1: Float[Tensor, "n1 ..."],
    x2: Float[Tensor, "n2 ..."] | None = None,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> Float[Tensor, "n1 n2"]:
    """The trace of each k x k block over k; arguments as in :func:`empirical_ntk`."""
    return _of_function(f, params, x1, x2, "trace", max_memory)


def pseudo_ntk(
    f: Function,
    params: Mapping[str, Tensor],
    x1: Float[Tensor, "n1 ..."],
    x2: Float[Tensor, "n2 ..."] | None = None,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> Float[Tensor, "n1 n2"]:
    """The kernel of the sum of the outputs / sqrt(k); arguments as in :func:`empirical_ntk`.

    Mohamadi et al. 2023, "A fast, well-founded approximation to the empirical neural tangent kernel".
    """
    return _of_function(f, params, x1, x2, "pseudo", max_memory)


def _of_function(
    f: Function, params: Mapping[str, Tensor], x1: Tensor, x2: Tensor | None, kind: str, limit: int
) -> Tensor:
    if not len(x1) or (x2 is not None and not len(x2)):
        raise InputError("a kernel needs at least one example, got none.")
    jacobian = FunctionJacobian(f, params, x1[:1], "pseudo" if kind == "pseudo" else "full")
    return _dense(jacobian, x1, x2, kind, Work(limit)).values


def _dense(jacobian: Jacobian, x: Tensor, x2: Tensor | None, kind: str, work: Work) -> Kernel:
    began = time.perf_counter()
    n1, n2, k = len(x), len(x if x2 is None else x2), jacobian.outputs
    entries = n1 * n2 * (k * k if kind == "full" else 1)
    require_memory(
        8 * entries, work.max_memory, f"the {kind} kernel of {n1:,} x {n2:,} examples, k = {k},",
        f"Take fewer examples, {'kind=trace, ' if kind == 'full' else ''}or the dual route, whose "
        "memory does not grow with n.",
    )  # fmt: skip
    note = _note(kind, k)
    with tempfile.TemporaryDirectory(prefix="ntk-") as scratch:
        left = right = build_table(jacobian, x, work, Path(scratch) / "x")
        reads = jacobian.reads(n1)  # before the other images are run
        if x2 is not None:
            right = build_table(jacobian, x2, replace(work, store=None), Path(scratch) / "x2")
        values = contract(left, right, kind, jacobian.device)
        size = left.size + (right.size if right is not left else 0)
        factored = any(f.inputs is not None for f in left.factors)
        parameters = left.reached()
        del left, right  # files are closed before their directory goes
    return Kernel(
        values, kind, jacobian.rows, "hadamard" if factored else "gram",
        parameters, k, time.perf_counter() - began, size, note, reads,
    )  # fmt: skip


def _note(kind: str, k: int) -> str:
    if kind != "full" or k <= MANY_CLASSES:
        return ""
    note = (
        f"a full kernel has {k} x {k} entries a pair of examples: above {MANY_CLASSES} classes "
        "kind=trace or kind=pseudo is recommended."
    )
    _log.warning("%s", note)
    return note
