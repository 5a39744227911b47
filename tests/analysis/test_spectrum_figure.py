"""The picture of a spectrum: what is on it, and that it holds whatever a kernel gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reprogram.errors import InputError
from reprogram.figures import save
from reprogram.figures.spectrum import SpectrumLine, spectrum_picture


def line(n: int = 30, scale: float = 1.0, shares: bool = True) -> SpectrumLine:
    values = scale * np.arange(1, n + 1.0) ** -2
    share = np.cumsum(values) / values.sum()
    return SpectrumLine(values, scale * 1e-3, share if shares else None)


def texts(figure) -> set[str]:
    from matplotlib.text import Text

    return {t.get_text() for t in figure.findobj(Text)}


def test_eigenvalues_noise_floor_and_labels_share_one_axis() -> None:
    figure = spectrum_picture({"pad+flm": line()}, title="USPS")
    top, bottom = figure.axes
    assert {"noise floor", "eigenvalue", "rank of the eigenvalue", "USPS"} <= texts(figure)
    assert (top.get_xscale(), top.get_yscale(), bottom.get_xscale()) == ("log", "log", "log")
    assert top.get_xlim() == bottom.get_xlim() and bottom.get_yscale() == "linear"
    curve, floor = top.get_lines()
    np.testing.assert_allclose(curve.get_ydata(), line().eigenvalues)
    np.testing.assert_allclose(floor.get_ydata(), 1e-3)
    assert bottom.get_lines()[0].get_ydata()[-1] == pytest.approx(100)
    assert top.get_legend() is None


def test_kernels_are_compared_by_their_trace() -> None:
    pair = {"pad+flm": line(), "fc+flm": line(scale=50.0)}
    figure = spectrum_picture(pair, by_trace=True)
    one, _, two, _ = figure.axes[0].get_lines()
    np.testing.assert_allclose(one.get_ydata(), two.get_ydata())
    assert {"pad+flm", "fc+flm", "eigenvalue / trace"} <= texts(figure)


def test_without_labels_there_is_one_panel() -> None:
    assert len(spectrum_picture({"a": line(shares=False)}).axes) == 1


def test_null_and_negative_eigenvalues_are_left_out() -> None:
    values = np.array([1.0, 0.5, 0.0, -1e-17])
    figure = spectrum_picture({"a": SpectrumLine(values, 1e-15)})
    assert len(figure.axes[0].get_lines()[0].get_ydata()) == 2
    with pytest.raises(InputError, match="no positive eigenvalue"):
        spectrum_picture({"a": SpectrumLine(np.zeros(3), 1e-15)})
    with pytest.raises(InputError, match="nothing to draw"):
        spectrum_picture({})


def test_ten_thousand_eigenvalues_and_one_are_drawn(tmp_path: Path) -> None:
    written = save(spectrum_picture({"big": line(10_000)}), tmp_path / "big.svg")
    assert written[0].stat().st_size < 200_000
    save(spectrum_picture({"one": line(1)}), tmp_path / "one.png")
