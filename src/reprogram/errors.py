"""Errors a user can mend: one line with the name, the value, what was expected and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "unknown"]


class InputError(ValueError):
    """Bad input: the command line prints its message on one line and exits with code 2."""


def unknown(kind: str, name: str, available: Iterable[str], hint: str = "") -> InputError:
    """An error for a name that is not in a table, with the nearest names.

    >>> str(unknown("method", "pad+ilmm", ["pad+ilm", "pad+flm"]))
    "unknown method 'pad+ilmm'. Did you mean pad+ilm, pad+flm? Available: pad+ilm, pad+flm."
    """
    names = list(available)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    text = f"unknown {kind} {name!r}."
    if near:
        text += f" Did you mean {', '.join(near)}?"
    text += f" Available: {', '.join(names)}." if len(names) <= 20 else ""
    return InputError(f"{text} {hint}".rstrip())
