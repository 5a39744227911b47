"""Where data sets and caches lie: an argument, then the environment, then the user's config."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

from reprogram.errors import InputError

__all__ = ["cache_dir", "config_path", "data_root"]


def config_path() -> Path:
    """The user's `config.toml`, whether it exists or not."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "reprogram" / "config.toml"


def cache_dir() -> Path:
    """The folder for what can be made again: REPROGRAM_CACHE, or the platform's user cache."""
    if named := os.environ.get("REPROGRAM_CACHE"):
        return Path(named).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "reprogram"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "reprogram" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "reprogram"
    return Path.home() / ".cache" / "reprogram"


def data_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds data sets by name.

    Args:
        given: `--data-root`; comes before REPROGRAM_DATA, which comes before `data_root` in the
            config, which comes before a folder in the user cache.

    Raises:
        InputError: For a config that is not TOML or whose data_root is not a string.
    """
    chosen = given or os.environ.get("REPROGRAM_DATA") or _from_config()
    return Path(chosen).expanduser() if chosen else cache_dir() / "data"


def _from_config() -> str | None:
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as UTF-8 text ({error}). Mend it.") from error
    try:
        value = tomllib.loads(text).get("data_root")
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error}). Mend or remove it.") from error
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise InputError(f"{path}: data_root must be a path in quotes, got {value!r}.")
    return value
