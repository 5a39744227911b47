"""Output mappings: what the source gives in, target logits out.

The gradient-free ones are a matrix W (S, T) made by a pure function, target logits = source logits
@ W; the trained ones are a linear layer.
"""

from __future__ import annotations

from reprogram.output_mappings.base import MatrixMapping, OutputMapping
from reprogram.output_mappings.bayesian import (
    BayesianMapping,
    BayesianPlusMapping,
    bayesian_matrix,
    default_top_k,
    top_k_probabilities,
)
from reprogram.output_mappings.counting import counts
from reprogram.output_mappings.first import FirstMapping, first_matrix
from reprogram.output_mappings.frequency import (
    FrequencyMapping,
    ManyToOneMapping,
    frequency_matrix,
    many_to_one_matrix,
)
from reprogram.output_mappings.linear import HeadMapping, LinearMapping
from reprogram.output_mappings.random import RandomMapping, random_matrix

__all__ = [
    "BayesianMapping",
    "BayesianPlusMapping",
    "FirstMapping",
    "FrequencyMapping",
    "HeadMapping",
    "LinearMapping",
    "ManyToOneMapping",
    "MatrixMapping",
    "OutputMapping",
    "RandomMapping",
    "bayesian_matrix",
    "counts",
    "default_top_k",
    "first_matrix",
    "frequency_matrix",
    "many_to_one_matrix",
    "random_matrix",
    "top_k_probabilities",
]
