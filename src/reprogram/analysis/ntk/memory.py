"""Sizes told before anything is allocated."""

from __future__ import annotations

from reprogram.errors import InputError

__all__ = ["DEFAULT_MAX_MEMORY", "gib", "require_memory"]

DEFAULT_MAX_MEMORY = 4 << 30  # bytes, as for training


def gib(size: float) -> str:
    """Bytes as text.

    >>> gib(3 << 29), gib(5e5)
    ('1.5 GiB', '0.5 MiB')
    """
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def require_memory(size: int, max_memory: int, what: str, remedy: str) -> None:
    """Refuse what does not fit.

    Args:
        size: Bytes that it takes.
        max_memory: Bytes that there may be.
        what: Its name and dimensions.
        remedy: What to do instead.

    Raises:
        InputError: `size` is above `max_memory`.
    """
    if size > max_memory:
        raise InputError(
            f"{what} takes {gib(size)}, over the {gib(max_memory)} that it may take (--max-memory). {remedy}"
        )
