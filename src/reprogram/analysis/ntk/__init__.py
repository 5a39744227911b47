"""Neural tangent kernels of reprogrammed models, exact wherever memory allows.

With J(x) = d f(x) / d theta over the trained parameters only, Theta(x, x') = J(x) J(x')^T (Jacot et
al. 2018). A frozen source makes J cheap: `sensitivities` are its gradients by the prompted image,
from k batched backward passes, and every transformation is algebra on them (`closed_forms`,
`pullback`). From there:

- `kernel_of` gives the dense kernel, `empirical_ntk` that of any callable;
- `dual_of` gives the P x P matrix of a data set of any size;
- `eigenvalues_of` chooses the cheapest route to the spectrum.
"""

from __future__ import annotations

from reprogram.analysis.ntk.dual import Dual, dual_of, linearised, rows_of
from reprogram.analysis.ntk.eigenvalues import ROUTES, Eigenvalues, costs, eigenvalues_of
from reprogram.analysis.ntk.estimates import Estimate, hutchpp, lanczos
from reprogram.analysis.ntk.kernel import (
    KINDS,
    Kernel,
    empirical_ntk,
    kernel_of,
    pseudo_ntk,
    trace_kernel,
)
from reprogram.analysis.ntk.operators import FunctionOperator, KernelOperator, TableOperator
from reprogram.analysis.ntk.sensitivities import Sensitivities, sensitivities_of

__all__ = [
    "KINDS",
    "ROUTES",
    "Dual",
    "Eigenvalues",
    "Estimate",
    "FunctionOperator",
    "Kernel",
    "KernelOperator",
    "Sensitivities",
    "TableOperator",
    "costs",
    "dual_of",
    "eigenvalues_of",
    "empirical_ntk",
    "hutchpp",
    "kernel_of",
    "lanczos",
    "linearised",
    "pseudo_ntk",
    "rows_of",
    "sensitivities_of",
    "trace_kernel",
]
