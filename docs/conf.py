"""Sphinx settings. `make docs` builds; warnings are errors in `make check`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import pages

from reprogram import __version__

project = "reprogram"
author = "The reprogram authors"
project_copyright = "The reprogram authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "generated/*.inc"]
html_theme = "furo"
html_title = f"reprogram {__version__}"
default_role = "code"  # single backticks in docstrings
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app):
    """Norms are written |x| in docstrings, which would be substitutions in reStructuredText."""

    def escape_bars(app, what, name, obj, options, lines):
        lines[:] = [line.replace("|", r"\|") for line in lines]

    # Before napoleon, which has the priority 500.
    app.connect("autodoc-process-docstring", escape_bars, priority=400)


# The page "All of reprogram": the core, from the inputs to the table. Read top to bottom.
READING_ORDER = [
    "model.py",
    "input_transforms/base.py",
    "input_transforms/padding.py",
    "sources/base.py",
    "output_mappings/base.py",
    "output_mappings/frequency.py",
    "methods.py",
    "settings.py",
    "data/batches.py",
    "engine/base.py",
    "engine/plain.py",
    "training.py",
    "evaluation.py",
    "api.py",
    "experiments/cell.py",
    "experiments/run.py",
]

pages.write(HERE.parent / "src" / "reprogram", HERE / "generated", READING_ORDER)
