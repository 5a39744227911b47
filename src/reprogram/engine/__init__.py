"""What makes training fast and changes no result; `choose_engine` is all that training needs.

An engine is one function, `outputs(model, batch)`. `plain` is the definition; every other one is
tested against it in float64.
"""

from __future__ import annotations

import torch

from reprogram.data.batches import ResidentData
from reprogram.engine.base import Engine
from reprogram.engine.feature_store import FeatureStore
from reprogram.engine.folded import FoldedEngine, for_inference, is_frozen_network
from reprogram.engine.memory import require_memory
from reprogram.engine.plain import PlainEngine
from reprogram.engine.splitting import (
    Parts,
    SplittingEngine,
    explaining_single_images,
    uses_batch_statistics,
)
from reprogram.engine.store import StoreEngine
from reprogram.engine.windowed import WindowEngine
from reprogram.errors import InputError, unknown
from reprogram.input_transforms import BorderPrompt
from reprogram.model import Reprogrammed

__all__ = [
    "ENGINES",
    "Engine",
    "FeatureStore",
    "FoldedEngine",
    "Parts",
    "PlainEngine",
    "SplittingEngine",
    "StoreEngine",
    "WindowEngine",
    "choose_engine",
    "explaining_single_images",
    "for_inference",
    "require_memory",
    "uses_batch_statistics",
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
    store = FeatureStore() if store is None else store
    if name == "auto":
        return SplittingEngine(fastest(model, data, device, precision, store))
    return SplittingEngine(named(name, model, data, device, precision, store))


def named(
    name: str,
    model: Reprogrammed,
    data: ResidentData,
    device: torch.device,
    precision: str,
    store: FeatureStore,
) -> Engine:
    """The engine of that name."""
    if name == "plain":
        return PlainEngine(data, device, precision)
    if name == "store":
        if not StoreEngine.serves(model, data):
            raise InputError(
                "engine=store needs a frozen body and no random crop in front of the mapping: use "
                "engine=auto, or augment=none with a method such as linear-probe."
            )
        stored = StoreEngine(model, data, device, precision, store)
        if not store.fits(stored.size):
            raise InputError(
                f"engine=store needs {stored.size / 2**20:,.0f} MiB for this run's outputs, more "
                "than the store may hold. Give a --feature-cache, or use engine=auto."
            )
        return stored
    if not is_frozen_network(model.source):
        raise InputError(f"engine={name} needs a frozen source. Use engine=auto.")
    kind = WindowEngine if name == "window" else FoldedEngine
    return kind(model, data, device, precision)


def fastest(
    model: Reprogrammed,
    data: ResidentData,
    device: torch.device,
    precision: str,
    store: FeatureStore,
) -> Engine:
    """Stored outputs where they fit, windows where they pay, else the folded or the plain pass."""
    if StoreEngine.serves(model, data):
        stored = StoreEngine(model, data, device, precision, store)
        if store.fits(stored.size):
            return stored
    if not is_frozen_network(model.source):
        return PlainEngine(data, device, precision)
    if isinstance(model.input_transform, BorderPrompt):
        try:
            windowed = WindowEngine(model, data, device, precision)
        except InputError:  # the network's graph cannot be followed
            return FoldedEngine(model, data, device, precision)
        if not windowed.reason:
            return windowed
    return FoldedEngine(model, data, device, precision)
