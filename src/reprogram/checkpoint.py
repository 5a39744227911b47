"""Checkpoints of a single run: written whole or not at all, and never executed when read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprogram.errors import InputError
from reprogram.files import replacing

__all__ = ["load_checkpoint", "save_checkpoint"]

logger = logging.getLogger(__name__)


def save_checkpoint(
    path: Path,
    identity: str,
    trace: dict[str, Any],
    tensors: dict[str, dict[str, Tensor]],
    optimizer: dict[str, Any],
) -> None:
    """Write the state after an epoch; the file before it stays until the new one is complete."""
    state = {"identity": identity, "trace": json.dumps(trace), "optimizer": optimizer, **tensors}
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state to go on from; None where there is no checkpoint yet.

    Raises:
        InputError: The file is damaged, or belongs to a run with other settings or data.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        trace = json.loads(state["trace"])
    except Exception as error:
        raise InputError(
            f"{path} is not a readable checkpoint ({type(error).__name__}). "
            "Delete it, or start again with --overwrite."
        ) from error
    if state["identity"] != identity:
        raise InputError(
            f"{path} belongs to a run with other settings or data. "
            "Use those settings, another --out, or --overwrite."
        )
    logger.info("resuming from %s", path)
    return state | {"trace": trace}
