"""load_source: a frozen source by name, directory or module."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import InputError, unknown
from reprogram.sources.architectures import find_architecture, find_head, head_weight
from reprogram.sources.base import NetworkSource, Source, require_head
from reprogram.sources.class_names import default_class_names
from reprogram.sources.config import CONFIG
from reprogram.sources.directory import embedded_directory, read_source_directory
from reprogram.sources.names import source_names
from reprogram.sources.parts import Parts
from reprogram.sources.published import load_timm, load_torchvision, new_network
from reprogram.sources.state import tensors_of
from reprogram.sources.weights import load_strictly, read_weights

__all__ = ["load_source"]

logger = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_source(
    spec: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    mean: float | Sequence[float] | Tensor | None = None,
    std: float | Sequence[float] | Tensor | None = None,
    image_size: int | None = None,
    class_names: Sequence[str] | None = None,
    head: str | None = None,
    num_classes: int | None = None,
    download: bool = False,
    device: torch.device | str | None = None,
) -> Source:
    """Load a source, frozen and in eval mode.

    A name that torchvision or the package knows means that network even where a directory is
    called so; "./resnet18" is the directory.

    Args:
        spec: A torchvision name ("resnet18"; "resnet50@IMAGENET1K_V2" for other than the first
            weights), "timm/NAME", "embedded", a CIFAR ResNet (with `weights`), a source directory,
            or a network of your own, which is copied.
        weights: A local .safetensors or .pth file instead of the published weights.
        mean: Of the normalisation, of pixels in [0, 1]; a network of your own needs it.
        std: Likewise.
        image_size: Side of its square images, pixels; a network of your own needs it.
        class_names: One a logit.
        head: The submodule that makes the logits; "fc" for a network of your own.
        num_classes: Logits in `weights`, by default as many as its head has.
        download: Whether published weights that are not cached may be fetched.
        device: Where it is put.

    Returns:
        The source; a `Source` that is passed in is returned as it is.

    Raises:
        InputError: Unknown name, missing or damaged weights, or something that does not fit.
    """
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, nn.Module):
        preprocessing = {"mean": mean, "std": std, "image_size": image_size}
        parts = _of_module(spec, weights, preprocessing, class_names, head, num_classes)
    else:
        parts = _by_name(spec, weights, num_classes, download)
        for label, count in (
            ("num_classes", num_classes),
            ("class_names", None if class_names is None else len(class_names)),
        ):
            if count not in (None, len(parts.class_names)):
                raise InputError(
                    f"{label} says {count} classes, source {parts.name!r} has "
                    f"{len(parts.class_names)}. Leave it out, or pass weights that have so many."
                )
    given: dict[str, Any] = {
        "mean": mean,
        "std": std,
        "image_size": image_size,
        "class_names": class_names,
        "head": head,
    }
    given = {key: value for key, value in given.items() if value is not None}
    source = dataclasses.replace(parts, **given).source()
    if isinstance(spec, nn.Module):
        _try(source, source.features)
        source.variant = f", head {source.head}, layers {_layers(spec)}"
    elif source.head != parts.head:
        source.variant = f", head {source.head}"
    if image_size not in (None, parts.image_size):
        _try(source, source)
    return source if device is None else source.to(device)


def _layers(network: nn.Module) -> str:
    """A hash of a network's layers, without the addresses that some of them print.

    >>> _layers(nn.ReLU()) == _layers(nn.ReLU()), _layers(nn.ReLU()) == _layers(nn.GELU())
    (True, False)
    """
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _by_name(
    spec: str | Path, weights: str | Path | None, num_classes: int | None, download: bool
) -> Parts:
    if isinstance(spec, Path):
        return read_source_directory(spec, weights=weights)
    if spec == "embedded":
        return read_source_directory(embedded_directory(), weights=weights, name=spec)
    family, name = _named(spec)
    if family == "directory":
        return read_source_directory(name, weights=weights, name=spec)
    if Path(name).is_dir():
        logger.warning("%s is %s's network here; './%s' is the directory", name, family, name)
    if family in ("own", "depth"):
        return _of_cifar_resnet(name, weights, num_classes)
    load = load_torchvision if family == "torchvision" else load_timm
    return load(name, weights=weights, num_classes=num_classes, download=download)


def _named(spec: str) -> tuple[str, str]:
    """(family, name) of a name that is known, else ("directory", path).

    Raises:
        InputError: Neither; the nearest names are suggested.
    """
    base, at, variant = spec.partition("@")
    try:
        family, name = find_architecture(base)
        if not at or family == "torchvision":
            return family, f"{name}{at}{variant}"
    except InputError:
        pass
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return "directory", str(path)
    if path.is_file():
        raise InputError(
            f"source {spec!r} is a file. Pass the network's name as the source and the file by "
            f"--weights, or the directory that holds {CONFIG}."
        )
    if not spec.startswith(("timm/", "torchvision/")) and (os.sep in spec or "/" in spec):
        raise InputError(
            f"source {spec!r} is no directory. Give one with {CONFIG} and model.safetensors, as "
            "train-source writes it, or a name from `reprogram list sources`."
        )
    raise unknown(
        "source",
        spec,
        source_names(),
        "Give a torchvision name, timm/NAME, embedded or a source directory; "
        "`reprogram list sources` shows them.",
    )


def _of_cifar_resnet(name: str, weights: str | Path | None, num_classes: int | None) -> Parts:
    if weights is None:
        raise InputError(
            f"source {name!r} has no published weights. Train it with `reprogram train-source "
            f"--architecture {name}` and give its directory, or pass a file by --weights."
        )
    state = read_weights(weights)
    network = new_network(name, state, num_classes)
    load_strictly(network, state, str(weights))
    logger.warning("%s: a weights file names no normalisation; ImageNet's is taken", weights)
    head = find_head(network)
    return Parts(
        network=network,
        name=name,
        head=head,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        image_size=32,
        class_names=default_class_names(len(state[f"{head}.weight"])),
    )


def _of_module(
    module: nn.Module,
    weights: str | Path | None,
    preprocessing: dict[str, Any],
    class_names: Sequence[str] | None,
    head: str | None,
    num_classes: int | None,
) -> Parts:
    """A copy of a network of the caller's own."""
    absent = [key for key, value in preprocessing.items() if value is None]
    if absent:
        raise InputError(
            f"a network of your own needs {', '.join(absent)}: load_source(module, mean=, std=, "
            "image_size=, head=) as it was trained, mean and std of pixels in [0, 1]."
        )
    head = "fc" if head is None else head
    require_head(module, head)
    network = copy.deepcopy(module)
    if weights is not None:
        load_strictly(network, read_weights(weights), str(weights))
    key = head_weight(network, head)
    count = num_classes or (len(tensors_of(network)[key]) if key else 0)
    if class_names is None and not count:
        raise InputError(
            f"the number of classes cannot be read off head {head!r} of the network. Pass "
            "class_names or num_classes, and head= the name of its last layer."
        )
    return Parts(
        network=network,
        name=type(module).__name__,
        head=head,
        **preprocessing,
        class_names=class_names if class_names is not None else default_class_names(count),
    )


def _try(source: NetworkSource, call: Callable[[Tensor], Tensor]) -> None:
    """One image through a network that nobody has tried so."""
    size = source.image_size
    image = source.mean.new_zeros(1, 3, size, size)
    try:
        with torch.no_grad():
            call(image)
    except InputError:
        raise
    except Exception as error:  # the network is the caller's
        formats = {p.dtype for p in source.network.parameters()} - {torch.float32}
        remedy = f"Its weights are {formats.pop()}: pass network.float()" if formats else ""
        raise InputError(
            f"the network {source.name} fails on an input of shape (1, 3, {size}, {size}): "
            f"{type(error).__name__} {(str(error).splitlines() or [''])[0]}. "
            f"{remedy or 'Check image_size'}."
        ) from error
