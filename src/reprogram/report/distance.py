"""Distances from a file beside the rows, and the pairs of domains that they describe."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reprogram.errors import InputError
from reprogram.report.panels import Row, noise_of, pool_of

__all__ = ["PRIMARY", "DomainPair", "domain_pairs", "with_distances"]

PRIMARY = "fid"  # the experiment report's distance, fixed before any result: it is tested alone

logger = logging.getLogger(__name__)


def with_distances(rows: Sequence[Row], document: Mapping[str, Any]) -> list[Row]:
    """The rows with the distances and the source accuracies of a document.

    Args:
        rows: Result rows.
        document: What ``reprogram distance --results`` writes: ``{"pairs": [...]}``, each pair with
            ``source`` and ``target`` as the rows name them, ``metrics`` (by name a number or
            ``{value, low, high}``) and optionally ``source_accuracy`` in [0, 1] (of the source on
            its own test images), ``source_seed`` (the training of the source that it holds for; all
            where it is left out), ``source_domain`` and ``target_domain`` (the domains behind the
            names: what is exchangeable in a test; by default source and target themselves), and
            ``same_classes`` (whether both sets have the same class names).

    Returns:
        Copies with ``distance``, ``distance_interval``, ``source_accuracy``, ``source_domain``,
        ``target_domain`` and ``same_classes`` where the document has them; other rows as they are.

    Raises:
        InputError: The document has another form, names a pair twice, or none of the rows.
    """
    known = _known(document)
    used: set[tuple[Any, ...]] = set()
    merged: list[Row] = []
    for row in rows:
        place = (row["source"], row["target"])
        key = (*place, row.get("source_seed"))
        key = key if key in known else (*place, None)
        used.add(key)
        merged.append({**row, **known[key]} if key in known else row)
    if unused := [key for key in known if key not in used]:
        words = ", ".join(f"{source} -> {target}" for source, target, _ in unused[:4])
        if len(unused) == len(known):
            raise InputError(
                f"the distances are of none of the {len(rows)} rows: {words}. Name source and target "
                "as rows.csv does."
            )
        logger.warning("%d pairs of the distances have no row: %s", len(unused), words)
    return merged


def _known(document: Mapping[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What each (source, target, source seed) gets."""
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    try:
        for pair in document["pairs"]:
            key = (str(pair["source"]), str(pair["target"]), pair.get("source_seed"))
            if key in known:
                raise InputError(f"the distances hold {key[0]} -> {key[1]} twice. Keep one.")
            metrics = {str(name): of for name, of in (pair.get("metrics") or {}).items()}
            found: dict[str, Any] = {}
            if metrics:
                found["distance"] = {name: _number(of) for name, of in metrics.items()}
            if intervals := {n: ends for n, of in metrics.items() if (ends := _interval(of))}:
                found["distance_interval"] = intervals
            if pair.get("source_accuracy") is not None:
                found["source_accuracy"] = _number(pair["source_accuracy"])
                if not 0 <= found["source_accuracy"] <= 1:
                    raise InputError(
                        f"source_accuracy of {key[0]} -> {key[1]} must be in [0, 1], got "
                        f"{pair['source_accuracy']!r}. Write a share, not per cent."
                    )
            for name in ("source_domain", "target_domain"):
                if pair.get(name) is not None:
                    found[name] = str(pair[name])
            if pair.get("same_classes") is not None:
                found["same_classes"] = bool(pair["same_classes"])
            known[key] = found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the distances are no {{'pairs': [{{'source', 'target', 'metrics'}}, ...]}} "
            f"({type(error).__name__}: {error}). Each metric is a finite number."
        ) from error
    return known


def _number(value: Any) -> float:
    """A finite number, itself or the ``value`` of a measured distance."""
    number = float(value["value"] if isinstance(value, Mapping) else value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _interval(value: Any) -> tuple[float, float] | None:
    """The ends of a measured distance's interval; None where it has none."""
    if not isinstance(value, Mapping) or value.get("low") is None or value.get("high") is None:
        return None
    return _number(value["low"]), _number(value["high"])


@dataclass(frozen=True)
class DomainPair:
    """All clean runs of a method from one domain to another at the largest pool and size, averaged.

    Attributes:
        source: Domain of the source.
        target: Domain of the target.
        accuracy: Mean test accuracy on the target.
        source_accuracy: Mean accuracy of the sources on their own test images, where known.
        distance: Mean of each distance.
        interval: 95 % interval of each distance that has one.
        same_classes: Whether both domains have the same class names, where known.
    """

    source: str
    target: str
    accuracy: float
    source_accuracy: float | None
    distance: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    same_classes: bool | None = None


def domain_pairs(rows: Sequence[Row], method: str) -> list[DomainPair]:
    """The finished clean runs of a method, by pair.

    Of all rows with a distance those count that have the largest pool and, of it, the largest size.
    """
    rows = [r for r in rows if r["status"] == "done" and r.get("distance") and not _noisy(r)]
    largest = max(map(_size, rows), default=None)
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["method"] == method and _size(row) == largest:
            source = str(row.get("source_domain") or row["source"])
            target = str(row.get("target_domain") or row["target"])
            grouped.setdefault((source, target), []).append(row)
    return [_pair(source, target, found) for (source, target), found in sorted(grouped.items())]


def _pair(source: str, target: str, rows: Sequence[Row]) -> DomainPair:
    """The means over the runs of one pair; a distance or an end of it that all of them have."""
    known = [float(r["source_accuracy"]) for r in rows if r.get("source_accuracy") is not None]
    ends = [row.get("distance_interval") or {} for row in rows]
    return DomainPair(
        source,
        target,
        _mean([float(row["accuracy"]) for row in rows]),
        _mean(known) if known else None,
        {m: _mean([float(r["distance"][m]) for r in rows])
         for m in _common([row["distance"] for row in rows])},
        {m: (_mean([float(e[m][0]) for e in ends]), _mean([float(e[m][1]) for e in ends]))
         for m in _common(ends)},
        rows[0].get("same_classes"),
    )  # fmt: skip


def _common(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that all of them have, sorted."""
    return sorted(set.intersection(*map(set, mappings)))


def _size(row: Row) -> tuple[float, float]:
    """Pool and fraction; all training images are the largest pool."""
    return pool_of(row), float(row["data_fraction"])


def _noisy(row: Row) -> bool:
    return noise_of(row).kind != "clean"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
