"""A source directory in timm's layout: config.json, model.safetensors and a card."""

from __future__ import annotations

import importlib.resources
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.sources.architectures import (
    create_network,
    find_architecture,
    find_head,
    portable_name,
)
from reprogram.sources.base import NetworkSource
from reprogram.sources.class_names import default_class_names
from reprogram.sources.parts import Parts
from reprogram.sources.state import tensors_of
from reprogram.sources.weights import load_strictly, read_weights

__all__ = [
    "SourceConfig",
    "embedded_directory",
    "read_config",
    "read_source_directory",
    "training_record",
    "write_source_directory",
]

TIMM_KEYS = ("classifier", "first_conv", "fixed_input_size")
"""What timm needs beside the preprocessing to build and load one of its own networks."""

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


@dataclass(frozen=True)
class SourceConfig:
    """What a checked config.json says; architecture names its family where it could be two."""

    architecture: str
    model_args: dict[str, Any]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    class_names: tuple[str, ...]


def read_config(path: Path) -> SourceConfig:
    """Read and check a config.json.

    Raises:
        InputError: Unreadable, or a key is missing or of the wrong kind; the message names it.
    """
    config = _read_json(path)
    top = _Fields(path, "", config)
    pretrained = _Fields(path, "pretrained_cfg.", top.get("pretrained_cfg", dict))
    num_classes = (top if "num_classes" in config else pretrained).get("num_classes", int)
    labels = config.get("label_names", pretrained.values.get("label_names"))
    return SourceConfig(
        architecture=_directory_architecture(top.get("architecture", str)),
        model_args=top.get("model_args", dict) if config.get("model_args") is not None else {},
        num_classes=num_classes,
        mean=pretrained.numbers("mean"),
        std=pretrained.numbers("std"),
        image_size=_image_size(pretrained),
        class_names=_label_names(path, labels, num_classes),
    )


def embedded_directory() -> Path:
    """The source directory inside the package."""
    return Path(str(importlib.resources.files("reprogram") / "embedded"))


def training_record(directory: str | Path) -> dict[str, Any]:
    """What train-source noted in a source directory: target, recipe, accuracy; {} where nothing is.

    Raises:
        InputError: It has no readable config.json.
    """
    record = _read_json(Path(directory).expanduser() / CONFIG).get("training")
    return record if isinstance(record, dict) else {}


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
    load_strictly(network, state, str(file))
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
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".writing-") as name:
        new = Path(name)
        stored_tensors = _stored_tensors(network, half)
        (new / WEIGHTS).write_bytes(save(stored_tensors, metadata={"format": "pt"}))
        (new / CARD).write_text(card, encoding="utf-8")
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (directory / CONFIG).unlink(missing_ok=True)
        for file in (WEIGHTS, CARD, CONFIG) if card else (WEIGHTS, CONFIG):
            os.replace(new / file, directory / file)
    return directory


def _read_json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{str(path.parent)!r} is no source directory: {path.name} is missing. It needs "
            f"{CONFIG} and {WEIGHTS}, as train-source writes them."
        ) from None
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}. Write it again.") from error
    return _Fields(path, "", config).values


@dataclass(frozen=True)
class _Fields:
    """A JSON object whose errors name the file, the key, the value and the expectation."""

    path: Path
    prefix: str
    values: Any

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise InputError(
                f"{self.path} must hold a JSON object, got a {type(self.values).__name__}. "
                "Write it as train-source does."
            )

    def get(self, key: str, kind: type) -> Any:
        if key not in self.values:
            raise InputError(
                f"{self.path}: {self.prefix}{key} is missing. Add it, as train-source writes it."
            )
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(key, f"of type {kind.__name__}")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """Three finite numbers, above 0 for "std"."""
        values = self.get(key, list)
        if len(values) != 3 or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= 1e6 for v in values
        ):
            raise self.wrong(key, "three numbers in pixel units")
        if key == "std" and min(values) <= 1e-6:
            raise self.wrong(key, "three numbers above 0")
        return tuple(float(v) for v in values)

    def wrong(self, key: str, expected: str) -> InputError:
        value = repr(self.values[key])
        value = value if len(value) <= 60 else value[:57] + "..."
        return InputError(f"{self.path}: {self.prefix}{key} must be {expected}, got {value}.")


def _image_size(fields: _Fields) -> int:
    size = fields.get("input_size", list)
    if (
        len(size) != 3
        or not all(isinstance(v, int) and not isinstance(v, bool) for v in size)
        or size[0] != 3
        or size[1] != size[2]
        or not 1 <= size[1] <= 4096
    ):
        raise fields.wrong("input_size", "[3, H, H] with H from 1 to 4096 (square, three channels)")
    return size[1]


def _label_names(path: Path, labels: Any, num_classes: int) -> tuple[str, ...]:
    if labels is None:
        return default_class_names(num_classes) if 0 < num_classes <= 100_000 else ()
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{path}: label_names must be a list of strings, one a class.")
    if len(labels) != num_classes:
        raise InputError(
            f"{path}: label_names holds {len(labels)} names, num_classes is {num_classes}. "
            "They must agree; leave label_names out to number the classes."
        )
    return tuple(labels)


def _directory_architecture(name: str) -> str:
    """With its family: a bare name means timm's network here, because the layout is timm's."""
    family, short = find_architecture(name, bare=("own", "timm", "torchvision"))
    return short if family == "own" else f"{family}/{short}"


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
