"""The one style of every picture: palette, a method's line, figures without state, saving."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram.errors import InputError
from reprogram.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GRID", "INK", "MUTED", "PAPER", "LineStyle", "inline_svg", "method_style", "save"]
__all__ += ["check_picture", "new_figure", "png_bytes", "styled", "svg_text"]

KINDS = (".png", ".svg")  # of files

# Okabe and Ito (2008), "Color universal design", without their yellow: too pale on white.
ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
VERMILLION, PURPLE = "#d55e00", "#cc79a7"
# Each neutral has its own value, so that inline_svg can hand it to the page's own colours.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6571", "#dce1e6", "#ffffff"


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn: colour for the screen, dash and marker for black and white."""

    colour: str
    dash: Any
    marker: str


METHOD_STYLES = {
    "reprogramming": LineStyle(VERMILLION, "-", "o"),
    "full-finetune": LineStyle(BLUE, "-", "s"),
    "head-finetune": LineStyle(GREEN, (0, (6, 2)), "D"),
    "linear-probe": LineStyle(ORANGE, (0, (4, 1.5, 1, 1.5)), "^"),
    "pad+ilm": LineStyle(PURPLE, (0, (3, 1.2)), "v"),
    "smm+ilm": LineStyle(INK, "-", "P"),
    "smm+linear": LineStyle(SKY, "-", "X"),
    "none+ilm": LineStyle(MUTED, (0, (1, 1.6)), "."),
}
_COLOURS = (SKY, PURPLE, GREEN, ORANGE, BLUE, VERMILLION, INK)
_DASHES = ((0, (5, 1.2)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)), (0, (6, 1.5, 1, 1.5, 1, 1.5)))
_MARKERS = ("h", "<", ">", "p", "*", "d")

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.color": INK,
    # Class names are text of a user's file: a dollar sign in one must not start a formula.
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "hatch.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    # Equal figures give equal files: ids in an SVG are hashed with this instead of a random salt.
    "svg.hashsalt": "reprogram",
}


def method_style(method: str) -> LineStyle:
    """The colour, dash and marker of a method, the same in every figure, table and page.

    Methods outside the fixed list draw theirs from the hash of their name.

    >>> method_style("linear-probe").marker
    '^'
    >>> method_style("fourier+blm") == method_style("fourier+blm")
    True
    """
    if method in METHOD_STYLES:
        return METHOD_STYLES[method]
    draw = int.from_bytes(hashlib.sha256(method.encode()).digest()[:8], "big")
    draw, colour = divmod(draw, len(_COLOURS))
    draw, dash = divmod(draw, len(_DASHES))
    return LineStyle(_COLOURS[colour], _DASHES[dash], _MARKERS[draw % len(_MARKERS)])


@contextmanager
def styled(**overrides: Any) -> Iterator[None]:
    """Matplotlib with this module's settings, the caller's own left as they were."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = _RC | overrides
        matplotlib.rcParams.update(settings)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches on the Agg canvas, unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure, *, dpi: float = 160.0) -> bytes:
    """The figure as PNG, without a time or a version in it."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg_text(figure: Figure, *, outlines: bool = True) -> str:
    """The figure as a deterministic SVG document.

    Args:
        figure: What to draw.
        outlines: Letters as outlines, the same on every machine; False keeps real text.
    """
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    buffer = io.StringIO()
    with styled(**{"svg.fonttype": "path" if outlines else "none"}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    return buffer.getvalue()


def inline_svg(figure: Figure, *, label: str, prefix: str) -> str:
    """The figure as an ``<svg>`` element for a page: real text, the page's colours, unique ids.

    Args:
        figure: What to draw; its neutral colours become ``currentColor`` and CSS variables.
        label: What a screen reader says in its place.
        prefix: Put before every id; letters, digits and hyphens, unique in the page.
    """
    from markupsafe import escape

    text = svg_text(figure, outlines=False)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = text.replace("xlink:href", "href")
    opening, rest = text.split(">", 1)
    view_box = re.search(r'viewBox="([^"]+)"', opening)
    assert view_box is not None, "matplotlib writes a viewBox"
    for colour, variable in ((INK, "currentColor"), (MUTED, "var(--muted)")):
        rest = rest.replace(colour, variable)
    for colour, variable in ((GRID, "var(--rule)"), (PAPER, "var(--paper)")):
        rest = rest.replace(colour, variable)
    rest = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", rest)
    rest = re.sub(
        r"font: (bold|700) ([\d.]+)px [^;\"]*", r"font-weight: 700; font-size: \2px", rest
    )
    head = f'<svg role="img" aria-label="{escape(label)}" viewBox="{view_box[1]}">'
    return head + rest.strip()


def save(figure: Figure, path: str | Path, *, dpi: float = 160.0) -> list[Path]:
    """Write a figure as ``.png`` or ``.svg``, by the suffix; both where there is none.

    Args:
        figure: What to write.
        path: The file; a file of that name is replaced at once or not at all.
        dpi: Pixels per inch of the PNG.

    Returns:
        The files written.

    Raises:
        InputError: For another suffix.
    """
    path = check_picture(path)
    written = [path.with_suffix(suffix) for suffix in ([path.suffix] if path.suffix else KINDS)]
    for file in written:
        data = png_bytes(figure, dpi=dpi) if file.suffix == ".png" else svg_text(figure).encode()
        write_bytes(file, data)
    return written


def check_picture(path: str | Path) -> Path:
    """The path of a picture that can be written.

    Raises:
        InputError: For another suffix.
    """
    path = Path(path)
    if path.suffix not in ("", *KINDS):
        raise InputError(f"picture {path.name!r} must end in .png or .svg, or in neither for both.")
    return path
