"""Distances behind every (source, target) of a grid: what `bench report` sets beside the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from reprogram.analysis.distance.measure import DISTANCES, Measured, fid_warning, measure
from reprogram.analysis.distance.sample import sample_features
from reprogram.data import TargetTask
from reprogram.errors import InputError
from reprogram.experiments.results import Entry
from reprogram.files import write_json
from reprogram.sources import Source, preprocessing_of, resolve_seeded, training_record

__all__ = ["GridPair", "distance_document", "grid_pairs"]


@final
@dataclass(frozen=True)
class GridPair:
    """A source of a grid, what it was trained on, and a target.

    Attributes:
        source: As the rows name it.
        source_seed: Which of its trainings.
        target: As the rows name it.
        domain: The set that the source was trained on.
        other: The target's set.
        accuracy: Of the source on its own test images, in [0, 1].
    """

    source: str
    source_seed: int | None
    target: str
    domain: TargetTask
    other: TargetTask
    accuracy: float | None

    @property
    def names(self) -> tuple[str, str]:
        """The two sets."""
        return self.domain.name, self.other.name


def grid_pairs(
    entries: Iterable[Entry], open_task: Callable[[str], TargetTask]
) -> tuple[list[GridPair], list[str]]:
    """Every source, training of it and target of a grid, in its order.

    Args:
        entries: The cells.
        open_task: Opens a target by its specification.

    Returns:
        The pairs, and the sources left out because they do not say what they were trained on.

    Raises:
        InputError: A source was trained on other images than its set holds now.
    """
    tasks: dict[str, TargetTask] = {}
    trained: dict[tuple[str, int | None], dict[str, Any]] = {}
    pairs: dict[tuple[Any, ...], GridPair] = {}

    def task(spec: str) -> TargetTask:
        if spec not in tasks:
            tasks[spec] = open_task(spec)
        return tasks[spec]

    for entry in entries:
        cell = entry.cell
        training = (cell.source, cell.source_seed)
        if training not in trained:
            trained[training] = _training(*training)
        record = trained[training]
        if record.get("target") and (*training, entry.target) not in pairs:
            domain = task(str(record["target"]))
            _check_unchanged(cell.source, record, domain)
            pairs[*training, entry.target] = GridPair(
                *training, entry.target, domain, task(cell.target), record.get("test_accuracy")
            )
    return list(pairs.values()), sorted({s for (s, _), r in trained.items() if not r.get("target")})


def _training(source: str, seed: int | None) -> dict[str, Any]:
    """What train-source noted; {} for a source that it did not make."""
    directory = resolve_seeded(source, seed)
    return training_record(directory) if Path(directory).expanduser().is_dir() else {}


def _check_unchanged(source: str, record: Mapping[str, Any], domain: TargetTask) -> None:
    if record.get("data", domain.fingerprint) != domain.fingerprint:
        raise InputError(
            f"source {source!r} was trained on other images than {record['target']} holds now. "
            "Put those back, or train it again."
        )


def distance_document(
    pairs: Sequence[GridPair],
    features: Source,
    names: Sequence[str],
    *,
    images: int,
    split: str = "train",
    replicates: int = 50,
    seed: int = 0,
    cache: Path | None = None,
    on_plan: Callable[[int], None] = lambda _: None,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Each distance once for each two sets, beside the pairs that it holds for.

    All sets give equally many images, since FID is comparable at equal n only. A set has no
    distance from itself.

    Args:
        pairs: Of the grid.
        features: What makes the features; it computes where it is.
        names: In DISTANCES.
        images: Of each set, every class in proportion; all of the smallest set where it has fewer.
        split: Of the sets.
        replicates: Half-samples behind an interval; 0 gives none.
        seed: Of the choice of images and of the half-samples.
        cache: File of distances that need not be measured again; written after every one.
        on_plan: Called with the number of distances.
        on_step: Called with a few words before every distance.

    Returns:
        What :func:`reprogram.report.with_distances` takes.
    """
    splits = {task.name: task.split(split) for pair in pairs for task in (pair.domain, pair.other)}
    n = min(images, *map(len, splits.values()))
    samples = {name: sample_features(features, of, n, seed) for name, of in splits.items()}
    d = next(iter(samples.values())).features.shape[1]
    jobs = list(dict.fromkeys(_job(name, pair) for pair in pairs for name in names))
    jobs = [job for job in jobs if job[1] != job[2]]
    on_plan(len(jobs))
    known = _read(cache)
    found: dict[tuple[str, str, str], Measured] = {}
    for job in jobs:
        name, *sets = job
        on_step(f"{name}  {sets[0]}, {sets[1]}")
        prints = [splits[one].fingerprint for one in sets]
        key = _key(
            *job, *prints, features.fingerprint, preprocessing_of(features), n, replicates, seed
        )
        if key not in known:
            first, second = (samples[one] for one in sets)
            measured = measure(first, second, [name], replicates=replicates, seed=seed)[name]
            known[key] = asdict(measured)
            if cache is not None:
                write_json(cache, known)
        found[job] = Measured(**known[key])
    return {
        "source_fingerprint": features.fingerprint,
        "d": d,
        "n": n,
        "split": split,
        "seed": seed,
        "replicates": replicates,
        "fid_warning": (fid_warning(n, d) or None) if "fid" in names else None,
        "pairs": [_entry(pair, names, found) for pair in pairs],
    }


def _job(name: str, pair: GridPair) -> tuple[str, str, str]:
    """A distance and its two sets, in one order where the order does not matter."""
    first, second = sorted(pair.names) if DISTANCES[name].symmetric else pair.names
    return name, first, second


def _entry(
    pair: GridPair, names: Sequence[str], found: Mapping[tuple[str, str, str], Measured]
) -> dict[str, Any]:
    """A pair as distances.json has it."""
    measured = {name: found.get(_job(name, pair)) for name in names}
    return {
        "source": pair.source,
        "source_seed": pair.source_seed,
        "target": pair.target,
        "source_domain": pair.domain.name,
        "target_domain": pair.other.name,
        "same_classes": set(pair.domain.class_names) == set(pair.other.class_names),
        "source_accuracy": pair.accuracy,
        "metrics": {name: asdict(of) for name, of in measured.items() if of is not None},
    }


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read(cache: Path | None) -> dict[str, Any]:
    """The distances that are there already; none where the file is absent or damaged."""
    try:
        return json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (FileNotFoundError, ValueError):
        return {}
