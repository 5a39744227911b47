"""`NAME[0-9]`, `NAME[dog,horse]`: some classes of a target, by index or name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reprogram.errors import InputError, unknown

__all__ = ["class_indices", "compact", "split_selection"]

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")


def split_selection(spec: str) -> tuple[str, str | None]:
    """A target's name and what stands in its brackets, if any does.

    >>> split_selection("cifar10[0-4]"), split_selection("cifar10")
    (('cifar10', '0-4'), ('cifar10', None))
    """
    found = re.fullmatch(r"(.+?)\[([^\[\]]*)\]", spec, flags=re.DOTALL)
    return (found[1], found[2]) if found else (spec, None)


def class_indices(
    classes: str | Iterable[int | str], class_names: Sequence[str], target: str
) -> list[int]:
    """The classes that a selection names, in its order.

    Args:
        classes: "0-4,dog", or a list of indices and names. A whole number is an index.
        class_names: All classes of the target.
        target: The target's name, for messages.

    Raises:
        InputError: For an unknown, ambiguous or repeated class, or fewer than two.

    >>> class_indices("2,cat", ["cat", "dog", "owl"], "pets")
    [2, 0]
    """
    parts = classes.split(",") if isinstance(classes, str) else classes
    chosen = [c for part in parts for c in _indices(part, class_names, target)]
    repeated = sorted({c for c in chosen if chosen.count(c) > 1})
    if repeated:
        raise InputError(f"{target}[...] names class {repeated[0]} twice. Name every class once.")
    if len(chosen) < 2:
        raise InputError(f"{target}[...] must name two classes at least, got {len(chosen)}.")
    return chosen


def _indices(part: int | str, class_names: Sequence[str], target: str) -> list[int]:
    text = str(part).strip()
    named = [i for i, name in enumerate(class_names) if name == text]
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
    if number is not None and number < len(class_names):
        if isinstance(part, str) and any(i != number for i in named):
            raise InputError(
                f"{target}[{text}]: {text} is an index and the name of another class. Write "
                f"{number}-{number} for the index, {named[0]}-{named[0]} for the name."
            )
        return [number]
    if len(named) == 1:
        return named
    if named:
        raise InputError(
            f"{target}[{text}]: classes {', '.join(map(str, named))} have this name. Use an index."
        )
    if found := _RANGE.fullmatch(text):
        return _range(int(found[1]), int(found[2]), len(class_names), target)
    hint = f"Indices are 0 to {len(class_names) - 1}."
    raise unknown(f"class of {target}", text, class_names, hint)


def _range(first: int, last: int, num_classes: int, target: str) -> list[int]:
    if not first <= last < num_classes:
        raise InputError(
            f"{target}[{first}-{last}]: a range goes upwards within 0 to {num_classes - 1}."
        )
    return list(range(first, last + 1))


def compact(indices: Sequence[int]) -> str:
    """One spelling for one selection, so that it has one name and one seed.

    >>> compact([0, 1, 2, 7, 5, 6])
    '0-2,7,5-6'
    """
    runs: list[list[int]] = []
    for i in indices:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
