"""Rows of the tables that `reprogram list` and the documentation show."""

from __future__ import annotations

from typing import Any

import docstring_parser
import torch

from reprogram.data import TARGETS
from reprogram.data.noise import NOISES, ImageNoise
from reprogram.errors import InputError
from reprogram.methods import BASELINES, MAPPINGS, METHODS, PROMPTS, Method, get_method
from reprogram.model import count_parameters
from reprogram.settings import Settings
from reprogram.sources import SOURCES, Source

__all__ = [
    "mapping_rows", "method_rows", "noise_rows", "prompt_rows", "setting_rows", "source_rows",
    "target_rows",
]  # fmt: skip

# A prompt above this is not made only to be counted (fc on 224 px has 2.3e10 parameters).
LARGEST = 4 << 30
TEN_CLASSES = tuple(f"class_{i}" for i in range(10))


def method_rows(source: Source, baselines_only: bool = False) -> list[dict[str, Any]]:
    """Every method: what it trains, its parameters on this source with ten target classes."""
    methods = BASELINES if baselines_only else METHODS
    return [
        {
            "method": name,
            "trains": method.trains,
            "parameters": parameters_on(method, source),
            "mapping": method.mapping.does,
            "reference": method.reference,
        }
        for name, method in methods.items()
    ]


def prompt_rows(source: Source) -> list[dict[str, Any]]:
    """Every prompt with its parameters on this source, and the settings it reads."""
    return [
        {
            "prompt": name,
            "trains": prompt.trains,
            "parameters": parameters_on(METHODS[f"{name}+rlm"], source),
            "settings": " ".join(prompt.options) or "-",
            "reference": prompt.reference,
        }
        for name, prompt in PROMPTS.items()
    ]


def mapping_rows() -> list[dict[str, Any]]:
    """Every mapping, and the settings it reads."""
    return [
        {
            "mapping": name,
            "target logits are": mapping.does,
            "settings": " ".join(mapping.options) or "-",
            "reference": mapping.reference,
        }
        for name, mapping in MAPPINGS.items()
    ]


def parameters_on(method: Method, source: Source) -> int | None:
    """Trainable parameters with ten classes; None where the method cannot serve them here."""
    settings = method.resolve(source, native_size=None, n_train=1)
    try:
        model = method.build(source, TEN_CLASSES, settings, torch.Generator(), LARGEST)
    except InputError:
        return None
    return count_parameters(model)


def source_rows() -> list[dict[str, Any]]:
    """Every source that has a name."""
    return [entry.row() for entry in SOURCES.values()]


def target_rows() -> list[dict[str, Any]]:
    """Every target that has a name."""
    return [
        {
            "target": name,
            "classes": entry.num_classes,
            "px": entry.image_size,
            "get": entry.get,
            "reference": entry.reference,
        }
        for name, entry in TARGETS.items()
    ]


def noise_rows() -> list[dict[str, Any]]:
    """Every noise, with the strengths of severities 1 to 5."""
    return [
        {
            "noise": name,
            "of": "images" if isinstance(noise, ImageNoise) else "training labels",
            "severities 1 to 5": " ".join(f"{level:g}" for level in noise.levels),
            "strength": noise.unit,
            "reference": noise.reference,
        }
        for name, noise in NOISES.items()
    ]


def setting_rows(method: str) -> list[dict[str, Any]]:
    """Every setting that a method reads, with its published value.

    Raises:
        InputError: No such method.
    """
    chosen = get_method(method)
    described = docstring_parser.parse(Settings.__doc__ or "").params
    does = {d.arg_name: (d.description or "").replace("None is", "none is") for d in described}
    read = chosen.settings_read(chosen.settings.to_dict())
    return [
        {"setting": name, "value": _as_typed(value), "what it is": " ".join(does[name].split())}
        for name, value in read.items()
    ]


def _as_typed(value: object) -> str:
    """A value as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(f"{v:g}" for v in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
