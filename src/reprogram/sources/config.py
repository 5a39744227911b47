"""config.json of a source directory: read, checked, and refused with the key that is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprogram.errors import InputError
from reprogram.sources.architectures import PREFIXES, find_architecture
from reprogram.sources.class_names import default_class_names
from reprogram.sources.clip import CLIP

__all__ = ["CONFIG", "WEIGHTS", "ExtractorConfig", "SourceConfig", "read_config", "read_json"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"


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
    extractor: ExtractorConfig | None = None


@dataclass(frozen=True)
class ExtractorConfig:
    """The frozen network that a source stands on, and the hash of its weights in the directory."""

    name: str
    architecture: str
    model_args: dict[str, Any]
    fingerprint: str = ""


def read_config(path: Path) -> SourceConfig:
    """Read and check a config.json.

    Raises:
        InputError: Unreadable, or a key is missing or of the wrong kind; the message names it.
    """
    config = read_json(path)
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
        extractor=_extractor(path, top.get("extractor", dict)) if "extractor" in config else None,
    )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: There is none.
    """
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


def _extractor(path: Path, values: Any) -> ExtractorConfig:
    fields = _Fields(path, "extractor.", values)
    architecture = fields.get("architecture", str)
    clip = architecture.startswith(CLIP)
    return ExtractorConfig(
        name=fields.get("name", str),
        architecture=architecture if clip else _directory_architecture(architecture),
        model_args=fields.get("model_args", dict),
        fingerprint=fields.get("fingerprint", str),
    )


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
            raise self.wrong(key, "three numbers, of pixels in [0, 1]")
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
    family, short = find_architecture(name, bare=("own", "depth", "timm", "torchvision"))
    return f"{family}/{short}" if family in PREFIXES else short
