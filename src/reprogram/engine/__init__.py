"""What makes training fast and changes no result; `choose_engine` is all that training needs.

An engine is one function, `outputs(model, batch)`. `plain` is the definition; every other one is
tested against it in float64.
"""

from __future__ import annotations

import torch

from reprogram.data.batches import ResidentData
from reprogram.engine.base import Engine
from reprogram.engine.folded import FoldedEngine, is_frozen_network
from reprogram.engine.plain import PlainEngine
from reprogram.engine.store import FeatureStore, StoreEngine
from reprogram.engine.windowed import WindowEngine
from reprogram.errors import InputError, unknown
from reprogram.input_transforms import BorderPrompt
from reprogram.model import Reprogrammed

__all__ = [
    "ENGINES",
    "Engine",
    "FeatureStore",
    "FoldedEngine",
    "PlainEngine",
    "StoreEngine",
    "WindowEngine",
    "choose_engine",
]

ENGINES = ("auto", "plain", "folded", "store", "window")


def choose_engine(
    name: str,
    model: Reprogrammed,
    data: ResidentData,
    device: torch.device,
    precision: str,
    store: FeatureStore | None = None,
) -> Engine:
    """The named engine, or with "auto" the fastest one that serves the model.

    Raises:
        InputError: Unknown name, or an engine that cannot serve this model.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if name == "auto":
        return fastest(model, data, device, precision, store)
    if name == "plain":
        return PlainEngine(data, device, precision)
    if name == "store":
        if not StoreEngine.serves(model, data):
            raise InputError(
                "engine=store needs a frozen body and no random crop in front of the mapping: use "
                "engine=auto, or augment=none with a method such as linear-probe."
            )
        return StoreEngine(data, device, precision, store or FeatureStore())
    if not is_frozen_network(model.source):
        raise InputError(f"engine={name} needs a frozen source. Use engine=auto.")
    kind = WindowEngine if name == "window" else FoldedEngine
    return kind(model, data, device, precision)


def fastest(
    model: Reprogrammed,
    data: ResidentData,
    device: torch.device,
    precision: str,
    store: FeatureStore | None,
) -> Engine:
    """Stored outputs, else windows where they pay, else the folded source, else the plain pass."""
    if StoreEngine.serves(model, data):
        return StoreEngine(data, device, precision, store or FeatureStore())
    if not is_frozen_network(model.source):
        return PlainEngine(data, device, precision)
    if isinstance(model.input_transform, BorderPrompt) and precision == "float32":
        try:
            windowed = WindowEngine(model, data, device, precision)
        except InputError:  # the network's graph cannot be followed
            return FoldedEngine(model, data, device, precision)
        if not windowed.reason:
            return windowed
    return FoldedEngine(model, data, device, precision)
