"""What makes training fast and changes no result; `choose_engine` is all that training needs."""

from __future__ import annotations

import torch

from reprogram.batches import ResidentData
from reprogram.engine.base import Engine
from reprogram.engine.plain import PlainEngine
from reprogram.engine.store import FeatureStore, StoreEngine
from reprogram.errors import InputError, unknown
from reprogram.model import Reprogrammed

__all__ = ["ENGINES", "Engine", "FeatureStore", "PlainEngine", "StoreEngine", "choose_engine"]

ENGINES = ("auto", "plain", "store")


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
    serves = StoreEngine.serves(model, data)
    if name == "store" and not serves:
        raise InputError(
            "engine=store needs a frozen body and no random crop in front of the mapping: "
            "use engine=auto, or augment=none with a method such as linear-probe."
        )
    if name == "plain" or not serves:
        return PlainEngine(data, device, precision)
    return StoreEngine(data, device, precision, store or FeatureStore())
