"""The numbers that describe a spectrum, each named so that it cannot be taken for another.

rank Theta <= min(n K, P), so the smallest eigenvalue of the full kernel is exactly 0 once n K > P;
`smallest_nonzero` is the min(n K, P)-th. Both are given with the noise floor, below which float
arithmetic cannot tell an eigenvalue from zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.spectrum.kernel import (
    Eigensystem,
    as_columns,
    as_gram,
    centred,
    cleared,
    decompose,
    finite,
)
from reprogram.errors import InputError

__all__ = ["RIDGES", "Spectrum", "summarise", "summarise_dual", "trace_alignment"]

# Of the trace: equal for a kernel and its multiples, so VP and FC are compared at the same ones.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_TOPS = (1, 10, 100, 1000)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A spectrum and its summary.

    Attributes:
        kind: "full" for the n K x n K kernel, "per-example" for an n x n one (trace, pseudo),
            "unnamed" for a matrix without a residual that could tell.
        size: Rows of the kernel.
        parameters: P, those that reach the output; None where it was not given.
        eigenvalues: Largest first, min(size, P) of them by the dual route, else all.
        trace: Sum of all eigenvalues.
        lambda_max: The largest.
        lambda_min: The size-th: 0 where the rank bound is smaller.
        rank_bound: min(size, P), or min(size, K P) of the trace kernel.
        smallest_nonzero: The eigenvalue of that number.
        noise_floor: Below it an eigenvalue cannot be told from zero.
        rank: Number of eigenvalues above the noise floor.
        condition_number: lambda_max / smallest_nonzero; infinite where that is within the noise.
        stable_rank: trace / lambda_max.
        effective_rank: exp of the entropy of the eigenvalues over their sum (Roy and Vetterli 2007).
        decay_exponent: a of lambda_i ~ i^-a, least squares of log lambda on log i over the rank,
            weights 1 / i so that every octave counts alike; None below three eigenvalues.
        effective_dimension: sum lambda / (lambda + rho) by rho / trace.
        alignment_full: Of the full kernel with the residual (Cortes et al. 2012), centred
            over examples by C (x) I_K.
        alignment_trace: Of the trace kernel with C R R^T C. On the same data the two differ by a
            large factor: they are not comparable.
        cumulative_share: Entry r - 1 is the share of |Y - f_0|^2 in the top-r eigenspaces.
    """

    kind: str
    size: int
    parameters: int | None
    eigenvalues: Float[Tensor, " m"]
    trace: float
    lambda_max: float
    lambda_min: float
    rank_bound: int
    smallest_nonzero: float
    noise_floor: float
    rank: int
    condition_number: float
    stable_rank: float
    effective_rank: float
    decay_exponent: float | None
    effective_dimension: dict[float, float]
    alignment_full: float | None = None
    alignment_trace: float | None = None
    cumulative_share: Float[Tensor, " m"] | None = None

    @property
    def lambda_min_over_noise(self) -> float:
        """Lambda_min in units of the noise floor: below 1 it says nothing but "zero here"."""
        return self.lambda_min / self.noise_floor

    @property
    def smallest_nonzero_over_noise(self) -> float:
        """The smallest non-zero eigenvalue in units of the noise floor."""
        return self.smallest_nonzero / self.noise_floor

    def by_trace(self) -> dict[str, float]:
        """Eigenvalues as shares of the trace, in which kernels of different prompts are compared."""
        names = ("lambda_max", "lambda_min", "smallest_nonzero", "noise_floor")
        return {f"{name}_by_trace": getattr(self, name) / self.trace for name in names}

    def share_in_top(self, r: int) -> float | None:
        """Share of |Y - f_0|^2 in the top-r eigenspaces."""
        if self.cumulative_share is None:
            return None
        return float(self.cumulative_share[min(r, len(self.cumulative_share)) - 1])

    def to_dict(self, arrays: bool = False) -> dict[str, Any]:
        """JSON values; what is not finite becomes None.

        Args:
            arrays: Also every eigenvalue and the whole cumulative share.
        """
        skipped = {"eigenvalues", "cumulative_share", "effective_dimension"}
        values: dict[str, Any] = {k: v for k, v in vars(self).items() if k not in skipped}
        values |= self.by_trace() | {
            "lambda_min_over_noise": self.lambda_min_over_noise,
            "smallest_nonzero_over_noise": self.smallest_nonzero_over_noise,
        }
        values = {k: None if _endless(v) else v for k, v in values.items()}
        values["effective_dimension"] = {f"{r:g}": d for r, d in self.effective_dimension.items()}
        if self.cumulative_share is not None:
            values["share_in_top"] = {f"{r}": self.share_in_top(r) for r in self._tops()}
        if arrays:
            values["eigenvalues"] = self.eigenvalues.tolist()
            share = self.cumulative_share
            values["cumulative_share"] = None if share is None else share.tolist()
        return values

    def __str__(self) -> str:
        P = "unknown" if self.parameters is None else f"{self.parameters:,}"
        lines = [
            f"{self.kind} kernel, {self.size:,} rows, {P} parameters, rank {self.rank:,}",
            self._eigenvalue("largest eigenvalue", self.lambda_max),
            self._eigenvalue("smallest eigenvalue", self.lambda_min),
            *self._last_that_parameters_allow(),
            _line("noise floor", self.noise_floor),
            _line("condition number", self.condition_number),
            _line("stable rank", self.stable_rank),
            _line("effective rank", self.effective_rank),
        ]
        if self.decay_exponent is not None:
            lines.append(_line("decay exponent", self.decay_exponent))
        for ratio, d in self.effective_dimension.items():
            lines.append(_line("effective dimension", d, f"at rho = {ratio:g} trace"))
        if self.alignment_full is not None:
            lines.append(_line("alignment, full kernel", self.alignment_full))
        if self.alignment_trace is not None:
            lines.append(_line("alignment, trace kernel", self.alignment_trace))
        for r in self._tops():
            share = self.share_in_top(r)
            if share is not None:
                lines.append(f"  {'residual in the top ' + str(r):<24}{100 * share:>11.1f} %")
        return "\n".join(lines)

    def _last_that_parameters_allow(self) -> list[str]:
        """The last eigenvalue that can be above 0, where the kernel has more rows."""
        if self.rank_bound == self.size:
            return []
        bound = "P" if self.rank_bound == self.parameters else "K P"
        return [
            self._eigenvalue(f"eigenvalue {self.rank_bound:,} ({bound})", self.smallest_nonzero)
        ]

    def _tops(self) -> list[int]:
        return [r for r in _TOPS if r <= len(self.eigenvalues)]

    def _eigenvalue(self, name: str, value: float) -> str:
        if value <= self.noise_floor:
            return _line(name, 0.0, "(below the noise floor)")
        return _line(
            name, value,
            f"{value / self.trace:.3g} of the trace, {value / self.noise_floor:.3g} noise floors",
        )  # fmt: skip


def _line(name: str, value: float, remark: str = "") -> str:
    return f"  {name:<24}{value:>11.4g}  {remark}".rstrip()


def _endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def summarise(
    kernel: Float[Tensor, "..."],
    residual: Float[Tensor, "n k"] | None = None,
    *,
    parameters: int | None = None,
    logits: int = 1,
    ridges: Sequence[float] = RIDGES,
    precision: torch.dtype = torch.float64,
    system: Eigensystem | None = None,
) -> Spectrum:
    """Summarise the spectrum of a kernel by its eigendecomposition.

    Args:
        kernel: Theta(X, X), full or per-example.
        residual: Y - f_0(X); without it alignments and shares are left out.
        parameters: P, those that reach the output, so without the masked ones; None is taken to be
            at least the rows.
        logits: How many of them an entry sums, K of the trace kernel: its rank is at most K P.
        ridges: rho / trace at which effective dimensions are taken.
        precision: In which the Jacobians were computed; it sets the noise floor.
        system: The kernel's decomposition where the caller has it for other uses too.

    Raises:
        InputError: The kernel is zero, not finite, not square or does not fit the residual.
    """
    matrix = as_gram(kernel)
    system = system or decompose(matrix, precision)
    rank_bound = len(matrix) if parameters is None else min(len(matrix), logits * parameters)
    about_residual: dict[str, Any] = {}
    if residual is not None:
        columns = as_columns(residual, len(matrix))
        coefficients = (system.vectors.T @ columns).square().sum(1)
        about_residual = _alignments(matrix, finite("the residual", residual)) | {
            "cumulative_share": _cumulative(coefficients, float(columns.square().sum()))
        }
    return _summary(
        system.values, float(matrix.trace()), system.noise_floor, ridges,
        kind=_kind(kernel, residual), size=len(matrix), parameters=parameters, rank_bound=rank_bound,
        lambda_min=0.0 if rank_bound < len(matrix) else float(system.values[-1]), **about_residual,
    )  # fmt: skip


def summarise_dual(
    gram: Float[Tensor, "p p"],
    *,
    examples: int,
    num_classes: int,
    moment: Float[Tensor, " p"] | None = None,
    squared_residual: float | None = None,
    jacobian_mean: Float[Tensor, "k p"] | None = None,
    residual_mean: Float[Tensor, " k"] | None = None,
    parameters: int | None = None,
    ridges: Sequence[float] = RIDGES,
    precision: torch.dtype = torch.float64,
) -> Spectrum:
    """Summarise the full kernel's spectrum from C = J^T J, whose size does not grow with n.

    C has the non-zero eigenvalues of Theta = J J^T. With g = J^T r, the residual's component in the
    eigenspace of (lambda_i, u_i) is (u_i . g)^2 / lambda_i.

    Args:
        gram: C.
        examples: n.
        num_classes: K.
        moment: g; with `squared_residual` it gives the shares.
        squared_residual: |r|^2.
        jacobian_mean: Mean of J over the examples; with `residual_mean` it centres the alignment.
        residual_mean: Mean of r over the examples.
        parameters: P without the masked ones; None counts the non-zero entries of C's diagonal.
        ridges: As in :func:`summarise`.
        precision: As in :func:`summarise`.

    Raises:
        InputError: C is zero, not finite or not square.
    """
    matrix = as_gram(gram)
    system = decompose(matrix, precision)
    size = examples * num_classes
    reached = int((matrix.diagonal() != 0).sum()) if parameters is None else parameters
    kept = min(size, reached)
    about_residual: dict[str, Any] = {}
    if moment is not None and squared_residual is not None:
        g = finite("J^T r", moment)
        about_residual["cumulative_share"] = _dual_shares(system, g, squared_residual)[:kept]
        if jacobian_mean is not None and residual_mean is not None:
            about_residual["alignment_full"] = _dual_alignment(
                matrix, g, squared_residual, jacobian_mean, residual_mean, examples
            )
    return _summary(
        system.values[:kept], float(matrix.trace()), system.noise_floor, ridges,
        kind="full", size=size, parameters=reached, rank_bound=kept,
        lambda_min=0.0 if reached < size else float(system.values[kept - 1]), **about_residual,
    )  # fmt: skip


def _summary(
    values: Float[Tensor, " m"],
    trace: float,
    noise_floor: float,
    ridges: Sequence[float],
    *,
    rank_bound: int,
    **others: Any,
) -> Spectrum:
    positive = values.clamp(min=0)
    smallest = float(values[rank_bound - 1])
    rank = int((values > noise_floor).sum())
    return Spectrum(
        eigenvalues=values,
        trace=trace,
        lambda_max=float(values[0]),
        rank_bound=rank_bound,
        smallest_nonzero=smallest,
        noise_floor=noise_floor,
        rank=rank,
        condition_number=float(values[0]) / smallest if smallest > noise_floor else math.inf,
        stable_rank=trace / float(values[0]),
        effective_rank=_effective_rank(positive),
        decay_exponent=_decay_exponent(values[:rank]),
        effective_dimension={
            ratio: float((positive / (positive + ratio * trace)).sum()) for ratio in ridges
        },
        **others,
    )


def _kind(kernel: Float[Tensor, "..."], residual: Float[Tensor, "n k"] | None) -> str:
    if kernel.ndim == 4 or (residual is not None and residual.numel() == len(kernel)):
        return "full"
    return "unnamed" if residual is None else "per-example"


def _effective_rank(values: Float[Tensor, " m"]) -> float:
    shares = values / values.sum()
    return math.exp(float(-torch.xlogy(shares, shares).sum()))


def _decay_exponent(values: Float[Tensor, " r"]) -> float | None:
    if len(values) < 3:
        return None
    order = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device)
    x, y, weight = order.log(), values.log(), 1 / order
    x = x - (weight * x).sum() / weight.sum()
    return -float((weight * x * y).sum() / (weight * x.square()).sum())


def _cumulative(coefficients: Float[Tensor, " m"], total: float) -> Float[Tensor, " m"]:
    if total == 0:
        raise InputError("the residual is zero: the labels are fitted exactly, nothing is left.")
    return (coefficients.cumsum(0) / total).clamp(max=1.0)


def _alignments(
    matrix: Float[Tensor, "rows rows"], residual: Float[Tensor, "n k"]
) -> dict[str, float | None]:
    n, k = residual.shape
    if len(matrix) == n * k:
        full = _alignment(centred(matrix, k), _centred_target(residual).reshape(-1, 1))
        return {"alignment_full": full, "alignment_trace": trace_alignment(matrix, residual)}
    return {"alignment_trace": trace_alignment(matrix, residual)}


def trace_alignment(kernel: Float[Tensor, "..."], residual: Float[Tensor, "n k"]) -> float | None:
    """Alignment of the trace kernel with C R R^T C, without an eigenproblem.

    Args:
        kernel: Theta(X, X), full or per-example.
        residual: R = Y - f_0(X).
    """
    n, k = residual.shape
    matrix = kernel
    if kernel.numel() == (n * k) ** 2:
        matrix = torch.einsum("ikjk->ij", kernel.reshape(n, k, n, k)) / k
    target = _centred_target(finite("the residual", residual))
    return _alignment(centred(finite("the kernel", matrix), 1), target)


def _centred_target(residual: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """C R, and 0 where that is rounding."""
    return cleared(residual - residual.mean(0), float(residual.norm()))


def _alignment(
    kernel: Float[Tensor, "rows rows"], target: Float[Tensor, "rows columns"]
) -> float | None:
    """<K, R R^T> / (|K| |R R^T|) of a centred kernel and residual; None where one is constant."""
    norm = float(kernel.norm() * (target.T @ target).norm())
    return float((target * (kernel @ target)).sum()) / norm if norm else None


def _dual_shares(
    system: Eigensystem, moment: Float[Tensor, " p"], squared_residual: float
) -> Float[Tensor, " p"]:
    projections = (system.vectors.T @ moment).square()
    above = system.values > system.noise_floor
    return _cumulative((projections / system.values).where(above, 0.0), squared_residual)


def _dual_alignment(
    gram: Float[Tensor, "p p"],
    moment: Float[Tensor, " p"],
    squared_residual: float,
    jacobian_mean: Float[Tensor, "k p"],
    residual_mean: Float[Tensor, " k"],
    n: int,
) -> float | None:
    """With J and r centred over examples: |J^T r|^2 / (|J^T J| |r|^2), the full kernel's alignment."""
    mean = finite("the mean Jacobian", jacobian_mean)
    offset = finite("the mean residual", residual_mean)
    centred_gram = cleared(gram - n * mean.T @ mean, float(gram.norm()))
    centred_moment = moment - n * mean.T @ offset
    left = squared_residual - n * float(offset.square().sum())
    if not centred_gram.any() or left < 1e-12 * squared_residual:
        return None
    return float(centred_moment.square().sum()) / (float(centred_gram.norm()) * left)
