"""Published weights of torchvision and timm, from their usual caches on this machine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import InputError, unknown
from reprogram.sources.architectures import create_network, find_head, head_weight
from reprogram.sources.class_names import default_class_names
from reprogram.sources.parts import Parts
from reprogram.sources.weights import load_strictly, read_weights

__all__ = ["load_timm", "load_torchvision", "new_network"]


def new_network(
    architecture: str, state: Mapping[str, Tensor], num_classes: int | None
) -> nn.Module:
    """An untrained network with as many classes as the weights have, else 1,000.

    torch's global generator is left as it was, since loading must not change a later draw.
    """
    with torch.random.fork_rng(devices=[]):
        network = create_network(architecture, num_classes or 1000)
        key = head_weight(network, find_head(network))
        if key and num_classes is None and key in state and len(state[key]) != 1000:
            network = create_network(architecture, len(state[key]))
    return network


def load_torchvision(
    name: str, *, weights: str | Path | None, num_classes: int | None, download: bool
) -> Parts:
    """A torchvision classifier with the preprocessing and classes of its weights enum.

    Args:
        name: As "resnet50", which takes the first published weights (IMAGENET1K_V1: those that this
            field's papers used), or "resnet50@IMAGENET1K_V2".
        weights: File to load instead.
        num_classes: Logits in that file, by default as many as its head has.
        download: Whether published weights may be fetched.

    Raises:
        InputError: Unknown weights, or none on this machine.
    """
    import torchvision.models

    short, _, variant = name.partition("@")
    choices = torchvision.models.get_model_weights(short)
    variant = variant or next(iter(choices)).name
    if variant not in choices.__members__:
        raise unknown(f"weights of {short!r}", variant, choices.__members__)
    entry = choices[variant]
    preset = entry.transforms()
    architecture = f"torchvision/{short}"
    if weights is None:
        if num_classes not in (None, 1000):
            raise _published_classes(name, num_classes)
        file = _cached(entry.url, name, download)
        state, where = read_weights(file), str(file)
        _use_current_names(state)
    else:
        state, where = read_weights(weights), str(weights)
    network = new_network(architecture, state, num_classes)
    load_strictly(network, state, where)
    return Parts(
        network=network,
        name=name,
        head=find_head(network),
        mean=preset.mean,
        std=preset.std,
        image_size=preset.crop_size[0],
        class_names=_class_names(entry.meta["categories"], network, num_classes),
    )


def _use_current_names(state: dict[str, Tensor]) -> None:
    """Bring an older published file in line with today's networks.

    In place, because the dict carries the version numbers that torchvision's loading reads.
    """
    for key in list(state):
        if key.startswith(("aux1.", "aux2.", "AuxLogits.")):  # built without auxiliary heads here
            del state[key]
        elif "denselayer" in key:
            state[re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key)] = state.pop(key)


def load_timm(
    name: str, *, weights: str | Path | None, num_classes: int | None, download: bool
) -> Parts:
    """A timm classifier with the preprocessing of its pretrained configuration.

    Args:
        name: timm's, with an optional tag: "resnet18.a1_in1k".
        weights: File to load instead.
        num_classes: Logits in that file, by default as many as its head has.
        download: Whether published weights may be fetched.

    Raises:
        InputError: Unknown tag, no classifier, or no weights on this machine.
    """
    from timm.models import get_pretrained_cfg, list_pretrained

    try:
        cfg: Any = get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        short = name.partition(".")[0]
        raise unknown("timm source", name, list_pretrained(f"{short}.*")) from error
    architecture = f"timm/{name}"
    if weights is None:
        if not cfg.num_classes:
            raise InputError(
                f"source 'timm/{name}' has no classifier, so it has no classes to map. Choose a "
                "tag that was trained on classes, or pass weights that have them."
            )
        if num_classes not in (None, cfg.num_classes):
            raise _published_classes(architecture, num_classes)
        network = _published_timm(name, cfg, download)
    else:
        state = read_weights(weights)
        network = new_network(architecture, state, num_classes)
        load_strictly(network, state, str(weights))
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return Parts(
        network=network,
        name=architecture,
        head=find_head(network),
        mean=config["mean"],
        std=config["std"],
        image_size=config["input_size"][1],
        class_names=_class_names(config.get("label_names") or (), network, num_classes),
    )


def _published_timm(name: str, cfg: Any, download: bool) -> nn.Module:
    import timm

    file = _timm_file(cfg)
    wanted = cfg.hf_hub_filename or "model.safetensors", f"of the Hub's {cfg.hf_hub_id} anywhere"
    if cfg.url and not cfg.hf_hub_id:
        wanted = os.path.basename(_address(cfg)), f"(from {_address(cfg)}) into {_checkpoints()}"
    if file is None and not download:
        raise _absent(f"timm/{name}", *wanted)
    # timm converts foreign checkpoints itself, from a file as from the Hub.
    overlay = {"file": file, "custom_load": file.endswith(".npz")} if file else {}
    try:
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # the Hub client, the network and the file all fail in their own way
        if file is None:
            raise _absent(f"timm/{name}", *wanted, error) from error
        raise InputError(
            f"cached weights {file!r} of 'timm/{name}' do not load: {_first_line(error)}. Delete "
            "the file and fetch it again with --download (in Python: download=True)."
        ) from error


def _timm_file(cfg: Any) -> str | None:
    """The cached weights of a pretrained configuration, if this machine has them."""
    from huggingface_hub import try_to_load_from_cache

    if cfg.url and not cfg.hf_hub_id:
        path = _checkpoints() / os.path.basename(_address(cfg))
        return str(path) if path.is_file() else None
    repository, _, revision = (cfg.hf_hub_id or "").partition("@")
    names = [cfg.hf_hub_filename] if cfg.hf_hub_filename else ["model.safetensors"]
    for name in (*names, "pytorch_model.bin"):
        found = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return found
    return None


def _address(cfg: Any) -> str:
    return cfg.url if isinstance(cfg.url, str) else cfg.url[0]


def _cached(url: str, name: str, download: bool) -> Path:
    """The file of a torch hub address, fetched where that is allowed."""
    path = _checkpoints() / os.path.basename(url)
    place = f"(from {url}) into {path.parent}"
    if path.is_file():
        return path
    if not download:
        raise _absent(name, path.name, place)
    digest = torch.hub.HASH_REGEX.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), digest and digest.group(1), progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:
        raise _absent(name, path.name, place, error) from error
    return path


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _absent(name: str, file: str, place: str, error: Exception | None = None) -> InputError:
    """The one message of a source whose weights are not here."""
    failed = f"could not be fetched ({_first_line(error)})" if error else "are not on this machine"
    allow = "" if error else ", or allow the download with --download (in Python: download=True)"
    return InputError(
        f"the weights of {name!r} {failed}. Put {file} {place}, or pass its path by --weights "
        f"FILE{allow}."
    )


def _published_classes(name: str, num_classes: int | None) -> InputError:
    return InputError(
        f"num_classes={num_classes} does not fit the published weights of {name!r}. Leave it out, "
        "or pass weights that have so many."
    )


def _class_names(
    names: Sequence[str], network: nn.Module, num_classes: int | None
) -> tuple[str, ...]:
    """The published names where they are as many as the network's logits."""
    key = head_weight(network, find_head(network))
    logits = num_classes or (1000 if key is None else len(network.state_dict()[key]))
    return tuple(names) if len(names) == logits else default_class_names(logits)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__} {(str(error).splitlines() or [''])[0]}"[:160].strip()
