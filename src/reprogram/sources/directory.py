"""A source directory in timm's layout: config.json, model.safetensors and a card."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.sources.architectures import (
    create_network,
    find_head,
    portable_name,
)
from reprogram.sources.base import NetworkSource
from reprogram.sources.clip import CLIP
from reprogram.sources.config import CONFIG, WEIGHTS, ExtractorConfig, read_config, read_json
from reprogram.sources.extractor import OnExtractor, create_extractor
from reprogram.sources.parts import Parts
from reprogram.sources.state import fingerprint_of, tensors_of
from reprogram.sources.weights import load_strictly, read_weights

__all__ = [
    "embedded_directory",
    "read_source_directory",
    "resolve_seeded",
    "training_record",
    "write_source_directory",
]

TIMM_KEYS = ("classifier", "first_conv", "fixed_input_size")
"""What timm needs beside the preprocessing to build and load one of its own networks."""

CARD = "README.md"


def embedded_directory() -> Path:
    """The source directory inside the package."""
    return Path(str(importlib.resources.files("reprogram") / "embedded"))


def training_record(directory: str | Path) -> dict[str, Any]:
    """What train-source noted in a source directory: target, recipe, accuracy; {} where nothing is.

    Raises:
        InputError: It has no readable config.json.
    """
    record = read_json(Path(directory).expanduser() / CONFIG).get("training")
    return record if isinstance(record, dict) else {}


def resolve_seeded(spec: str, source_seed: int | None) -> str:
    """The source that a specification means for one seed of the source's own training.

    Args:
        spec: A source; "{seed}" in it is replaced, and a directory of directories seed-0, seed-1,
            ... stands for one of them.
        source_seed: Which training; None where there is only one.

    Returns:
        A source that `load_source` takes.

    Raises:
        InputError: There is no such training, or there are several and none is chosen.

    >>> resolve_seeded("sources/cnn-3/{seed}", 2), resolve_seeded("resnet18", None)
    ('sources/cnn-3/2', 'resnet18')
    """
    if "{seed}" in spec:
        if source_seed is None:
            raise InputError(f"source {spec!r} needs a source seed in the place of {{seed}}.")
        return spec.replace("{seed}", str(source_seed))
    seeds = _seeds(Path(spec).expanduser())
    if source_seed is None and len(seeds) <= 1:
        return f"{spec}/seed-{seeds[0]}" if seeds else spec
    listed = ", ".join(map(str, seeds)) or "none"
    if source_seed is None:
        raise InputError(
            f"source {spec!r} was trained with seeds {listed}. Choose one (--source-seed), or "
            f"name it: {spec}/seed-{seeds[0]}."
        )
    if not seeds:
        raise InputError(
            f"source {spec!r} has no training with seed {source_seed}. It has: none, since it is no "
            "directory of several trainings. Leave it out."
        )
    if source_seed not in seeds:
        raise InputError(
            f"source {spec!r} has no training with seed {source_seed}. It has: {listed}. Train it "
            f"with `reprogram train-source --seed {source_seed} --out {spec}/seed-{source_seed}`."
        )
    return f"{spec}/seed-{source_seed}"


def _seeds(directory: Path) -> list[int]:
    """Seeds of the trainings in a directory that is no source itself."""
    if not directory.is_dir() or (directory / CONFIG).exists():
        return []
    found = (re.fullmatch(r"seed-(\d+)", p.name) for p in directory.iterdir() if p.is_dir())
    return sorted(int(match[1]) for match in found if match)


def read_source_directory(
    directory: str | Path, *, weights: str | Path | None = None, name: str | None = None
) -> Parts:
    """Load a source directory.

    Args:
        directory: Holds config.json and model.safetensors, in any floating point format.
        weights: File to load instead of model.safetensors.
        name: The source's name; by default the directory's path.

    Raises:
        InputError: config.json or the weights are missing, damaged, or do not fit each other.
    """
    directory = Path(directory).expanduser()
    config = read_config(directory / CONFIG)
    file = Path(weights) if weights is not None else directory / WEIGHTS
    state = read_weights(file)
    with torch.random.fork_rng(devices=[]):
        network = create_network(config.architecture, config.num_classes, config.model_args)
        if config.extractor is not None:
            body = create_extractor(
                config.extractor.architecture, config.extractor.model_args, config.image_size
            )
            network = OnExtractor(body, network)
    load_strictly(network, state, str(file))
    if config.extractor is not None:
        _check_extractor(config.extractor, network, str(file))
    return Parts(
        network=network,
        name=name or str(directory),
        head=find_head(network),
        mean=config.mean,
        std=config.std,
        image_size=config.image_size,
        class_names=config.class_names,
    )


def write_source_directory(
    directory: str | Path,
    network: nn.Module | NetworkSource,
    *,
    architecture: str,
    model_args: Mapping[str, Any] | None = None,
    mean: float | Sequence[float] | Tensor | None = None,
    std: float | Sequence[float] | Tensor | None = None,
    image_size: int | None = None,
    class_names: Sequence[str] | None = None,
    card: str = "",
    half: bool = False,
    training: Mapping[str, Any] | None = None,
    extractor: ExtractorConfig | None = None,
) -> Path:
    """Write a source directory that :func:`load_source` reads, and timm too for its own networks.

    config.json, without which a directory does not load, is taken away first and put back last:
    whoever reads meanwhile, or after a kill, never gets new weights under an old description.

    Args:
        directory: Created where it is missing; other files in it are left alone.
        network: The trained network, or a source, whose preprocessing is then the default.
        architecture: A name that :func:`create_network` knows.
        model_args: The arguments that it was made with.
        mean: Of the normalisation, in pixel units.
        std: Likewise.
        image_size: Side of its images, pixels.
        class_names: One a logit.
        card: Text of the README.md beside the weights; none is written for "".
        half: Store weights in half precision; BatchNorm statistics stay float32.
        training: How it was trained, as JSON values; :func:`training_record` gives it back.
        extractor: What the `body` of an :class:`OnExtractor` network is. Its weights are stored
            beside the network's own, so that the directory needs no other.

    Returns:
        The directory.

    Raises:
        InputError: Something that the directory must hold was not given.
    """
    if isinstance(network, NetworkSource):
        mean = network.mean if mean is None else mean
        std = network.std if std is None else std
        image_size = network.image_size if image_size is None else image_size
        class_names = network.class_names if class_names is None else class_names
        network = network.network
    if mean is None or std is None or image_size is None or class_names is None:
        raise InputError(
            "a source directory of a plain network needs mean, std, image_size and class_names. "
            "Pass all four."
        )
    stored = getattr(network, "pretrained_cfg", {})
    config = {
        "architecture": portable_name(architecture),
        "num_classes": len(class_names),
        "model_args": dict(model_args or {}),
        "pretrained_cfg": {
            "input_size": [3, image_size, image_size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": _shortest(mean),
            "std": _shortest(std),
            **{key: stored[key] for key in TIMM_KEYS if stored.get(key)},
        },
        "label_names": list(class_names),
    }
    if training is not None:
        config["training"] = dict(training)
    stored_tensors = _stored_tensors(network, half)
    if extractor is not None:
        config["extractor"] = {
            "name": extractor.name,
            "architecture": _portable(extractor.architecture),
            "model_args": extractor.model_args,
            "fingerprint": _fingerprint_of_body(stored_tensors),
        }
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".writing-") as name:
        new = Path(name)
        (new / WEIGHTS).write_bytes(save(stored_tensors, metadata={"format": "pt"}))
        (new / CARD).write_text(card, encoding="utf-8")
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (directory / CONFIG).unlink(missing_ok=True)
        for file in (WEIGHTS, CARD, CONFIG) if card else (WEIGHTS, CONFIG):
            os.replace(new / file, directory / file)
    return directory


def _portable(architecture: str) -> str:
    return architecture if architecture.startswith(CLIP) else portable_name(architecture)


def _fingerprint_of_body(state: Mapping[str, Tensor]) -> str:
    body = "body."
    return fingerprint_of({k.removeprefix(body): v for k, v in state.items() if k.startswith(body)})


def _check_extractor(extractor: ExtractorConfig, network: nn.Module, where: str) -> None:
    if _fingerprint_of_body(tensors_of(network)) != extractor.fingerprint:
        raise InputError(
            f"{where}: the weights of the extractor {extractor.name!r} are not those that the "
            "source was trained on. Put the original file back, or train the source again."
        )


def _shortest(values: Sequence[float] | float | Tensor) -> list[float]:
    """Three numbers as the shortest decimals that give the same float32: 0.485, not 0.48500001."""
    three = torch.as_tensor(values, dtype=torch.float32).flatten().expand(3)
    return [float(str(v)) for v in three.cpu().numpy()]


def _stored_tensors(network: nn.Module, half: bool) -> dict[str, Tensor]:
    statistics = {
        f"{name}.{key}"
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for key, _ in module.named_buffers(recurse=False)
    }
    return {
        key: (
            value.half() if half and value.is_floating_point() and key not in statistics else value
        )
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in tensors_of(network).items()
    }
