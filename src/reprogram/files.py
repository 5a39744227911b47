"""Files that are there whole or not at all, after a power cut and on a full disk too."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprogram.errors import InputError

__all__ = [
    "disk_full",
    "is_leftover",
    "refuse_foreign",
    "replacing",
    "sync",
    "write_bytes",
    "write_json",
    "write_text",
]

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_PROBE = 1 << 20  # bytes; a failed write leaves less than this free


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    What was written is on the disk before it takes the name, and the name before this returns.

    Raises:
        OSError: The disk is full, whatever the block's writer made of that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
        except OSError:
            raise
        except Exception as error:  # torch's and safetensors' writers do not say why they failed
            full = _probed(path.parent)
            if full is None:
                raise
            raise OSError(full.errno, full.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def is_leftover(path: Path) -> bool:
    """Whether a file was left by a process that was killed inside :func:`replacing`, or is written now.

    >>> is_leftover(Path("a/.run.json.71.0f3c2a1b.tmp")), is_leftover(Path("a/run.json"))
    (True, False)
    """
    return re.fullmatch(r"\..*\.\d+\.[0-9a-f]{8}\.tmp", path.name) is not None


_BESIDE = {".err", ".log", ".out", ".py", ".sh", ".txt"}


def refuse_foreign(out: Path, own: Iterable[str], what: str) -> None:
    """Refuse to write into a directory of somebody else's.

    Args:
        out: Where to write; it may not exist. Hidden files, scripts and logs may lie there.
        own: Paths, of which one at least is there where the directory is ours.
        what: A directory of ours holds.

    Raises:
        InputError: `out` is a file, or holds files and none of ours.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Give a directory.")
    if not out.is_dir() or any((out / name).exists() for name in own):
        return
    if any(p.name[0] != "." and p.suffix not in _BESIDE for p in out.iterdir()):
        raise InputError(f"{out} is not empty and holds no {what}. Give another directory.")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk; where the system can."""
    directory = path.is_dir()
    try:
        # Windows flushes only what is open for writing, and opens no directory.
        handle = os.open(path, os.O_RDONLY if directory else os.O_RDWR)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if not directory and error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def disk_full(error: BaseException | None) -> OSError | None:
    """The full disk, or used up quota, among an error and what it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _probed(folder: Path) -> OSError | None:
    """What a write into a folder fails with now, if that is a full disk."""
    probe = folder / f".{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return disk_full(error)
    finally:
        probe.unlink(missing_ok=True)
    return None


def write_bytes(path: Path, data: bytes) -> None:
    """A file with these bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8, its ends of lines as they are on every system."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Readable JSON; NaN is refused, since other readers would."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
