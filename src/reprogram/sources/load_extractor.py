"""load_extractor: a frozen feature extractor by name or directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reprogram.errors import InputError
from reprogram.sources.architectures import find_architecture, portable_name
from reprogram.sources.base import NetworkSource
from reprogram.sources.clip import CLIP, load_clip
from reprogram.sources.config import CONFIG, read_config
from reprogram.sources.directory import embedded_directory
from reprogram.sources.extractor import Extractor, last_map
from reprogram.sources.load import load_source

__all__ = ["load_extractor"]


def load_extractor(
    spec: str | Path,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> Extractor:
    """A pretrained network up to its last spatial map, frozen and with its own preprocessing.

    Args:
        spec: What `load_source` takes by name or directory, or "open_clip/NAME@TAG" (extra
            `clip`).
        weights: A local .safetensors or .pth file instead of the published weights.
        image_size: Side of its images, pixels; None is what it was trained at.
        download: Whether published weights that are not cached may be fetched.

    Raises:
        InputError: No such network or weights, or it makes no map.
    """
    if str(spec).startswith(CLIP):
        return _of_clip(str(spec), weights, image_size, download)
    architecture, model_args = _described(spec)
    source = load_source(spec, weights=weights, download=download)
    assert isinstance(source, NetworkSource)
    size = image_size or source.image_size
    return Extractor(
        name=str(spec),
        architecture=architecture,
        model_args=model_args,
        network=last_map(source.network, size, str(spec)).requires_grad_(False),
        mean=source.mean,
        std=source.std,
        image_size=size,
    )


def _of_clip(
    spec: str, weights: str | Path | None, image_size: int | None, download: bool
) -> Extractor:
    loaded = load_clip(spec.removeprefix(CLIP), weights, download)
    if image_size not in (None, loaded.image_size):
        raise InputError(
            f"image_size must be {loaded.image_size} pixels with {spec}, got {image_size}."
        )
    return Extractor(
        name=spec,
        architecture=f"{CLIP}{loaded.name}",
        model_args=loaded.model_args,
        network=loaded.network.eval().requires_grad_(False),
        mean=torch.tensor(loaded.mean).view(3, 1, 1),
        std=torch.tensor(loaded.std).view(3, 1, 1),
        image_size=loaded.image_size,
    )


def _described(spec: str | Path) -> tuple[str, dict[str, Any]]:
    """Architecture and arguments of a source by name or directory."""
    if isinstance(spec, str) and spec != "embedded":
        try:
            find_architecture(spec.partition("@")[0])
            return portable_name(spec.partition("@")[0]), {}
        except InputError:
            pass  # a directory, or load_source says what is wrong with it
    directory = embedded_directory() if spec == "embedded" else Path(spec).expanduser()
    if not directory.is_dir():
        return "", {}
    config = read_config(directory / CONFIG)
    if config.extractor is not None:
        raise InputError(
            f"extractor {str(spec)!r} stands on an extractor itself. Give {config.extractor.name!r}."
        )
    return config.architecture, config.model_args
