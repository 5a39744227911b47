"""The growth of a kernel's cost: both sides compute the same kernel, and the picture shows both."""

from __future__ import annotations

import torch

from benchmarks import ntk_growth
from benchmarks.__main__ import GROWTH, parser
from benchmarks.ntk import naive
from reprogram.analysis.ntk import kernel_of
from reprogram.model import count_parameters


def test_both_sides_compute_the_same_kernel() -> None:
    model, x = ntk_growth.case("pad", 3, 4, {"size": 28})
    assert count_parameters(model) == 3 * (32**2 - 28**2)  # of the parameters' axis
    found = kernel_of(model, x).matrix
    expected = naive(model, x, 2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_the_picture_has_both_sides_in_every_panel() -> None:
    points = {"x": [1, 2, 4], "peer": [1.0, 2.0, 4.0], "reprogram": [0.5, 1.0, 2.0]}
    figure = ntk_growth.draw({name: points for name in ntk_growth.PANELS})
    assert [len(axes.lines) for axes in figure.axes] == [2] * 3


def test_each_growth_has_its_option() -> None:
    for name in GROWTH:
        assert getattr(parser().parse_args([f"--{name.replace('_', '-')}", "folder"]), name)
