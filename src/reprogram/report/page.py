"""The page, and the files beside it: report.html, report.md, report.tex, table.csv, rows.csv."""

from __future__ import annotations

import base64
import gzip
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from reprogram.errors import InputError
from reprogram.figures.style import write_atomically
from reprogram.report import view_figures, view_map, view_table, view_text
from reprogram.report.advantage import budgets
from reprogram.report.panels import Panel, Row, check_rows, clean_panels, panels, run_key
from reprogram.report.sentence import answer
from reprogram.report.tables import counts_text, markdown_table, rows_csv, table_csv, tex_table

__all__ = ["MAX_BYTES", "Picture", "write_report"]

MAX_BYTES = 5_000_000  # the page opens at once on a phone and passes through mail

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A PNG for the page, with the words for those who read it and those who cannot see it."""

    png: bytes
    caption: str
    alt: str


def write_report(
    rows: Sequence[Row],
    out_dir: str | Path,
    *,
    title: str = "Model reprogramming",
    command: str = "",
    pictures: Sequence[Picture] = (),
    run_pictures: Mapping[tuple[Any, ...], Sequence[Picture]] | None = None,
    definitions: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Write the report of some result rows; equal rows, in any order, give equal files.

    Args:
        rows: One mapping a run, at least source, target, method, data_fraction, seed and status,
            and accuracy in [0, 1] where the status is "done". ``num_classes`` gives the axis in
            images a class, ``noise`` and ``distance`` sections of their own.
        out_dir: The directory, made where it is missing.
        title: The page's title.
        command: What repeats the measurement, shown as it is.
        pictures: Shown under "What the network sees".
        run_pictures: For ``run_key(row)`` the pictures among that run's details.
        definitions: What a method is, by name, beside or instead of the built-in sentences.

    Returns:
        The path of each file by its name.

    Raises:
        InputError: For rows that are none, incomplete or doubled, or a page that stays too large.
    """
    if not rows:
        raise InputError("a report needs at least one result row, got none. Run something first.")
    rows = check_rows(rows)
    everything = panels(rows)
    clean = clean_panels(rows)
    texts = {
        "report.html": _fitting_page(
            rows,
            title=title,
            command=command,
            pictures=pictures,
            run_pictures=run_pictures or {},
            definitions=definitions or {},
        ),
        "report.md": _markdown(clean, title, command),
        "report.tex": _tex(clean),
        "table.csv": table_csv(everything),
        "rows.csv": rows_csv(rows),
    }
    out_dir = Path(out_dir)
    return {name: write_atomically(out_dir / name, text.encode()) for name, text in texts.items()}


def _fitting_page(
    rows: Sequence[Row],
    *,
    title: str,
    command: str,
    pictures: Sequence[Picture],
    run_pictures: Mapping[tuple[Any, ...], Sequence[Picture]],
    definitions: Mapping[str, str],
) -> str:
    """The fullest page below MAX_BYTES; what had to go is said on it."""
    context = _context(rows, title, command, pictures, definitions)
    omissions = [
        "",
        "The pictures of single runs are left out to keep this page below 5 MB.",
        "Pictures and training curves of single runs are left out to keep this page below 5 MB.",
    ]
    size = 0
    for level, omitted in enumerate(omissions):
        details = _details(rows, run_pictures if level < 1 else {}, with_history=level < 2)
        notices = [*context["notices"], *filter(None, [omitted])]
        page = _render(context | {"notices": notices, "data": context["data"] | details})
        size = len(page.encode())
        if size < MAX_BYTES:
            if omitted:
                _log.warning(omitted)
            return page
    raise InputError(
        f"report.html of {len(rows)} rows would have {size:,} bytes; expected fewer than "
        f"{MAX_BYTES:,}. Report fewer targets or pictures at once."
    )


def _context(
    rows: Sequence[Row],
    title: str,
    command: str,
    pictures: Sequence[Picture],
    definitions: Mapping[str, str],
) -> dict[str, Any]:
    """Everything the template shows, as plain strings and numbers."""
    from markupsafe import Markup

    everything, clean = panels(rows), clean_panels(rows)
    shown = clean or everything
    maps = budgets(clean)
    tables, cells = view_table.tables(clean, rows)
    noise, distance = (
        view_figures.noise_section(everything),
        view_figures.distance_section(rows, shown[0].methods),
    )
    sections = [("map", "Advantage"), ("size", "Data size")]
    sections += [("pictures", "Pictures")] if pictures else []
    sections += [(extra["id"], extra["name"]) for extra in (noise, distance) if extra]
    sections += [("table", "Table"), ("how", "How it was measured")]
    files = {"table.csv": table_csv(everything), "rows.csv": rows_csv(rows)}
    noun = "row is" if len(rows) == 1 else "rows are"
    return {
        "title": title,
        "command": command,
        "answer": view_text.emphasised(answer(clean) or "No run has finished yet."),
        "facts": view_text.facts(shown, rows),
        "notices": view_text.notices(clean, rows),
        "sections": sections,
        "single": max((panel.counts[1] for panel in clean), default=0) <= 1,
        "heads": view_map.map_heads(clean),
        "costs": view_map.costs(maps),
        "maps": view_map.maps(clean, maps),
        "takeaway": view_map.takeaway(clean, maps),
        "curves": view_figures.size_figures(clean),
        "pictures": [_embedded(picture) for picture in pictures],
        "noise": noise,
        "distance": distance,
        "tables": tables,
        "protocol": view_text.protocol(rows),
        "splits": view_text.splits(shown),
        "definitions": view_text.definitions(rows, definitions),
        "environment": view_text.environment(rows),
        "row_count": f"{len(rows)} {noun} here, without the training curves.",
        "downloads": [{"name": n, "href": Markup(_gzip_uri(t))} for n, t in files.items()],
        "data": {"cells": cells, "budgets": view_map.budget_index(maps)},
    }


def _details(
    rows: Sequence[Row],
    run_pictures: Mapping[tuple[Any, ...], Sequence[Picture]],
    *,
    with_history: bool,
) -> dict[str, Any]:
    """What the page shows of a single run when its cell is chosen."""
    keys = ["seed", "status", "accuracy", "val_accuracy", "selected_epoch", "seconds", "settings"]
    keys += ["error", "reason"] + (["history"] if with_history else [])
    details = []
    for row in rows:
        detail = {key: view_text.jsonable(row[key]) for key in keys if row.get(key) is not None}
        found = run_pictures.get(run_key(row), ())
        details.append(detail | ({"pictures": [_embedded(p) for p in found]} if found else {}))
    return {"rows": details}


def _render(context: Mapping[str, Any]) -> str:
    """The template filled in, its style and script inlined."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("reprogram.report") / "templates"
    css, js, template = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "report.html.j2")
    )
    # The hash is the only script that the page's own policy lets run.
    digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    inlined = {"css": Markup(css), "js": Markup(js), "script_hash": Markup(digest)}
    return environment.from_string(template).render({**context, **inlined}) + "\n"


def _embedded(picture: Picture) -> dict[str, str]:
    """A picture as a data URI with its words."""
    data = base64.b64encode(picture.png).decode()
    return {
        "src": f"data:image/png;base64,{data}",
        "caption": picture.caption,
        "alt": picture.alt,
    }


def _gzip_uri(text: str) -> str:
    """A file as a data URI, compressed without a time."""
    data = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return f"data:application/gzip;base64,{data}"


def _markdown(clean: Sequence[Panel], title: str, command: str) -> str:
    """The answer and the tables in Markdown."""
    parts = [f"# {title}", answer(clean) or "No run has finished yet."]
    for panel in clean:
        caption = (
            f"Test accuracy in per cent, mean ± half of the 95 % interval, {counts_text(panel)}."
        )
        parts += [f"## {panel.title}", caption, markdown_table(panel)]
    if command:
        parts += ["## To repeat it", f"```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def _tex(clean: Sequence[Panel]) -> str:
    """The tables in LaTeX, one after the other."""
    parts = []
    for panel in clean:
        name = " ".join(panel.title.replace("→", "to").split())
        parts += [
            f"% {name}: test accuracy in %, mean +- half of the 95% interval",
            tex_table(panel),
        ]
    return "\n".join(parts) + "\n"
