"""ntk-depth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from reprogram.cli.options import Common, Shared, Whole
from reprogram.cli.output import note, result
from reprogram.cli.trainings import measured, open_trainings
from reprogram.errors import InputError

__all__ = ["ntk_depth"]

DRAWN = ("source_accuracy", "accuracy", "smallest_nonzero", "alignment", "effective_dimension")


def ntk_depth(
    results: Path,
    /,
    *,
    out: Path,
    images: Whole = 128,
    threads: Whole = 1,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """The NTK paper's experiment reported: depth, source accuracy and spectrum against target accuracy.

    Every finished training of configs/depth.py is set beside its source's own accuracy and the
    spectrum of its kernel before training. Stopped at any moment, the same command goes on.

    Args:
        results: Directory of `reprogram bench run configs/depth.py`.
        out: Directory of the report: rows.csv, claims.md, claims.json, depth.png and .svg.
        images: Of the kernel. 128 of them with ten classes are 1,280 rows, more than the 720
            parameters of pad at 28 px in 32, whose smallest eigenvalue above 0 is then the 720th.
        threads: Threads to compute with.
    """
    from dataclasses import asdict

    from reprogram.analysis.depth import choices_of, claims_of, markdown, measure_point, text
    from reprogram.analysis.study import StudyRows, write_csv
    from reprogram.figures import save
    from reprogram.files import write_json, write_text

    store, context = open_trainings(results, common, threads)
    whole = [(entry, store.read(entry.key)) for entry in store.entries()]
    done = [(entry, row) for entry, row in whole if row is not None and row["status"] == "done"]
    done.sort(key=lambda trained: trained[0].cell.target)  # so that a set is loaded once
    if not done:
        raise InputError(f"{results} holds no finished training. Run configs/depth.py first.")
    quiet = common.quiet or common.json
    note(f"reprogram ntk-depth   {len(done)} trainings, {len(whole) - len(done)} missing", quiet)
    jobs = [
        (
            entry.key, f"{entry.cell.source} -> {row['target']}",
            partial(measure_point, entry.cell, row, context, images=images),
        )
        for entry, row in done
    ]  # fmt: skip
    kept = StudyRows(out / "rows", {"images": images, "precision": "float64"})
    points = measured(kept, jobs, "spectra", quiet)
    write_csv(out / "rows.csv", points)
    write_text(out / "claims.md", markdown(points))
    claims = [asdict(claim) | {"verdict": claim.verdict} for claim in claims_of(points)]
    first, *others = dict.fromkeys(point["method"] for point in points)
    choices = [
        asdict(choice) | {"verdict": choice.verdict}
        for other in others
        for choice in choices_of(points, first, other)
    ]
    missing = len(whole) - len(done)
    document = {"claims": claims, "choices": choices, "runs": len(done), "missing": missing}
    write_json(out / "claims.json", document)
    save(_picture(points), out / "depth")
    lines = [text(points), f"{len(done)} of {len(whole)} cells   kept in {out}"]
    result(document | {"out": str(out)}, "\n".join(lines), common.json)


def _picture(points: list[dict[str, Any]]) -> Any:
    """A row for each kind of source."""
    from reprogram.analysis.depth import COLUMNS, lines_of
    from reprogram.figures.curves import Point
    from reprogram.figures.depth import depth_picture

    rows: dict[str, dict[str, dict[str, list[Point]]]] = {}
    lines = lines_of(points)
    for line in lines:
        panels = rows.setdefault(line.kind, {COLUMNS[column][0]: {} for column in DRAWN})
        for column in DRAWN:
            panels[COLUMNS[column][0]][f"{line.method} {line.target}"] = [
                Point(level, values[column].mean, values[column].half_width)
                for level, values in line.values.items()
                if column in values
            ]
    several = {v["accuracy"].half_width is not None for line in lines for v in line.values.values()}
    title = "Means over seeds with 95 % intervals" if True in several else "One seed"
    title += "; no band: one seed" if len(several) == 2 else ""
    percent = [title for title, accuracy in COLUMNS.values() if accuracy]
    return depth_picture(
        rows, percent=percent, logarithmic=[COLUMNS["smallest_nonzero"][0]],
        title=title,
    )  # fmt: skip
