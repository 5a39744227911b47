"""Model reprogramming: a frozen source classifier, a learned input transformation, an output mapping.

>>> import reprogram as rp
>>> "pad+ilm" in rp.METHODS
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprogram.api import fit
    from reprogram.data import TARGETS, Split, TargetTask, load_target
    from reprogram.errors import InputError
    from reprogram.evaluation import Evaluation, evaluate, predict
    from reprogram.experiments import Cell, Result, run_cell
    from reprogram.input_transforms import InputTransform
    from reprogram.methods import BASELINES, MAPPINGS, METHODS, PROMPTS, Method, get_method
    from reprogram.model import Reprogrammed, functional, trainable
    from reprogram.output_mappings import OutputMapping
    from reprogram.settings import Settings
    from reprogram.sources import SOURCES, NetworkSource, Source, load_source

__version__ = "0.1.0"

__all__ = [
    "BASELINES", "MAPPINGS", "METHODS", "PROMPTS", "SOURCES", "TARGETS", "Cell", "Evaluation",
    "InputError", "InputTransform", "Method", "NetworkSource", "OutputMapping", "Reprogrammed",
    "Result", "Settings", "Source", "Split", "TargetTask", "evaluate", "fit", "functional",
    "get_method", "load_source", "load_target", "predict", "run_cell", "trainable",
]  # fmt: skip

# Public names load on first use, so that `import reprogram` and `reprogram --help` do not wait for torch.
_HOME = {
    "reprogram.api": ("fit",),
    "reprogram.data": ("TARGETS", "Split", "TargetTask", "load_target"),
    "reprogram.errors": ("InputError",),
    "reprogram.evaluation": ("Evaluation", "evaluate", "predict"),
    "reprogram.experiments": ("Cell", "Result", "run_cell"),
    "reprogram.input_transforms": ("InputTransform",),
    "reprogram.methods": ("BASELINES", "MAPPINGS", "METHODS", "PROMPTS", "Method", "get_method"),
    "reprogram.model": ("Reprogrammed", "functional", "trainable"),
    "reprogram.output_mappings": ("OutputMapping",),
    "reprogram.settings": ("Settings",),
    "reprogram.sources": ("SOURCES", "NetworkSource", "Source", "load_source"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'reprogram' has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
