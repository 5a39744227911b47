"""distance."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Literal

from reprogram.cli.lists import aligned
from reprogram.cli.options import Common, Shared, open_source, open_target
from reprogram.cli.output import note, result

__all__ = ["distance"]


def distance(
    *,
    first: str,
    second: str,
    features: str = "embedded",
    images: int = 2000,
    split: Literal["train", "val", "test"] = "train",
    metrics: str | None = None,
    replicates: int = 50,
    seed: int = 0,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """How far apart two data sets are, on features of a frozen source, with 95 % intervals.

    A set against itself is two disjoint halves of it: what chance alone makes of each distance.

    Args:
        first: A target, as for fit.
        second: Another target.
        features: The source whose penultimate features are used.
        images: Of each set, every class in proportion; all of the smaller set where it has fewer.
        split: train, val or test.
        metrics: Some of fid, kid, mmd, sliced-wasserstein, gaussian-kl, otdd, proxy-a; joined by commas.
        replicates: Half-samples behind an interval; 0 gives none.
        seed: Of the choice of images and of the half-samples.
    """
    from reprogram.analysis.distance import fid_against_n, fid_warning, measure, two_samples
    from reprogram.environment import resolve_device
    from reprogram.progress import bar

    names = _chosen(metrics, common)
    source = open_source(features, common).to(resolve_device(common.device))
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
    from reprogram.errors import InputError, unknown

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
