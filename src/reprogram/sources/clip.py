"""CLIP's image encoder as a feature extractor, through open_clip (extra `clip`)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.errors import InputError, unknown
from reprogram.sources.weights import load_strictly, read_weights

__all__ = ["CLIP", "create_clip", "load_clip"]

CLIP = "open_clip/"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipMap(nn.Module):
    """The last map of CLIP's image encoder; a transformer's tokens are laid out as one.

    Args:
        visual: open_clip's image tower.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, x: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch d h2 w2"]:
        taken = self.visual.forward_intermediates(  # type: ignore[operator]
            x, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return taken["image_intermediates"][-1]


def create_clip(name: str, model_args: Mapping[str, Any]) -> ClipMap:
    """An untrained image encoder.

    Args:
        name: open_clip's, without a tag: "RN50", "ViT-B-32".
        model_args: {"force_quick_gelu": True} or {}.

    Raises:
        InputError: open_clip is not installed, or does not know the name or an argument.
    """
    open_clip = _open_clip(name)
    if model_args.keys() - {"force_quick_gelu"}:
        raise InputError(
            f"model_args of '{CLIP}{name}' may hold force_quick_gelu only, got {dict(model_args)}."
        )
    with torch.random.fork_rng(devices=[]), _without_warnings():
        model = open_clip.create_model(
            name, load_weights=False, force_quick_gelu=bool(model_args.get("force_quick_gelu"))
        )
    return ClipMap(model.visual)


@dataclass(frozen=True)
class LoadedClip:
    """A pretrained image encoder with its preprocessing, in pixel units."""

    name: str
    model_args: dict[str, Any]
    network: ClipMap
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int


def load_clip(spec: str, weights: str | Path | None, download: bool) -> LoadedClip:
    """A pretrained image encoder.

    Args:
        spec: "NAME@TAG" with a tag of open_clip's; "NAME" is enough with `weights`.
        weights: A local file with the weights of CLIP or of its image encoder; a tag then says
            how it was trained.
        download: Whether weights that are not cached may be fetched.

    Raises:
        InputError: Unknown name or tag, or no weights on this machine.
    """
    name, _, tag = spec.partition("@")
    open_clip = _open_clip(name)
    arguments: dict[str, Any] = {}
    cfg = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    if weights is None:
        if not cfg:
            raise unknown(
                f"weights of '{CLIP}{name}'", tag, open_clip.list_pretrained_tags_by_model(name),
                f"Write {CLIP}{name}@TAG, or give a file by --weights.",
            )  # fmt: skip
        weights = _file(open_clip, spec, cfg, download)
    if cfg.get("quick_gelu"):
        arguments["force_quick_gelu"] = True
    network = create_clip(name, arguments)
    state = read_weights(weights)
    prefix = "visual."
    if any(key.startswith(prefix) for key in state):
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    load_strictly(network.visual, state, str(weights))
    found = open_clip.get_model_preprocess_cfg(nn.ModuleDict({"visual": network.visual}))
    mean, std, size = (cfg.get(k, found[k]) for k in ("mean", "std", "size"))
    side = size[0] if isinstance(size, list | tuple) else size
    return LoadedClip(name, arguments, network, tuple(mean), tuple(std), side)


def _file(open_clip: ModuleType, spec: str, cfg: Mapping[str, Any], download: bool) -> str:
    """The cached weights of a tag, fetched where that is allowed."""
    from huggingface_hub import try_to_load_from_cache

    repository = cfg.get("hf_hub", "").rstrip("/")
    for file in FILES if repository else ():
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return found
    if not download:
        raise InputError(
            f"the weights of '{CLIP}{spec}' are not on this machine. Pass a file by --weights "
            f"FILE, or allow the download of {repository or 'its file'} with --download (in Python: "
            "download=True)."
        )
    try:
        return open_clip.download_pretrained(cfg)
    except Exception as error:  # the Hub client and the network fail in their own ways
        raise InputError(
            f"the weights of '{CLIP}{spec}' could not be fetched ({type(error).__name__}). Pass a "
            "file by --weights FILE."
        ) from error


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """open_clip warns that an untrained network is untrained."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _open_clip(name: str) -> ModuleType:
    try:
        import open_clip
    except ImportError as error:
        raise InputError(
            f"'{CLIP}NAME' needs open_clip, which is not installed. Run "
            '`pip install "reprogram[clip]"`.'
        ) from error
    if name not in open_clip.list_models():
        raise unknown("open_clip network", name, open_clip.list_models())
    return open_clip
