"""What the spectrum of a neural tangent kernel says: summary, predictions, leave-one-out, drift."""

from __future__ import annotations

from reprogram.analysis.spectrum.bound import Convergence, convergence
from reprogram.analysis.spectrum.cross_entropy import (
    cross_entropy_flow,
    gauss_newton_flow,
    gauss_newton_ridge,
    kernel_features,
)
from reprogram.analysis.spectrum.drift import Drift, centred_alignment, kernel_drift
from reprogram.analysis.spectrum.kernel import Eigensystem, decompose
from reprogram.analysis.spectrum.leave_one_out import (
    leave_one_out,
    leave_one_out_accuracy,
    leave_one_out_dual,
    left_out,
    ridge_inverse,
)
from reprogram.analysis.spectrum.regression import (
    gradient_flow,
    gradient_flow_dual,
    kernel_ridge,
    mse_time,
    ridge_dual,
    scaled_residual,
)
from reprogram.analysis.spectrum.summary import (
    RIDGES,
    Spectrum,
    summarise,
    summarise_dual,
    trace_alignment,
)

__all__ = [
    "RIDGES",
    "Convergence",
    "Drift",
    "Eigensystem",
    "Spectrum",
    "centred_alignment",
    "convergence",
    "cross_entropy_flow",
    "decompose",
    "gauss_newton_flow",
    "gauss_newton_ridge",
    "gradient_flow",
    "gradient_flow_dual",
    "kernel_drift",
    "kernel_features",
    "kernel_ridge",
    "leave_one_out",
    "leave_one_out_accuracy",
    "leave_one_out_dual",
    "left_out",
    "mse_time",
    "ridge_dual",
    "ridge_inverse",
    "scaled_residual",
    "summarise",
    "summarise_dual",
    "trace_alignment",
]
