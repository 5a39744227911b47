"""Weights from a local file into a network: no code is run, and every name and shape must fit."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.sources.state import tensors_of

__all__ = ["load_strictly", "load_tensors", "read_weights"]

CONTAINERS = ("state_dict", "model")
"""Keys under which training scripts keep the network's tensors in a checkpoint."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a .safetensors or .pth file.

    A checkpoint's {"state_dict": ...} or {"model": ...} is unwrapped, and the prefix "module."
    that DistributedDataParallel leaves is cut off.

    Raises:
        InputError: No such file, a damaged one, a pickle that would run code, or no tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"weights file {str(path)!r} does not exist. Give a .safetensors or .pth.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of other pickle protocols; it may still be refused
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weights file {str(path)!r} holds more than tensors, and loading it could run code: "
            "it was refused, not run. Save network.state_dict() alone, best as .safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"weights file {str(path)!r} cannot be read: {str(error).splitlines()[0][:120]}. "
            "It is damaged or no .safetensors or .pth file: fetch it again."
            if str(error)
            else f"weights file {str(path)!r} is empty or cut short. Fetch it again."
        ) from error
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    if not isinstance(content, dict) or not content:
        raise InputError(f"weights file {str(path)!r} holds no named tensors. Save a state_dict.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                f"weights file {str(path)!r}: entry {key!r} is a {type(value).__name__}, not a "
                "tensor. Save network.state_dict() alone."
            )
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return content


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy every tensor into the network, converting floating point formats.

    Args:
        network: Changed in place.
        weights: By the names of `network.state_dict()`.
        where: File or directory, for the message.

    Raises:
        InputError: Names the missing and unexpected tensors, and the first that has another shape.
    """
    own = tensors_of(network)
    # Files from before PyTorch counted batches lack this counter; nothing reads it in eval mode.
    missing = [k for k in own if k not in weights and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in weights if k not in own]
    if missing or unexpected:
        raise InputError(
            f"{where} does not fit the network: {_misfits(missing, unexpected)}. "
            "Check the architecture and its model_args."
        )
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise InputError(
                f"{where}: tensor {key!r} has shape {tuple(value.shape)}, the network needs "
                f"{tuple(own[key].shape)}. Check the architecture and num_classes."
            )
        if own[key].is_floating_point() and not value.is_floating_point():
            raise InputError(
                f"{where}: tensor {key!r} is {value.dtype}, the network needs floating point. "
                "Convert quantised weights to float first."
            )
    load_tensors(network, weights)


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in the place of a network's own; those that are not named stay.

    A network's `state_dict()` also says which version of its modules it comes from, which some
    (torchvision's MNASNet) insist on and a plain dict does not.
    """
    state = network.state_dict()
    state.update(tensors)
    network.load_state_dict(state)


def _misfits(missing: list[str], unexpected: list[str]) -> str:
    parts = []
    for label, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{label} {', '.join(names[:3])}{more}")
    return "; ".join(parts)
