"""Rows of the tables that `reprogram list` and the documentation show."""

from __future__ import annotations

from typing import Any

import torch

from reprogram.data import TARGETS
from reprogram.errors import InputError
from reprogram.methods import BASELINES, MAPPINGS, METHODS, PROMPTS, Method
from reprogram.model import count_parameters
from reprogram.sources import SOURCES, Source

__all__ = ["mapping_rows", "method_rows", "prompt_rows", "source_rows", "target_rows"]

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
