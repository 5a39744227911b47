"""Pictures: plain data in, a matplotlib figure out, one style, written by :func:`save`."""

from __future__ import annotations

from reprogram.figures.curves import (
    PairMark,
    Point,
    accuracy_curve,
    distance_scatter,
    severity_curve,
    training_curve,
)
from reprogram.figures.mappings import mapping_picture
from reprogram.figures.prompts import Examples, choose_examples, prompt_picture
from reprogram.figures.show import show_figure
from reprogram.figures.spectrum import SpectrumLine, spectrum_picture
from reprogram.figures.style import (
    check_picture,
    inline_svg,
    method_style,
    png_bytes,
    save,
    svg_text,
)

__all__ = [
    "Examples",
    "PairMark",
    "Point",
    "SpectrumLine",
    "accuracy_curve",
    "check_picture",
    "choose_examples",
    "distance_scatter",
    "inline_svg",
    "mapping_picture",
    "method_style",
    "png_bytes",
    "prompt_picture",
    "save",
    "severity_curve",
    "show_figure",
    "spectrum_picture",
    "svg_text",
    "training_curve",
]
