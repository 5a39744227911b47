"""How well accuracy is predicted before training: forecasts and their competitors, measured and scored.

`trials` finds the trainings of a results directory; `measure` forecasts each of them from training
images alone; `evaluate` calibrates every predictor on other targets, or other sources, and holds it
against what training reached.
"""

from __future__ import annotations

from reprogram.analysis.study.agreement import Agreement, Interval, PairWeights
from reprogram.analysis.study.calibrate import calibration_of, held_out
from reprogram.analysis.study.evaluate import Candidate, Evaluation, evaluate
from reprogram.analysis.study.measure import measure_trial
from reprogram.analysis.study.rows import Pairs, StudyRows, write_csv
from reprogram.analysis.study.table import markdown, text
from reprogram.analysis.study.trials import Trial, trials_of

__all__ = [
    "Agreement",
    "Candidate",
    "Evaluation",
    "Interval",
    "PairWeights",
    "Pairs",
    "StudyRows",
    "Trial",
    "calibration_of",
    "evaluate",
    "held_out",
    "markdown",
    "measure_trial",
    "text",
    "trials_of",
    "write_csv",
]
