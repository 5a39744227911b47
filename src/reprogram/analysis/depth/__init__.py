"""The NTK paper's experiment (arXiv 2506.00620) reported: depth, source accuracy, spectrum, VP and FC.

`measure_point` sets a finished training beside its source's own accuracy and the spectrum of its
kernel before training; `claims_of` tests what the paper claims along depth, `choices_of` whether the
kernel says which of two methods loses less, `lines_of` and `comparisons_of` are the means that its
figures draw.
"""

from __future__ import annotations

from reprogram.analysis.depth.choices import CRITERIA, Choice, choices_of
from reprogram.analysis.depth.claims import Claim, claims_of
from reprogram.analysis.depth.measure import depth_of, measure_point
from reprogram.analysis.depth.summary import (
    COLUMNS,
    Comparison,
    Line,
    comparisons_of,
    lines_of,
    markdown,
    text,
)

__all__ = [
    "COLUMNS",
    "CRITERIA",
    "Choice",
    "Claim",
    "Comparison",
    "Line",
    "choices_of",
    "claims_of",
    "comparisons_of",
    "depth_of",
    "lines_of",
    "markdown",
    "measure_point",
    "text",
]
