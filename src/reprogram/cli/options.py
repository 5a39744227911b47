"""Options that verbs share, and the objects they stand for."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.data import TargetTask
    from reprogram.engine import FeatureStore
    from reprogram.sources import Source

__all__ = ["Common", "Shared", "Whole", "bytes_of", "chosen_settings", "list_of"]
__all__ += ["open_source", "open_store", "open_target"]


def whole_number(_: type, tokens: Sequence[Token]) -> int:
    """A count as it was typed; cyclopts would round 1.5."""
    (token,) = tokens
    try:
        return int(token.value)
    except ValueError:
        raise ValueError(f"must be a whole number, got {token.value!r}.") from None


Whole = Annotated[int, Parameter(converter=whole_number)]


@dataclass
class Common:
    """Options of every verb that loads a source or a target.

    Attributes:
        weights: Local .safetensors or .pth file with the source's weights.
        data_root: Folder of the data sets; otherwise REPROGRAM_DATA, then the config file.
        download: Fetch a missing data set or weights.
        device: auto (cuda, else cpu), cpu, cuda or mps.
        max_memory: Largest size of images or a prompt in memory, such as 4GiB.
        json: Print one JSON document.
        quiet: No progress bar and no messages.
    """

    weights: Path | None = None
    data_root: Path | None = None
    download: bool = False
    device: str = "auto"
    max_memory: str = "4GiB"
    json: bool = False
    quiet: bool = False


Shared = Annotated[Common, Parameter(name="*", group="Common options")]

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def bytes_of(text: str, option: str = "--max-memory") -> int:
    """A size with a binary unit to bytes.

    >>> bytes_of("4GiB"), bytes_of("512M"), bytes_of("100")
    (4294967296, 536870912, 100)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise InputError(f"{option} {text!r} is no size. Write it like 4GiB or 512MiB.")
    return int(float(match[1]) * _UNITS[match[2]])


def open_source(spec: str, common: Common) -> Source:
    """The source that --source names, on the CPU."""
    from reprogram.sources import load_source

    set_up(common)
    return load_source(spec, weights=common.weights, download=common.download)


def open_target(spec: str, common: Common) -> TargetTask:
    """The target that --target names; nothing is decoded yet."""
    from reprogram.data import load_target

    return load_target(
        spec,
        data_root=common.data_root,
        download=common.download,
        max_memory=bytes_of(common.max_memory),
    )


def open_store(directory: Path | None, size: str, common: Common) -> FeatureStore:
    """Stored features in memory, or in the directory that --feature-cache names."""
    from reprogram.cli.output import note
    from reprogram.engine import FeatureStore

    return FeatureStore(
        directory=directory, disk_limit=bytes_of(size, "--feature-cache-size"),
        announce=lambda text: note(text, common.quiet or common.json),
    )  # fmt: skip


def set_up(common: Common) -> None:
    """Logging to stderr, and the process group where torchrun started us."""
    from reprogram import distributed

    logging.basicConfig(
        level=logging.ERROR if common.quiet else logging.WARNING,
        format="%(levelname)s: %(message)s",
    )
    distributed.setup()


def list_of(text: str) -> list[str]:
    """What commas separate; those within brackets belong to a name.

    >>> list_of("digits[0,1], usps.npz")
    ['digits[0,1]', 'usps.npz']
    """
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def chosen_settings(set_: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """The settings of --set and of the options that have names of their own.

    Raises:
        InputError: One of them is given both ways.
    """
    from reprogram.settings import Settings

    chosen = Settings.parse(set_)
    given = {name: value for name, value in options.items() if value is not None}
    for name in chosen.keys() & given.keys():
        raise InputError(
            f"--set {name}={chosen[name]} and --{name.replace('_', '-')} {given[name]} are one "
            "setting. Give it once."
        )
    if {"epochs", "steps"} <= (chosen | given).keys():
        raise InputError("epochs and steps both say how long to train. Give one of them.")
    return chosen | given
