"""distance."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reprogram.cli.lists import aligned
from reprogram.cli.options import Common, Shared, Whole, open_source, open_target
from reprogram.cli.output import note, result
from reprogram.errors import InputError, unknown

if TYPE_CHECKING:
    from reprogram.sources import Source

__all__ = ["distance"]


def distance(
    *,
    first: str | None = None,
    second: str | None = None,
    results: Path | None = None,
    features: str = "embedded",
    images: Whole = 2000,
    split: Literal["train", "val", "test"] = "train",
    metrics: str | None = None,
    replicates: Whole = 50,
    seed: Whole = 0,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """How far apart data sets are, on features of a frozen source, with 95 % intervals.

    Two sets (--first, --second), or what every source of a grid was trained on and its targets
    (--results): then DIR/distances.json is written for `bench report`, and what is measured is kept
    in DIR/cache. A set against itself is two disjoint halves of it: what chance alone makes of each
    distance.

    Args:
        first: A target, as for fit.
        second: Another target.
        results: Directory of a grid, whose sources train-source made.
        features: The source whose penultimate features are used.
        images: Of each set, every class in proportion; all of the smallest set where it has fewer.
        split: train, val or test.
        metrics: Some of fid, kid, mmd, sliced-wasserstein, gaussian-kl, otdd, proxy-a; joined by commas.
        replicates: Half-samples behind an interval; 0 gives none.
        seed: Of the choice of images and of the half-samples.
    """
    names = _chosen(metrics, common)
    options: dict[str, Any] = {
        "images": images, "split": split, "replicates": replicates, "seed": seed,
    }  # fmt: skip
    if results is not None and first is None and second is None:
        source = _features(features, common)
        _of_grid(results, features, source, names, options, common)
    elif results is None and first is not None and second is not None:
        source = _features(features, common)
        _of_two(first, second, features, source, names, common, **options)
    else:
        raise InputError(
            "distance takes two sets, --first and --second, or the --results of a grid."
        )


def _features(spec: str, common: Common) -> Source:
    """The network whose features are compared, where it computes."""
    from reprogram.environment import resolve_device
    from reprogram.sources import resolve_seeded

    return open_source(resolve_seeded(spec, None), common).to(resolve_device(common.device))


def _of_grid(
    out: Path,
    features: str,
    source: Source,
    names: list[str],
    options: dict[str, Any],
    common: Common,
) -> None:
    """Write what `bench report` reads, and print a line for each two sets."""
    from reprogram.analysis.distance import distance_document, grid_pairs
    from reprogram.experiments.results import ResultStore
    from reprogram.files import write_json
    from reprogram.progress import bar

    store = ResultStore.existing(out)
    pairs, unknown_sets = grid_pairs(store.entries(), lambda spec: open_target(spec, common))
    left_out = ", ".join(unknown_sets)
    if not pairs:
        raise InputError(
            f"no source of {out} says what it was trained on ({left_out or 'no cells'}): only those "
            "that train-source made do. Compare two sets with --first and --second."
        )
    if left_out:
        note(f"left out, not made by train-source: {left_out}", common.quiet or common.json)
    with bar(common.quiet or common.json, "{task.fields[doing]}") as progress:
        steps = progress.add_task("distance", total=None, doing="features")
        document = {"features": features} | distance_document(
            pairs, source, names, **options, cache=store.cache / "distances.json",
            on_plan=lambda total: progress.update(steps, total=total),
            on_step=lambda words: progress.update(steps, advance=1, doing=words),
        )  # fmt: skip
    write_json(out / "distances.json", document)
    result(document, _grid_text(out, document), common.json)


def _grid_text(out: Path, document: dict[str, Any]) -> str:
    """The distances of each two sets, whatever the source's name and seed."""
    rows = {}
    for pair in document["pairs"]:
        words = "same" if pair["same_classes"] else "other"
        found = {n: _number(of["value"]) for n, of in pair["metrics"].items()}
        rows[pair["source_domain"], pair["target_domain"]] = {
            "trained on": pair["source_domain"], "target": pair["target_domain"], "classes": words,
            **{name: found.get(name, "-") for name in _names(document)},
        }  # fmt: skip
    lines = [
        f"{document['n']:,} {document['split']} images of each set   "
        f"features of {document['features']} (d = {document['d']:,})",
        *aligned(list(rows.values())),
        f"intervals and source accuracy in {out / 'distances.json'}   "
        f"next: {shlex.join(['reprogram', 'bench', 'report', str(out)])}",
    ]
    return "\n".join(lines)


def _names(document: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for pair in document["pairs"] for name in pair["metrics"]))


def _of_two(
    first: str,
    second: str,
    features: str,
    source: Source,
    names: list[str],
    common: Common,
    *,
    images: int,
    split: str,
    replicates: int,
    seed: int,
) -> None:
    """Print the distances of two sets."""
    from reprogram.analysis.distance import fid_against_n, fid_warning, measure, two_samples
    from reprogram.progress import bar

    splits = [open_target(spec, common).split(split) for spec in (first, second)]
    one, other = two_samples(source, splits[0], splits[1], images, seed)
    n, d = one.features.shape
    with bar(common.quiet or common.json, "{task.fields[doing]}") as progress:
        steps = progress.add_task("distance", total=len(names) * (replicates + 1), doing="")
        found = measure(
            one, other, names, replicates=replicates, seed=seed,
            on_step=lambda name: progress.update(steps, advance=1, doing=name),
        )  # fmt: skip
    document: dict[str, Any] = {
        "first": first,
        "second": second,
        "first_fingerprint": splits[0].fingerprint,
        "second_fingerprint": splits[1].fingerprint,
        "split": split,
        "features": features,
        "source_fingerprint": source.fingerprint,
        "d": d,
        "n": n,
        "seed": seed,
        "replicates": replicates,
        "distances": {name: asdict(measured) for name, measured in found.items()},
    }
    if "fid" in found:
        by_n = fid_against_n(one, other, seed=seed)
        document["fid_against_n"] = {str(m): value for m, value in by_n.items()}
        document["fid_warning"] = fid_warning(n, d) or None
    title = f"{splits[0].task.name} and {splits[1].task.name}"
    result(document, _text(title, document), common.json)


def _chosen(metrics: str | None, common: Common) -> list[str]:
    """The distances asked for; by default all that are installed."""
    from reprogram.analysis.distance import DISTANCES, require_pot

    if metrics is None:
        if find_spec("ot") is None:
            note('otdd is left out: pip install "reprogram[ot]".', common.quiet or common.json)
            return [name for name in DISTANCES if name != "otdd"]
        return list(DISTANCES)
    names = list(dict.fromkeys(name.strip() for name in metrics.split(",") if name.strip()))
    if not names:
        raise InputError(f"--metrics {metrics!r} names no distance. Write it like fid,kid.")
    for name in names:
        if name not in DISTANCES:
            raise unknown("distance", name, DISTANCES)
    if "otdd" in names:
        require_pot()
    return names


def _text(title: str, document: dict[str, Any]) -> str:
    from reprogram.analysis.distance import DISTANCES

    rows: list[dict[str, object]] = [
        {
            "distance": name,
            "value": _number(of["value"]),
            "95 % interval": "-"
            if of["low"] is None
            else f"{_number(of['low'])} to {_number(of['high'])}",
            "what it is": DISTANCES[name].does,
        }
        for name, of in document["distances"].items()
    ]
    lines = [
        f"{title}   {document['n']:,} {document['split']} images each   "
        f"features of {document['features']} (d = {document['d']:,})",
        *aligned(rows),
    ]
    if "fid_against_n" in document:
        values = [f"{_number(v)} at n = {int(m):,}" for m, v in document["fid_against_n"].items()]
        lines.append(f"  fid against n: {', '.join(values)}; it is comparable at equal n only")
    fit = shlex.join(["reprogram", "fit", "--target", document["second"]])
    lines.append(f"compare within a row, at this n, on these features   next: {fit}")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Four significant digits, without an exponent where that is short.

    >>> _number(12.3456), _number(0.000123456), _number(12345.6)
    ('12.35', '0.0001235', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
