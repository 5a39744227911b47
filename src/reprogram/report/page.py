"""The page, and the files beside it: report.html, report.md, report.tex, CSV files, the map."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from reprogram.errors import InputError
from reprogram.figures.style import save
from reprogram.files import write_text
from reprogram.report import (
    view_distance,
    view_figures,
    view_map,
    view_noise,
    view_table,
    view_text,
)
from reprogram.report.content import Content, markdown, tex
from reprogram.report.panels import Row, check_rows, run_key
from reprogram.report.takeaway import FAMILY

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
    notes: Sequence[str] = (),
) -> dict[str, Path]:
    """Write the report of some result rows; equal rows, in any order, give equal files.

    Args:
        rows: One mapping a run, at least source, target, method, data_fraction, seed and status,
            and accuracy in [0, 1] where the status is "done". ``num_classes`` gives the axis in
            images a class; ``noise`` and ``distance`` (:func:`~reprogram.report.with_distances`)
            give sections of their own.
        out_dir: The directory, made where it is missing.
        title: The page's title.
        command: What repeats the measurement, shown as it is.
        pictures: Shown under "What the network sees".
        run_pictures: For ``run_key(row)`` the pictures among that run's details.
        definitions: What a method is, by name, beside or instead of the built-in sentences.
        notes: What is missing here and why, said where it was measured.

    Returns:
        The path of each file by its name.

    Raises:
        InputError: For rows that are none, incomplete or doubled, or a page that stays too large.
    """
    if not rows:
        raise InputError("a report needs at least one result row, got none. Run something first.")
    content = Content.of(check_rows(rows), title, command, notes)
    texts = {
        "report.html": _fitting_page(content, pictures, run_pictures or {}, definitions or {}),
        "report.md": markdown(content),
        "report.tex": tex(content),
        **content.files,
    }
    out_dir = Path(out_dir)
    files = {name: out_dir / name for name in texts}
    for name, text in texts.items():
        write_text(files[name], text)
    for path in save(view_map.picture(content.views[0], content.choices), out_dir / "map"):
        files[path.name] = path
    return files


def _fitting_page(
    content: Content,
    pictures: Sequence[Picture],
    run_pictures: Mapping[tuple[Any, ...], Sequence[Picture]],
    definitions: Mapping[str, str],
) -> str:
    """The fullest page below MAX_BYTES; what had to go is said on it."""
    context = _context(content, pictures, definitions)
    details = context["data"] | _details(content.behind, run_pictures)
    size = 0
    for level, (omitted, without) in enumerate(_OMISSIONS):
        if level:
            context, details = without(context, details)
        notices = [*context["notices"], *filter(None, [omitted])]
        page = _render(context | {"notices": notices, "data": details})
        size = len(page.encode())
        if size < MAX_BYTES:
            if omitted:
                _log.warning(omitted)
            return page
    raise InputError(
        f"report.html of {len(content.rows)} rows would have {size:,} bytes; expected fewer than "
        f"{MAX_BYTES:,}. Report fewer targets or pictures at once."
    )


Context = dict[str, Any]


def _without_run(*keys: str) -> Callable[[Context, Context], tuple[Context, Context]]:
    """Leaves out what is known of each run under these keys."""

    def without(context: Context, details: Context) -> tuple[Context, Context]:
        rows = [{k: v for k, v in row.items() if k not in keys} for row in details["rows"]]
        return context, details | {"rows": rows}

    return without


def _without_noises(context: Context, details: Context) -> tuple[Context, Context]:
    """Leaves out the curves and the maps of single noises."""
    extras = [
        replace(extra, figures=[replace(group, small=()) for group in extra.figures])
        for extra in context["extras"]
    ]
    return context | {"extras": extras, "views": context["views"][:1]}, details


def _without_runs(context: Context, details: Context) -> tuple[Context, Context]:
    """Leaves out the runs behind a cell, and every row."""
    tables = view_table.closed(context["tables"])
    slim = details | {"rows": [], "settings": [], "cells": []}
    downloads = [file for file in context["downloads"] if file["name"] != "rows.csv"]
    return context | {"tables": tables, "downloads": downloads}, slim


# What goes first where a page would be too large; each step goes on from the one before.
_OMISSIONS: list[tuple[str, Callable[[Context, Context], tuple[Context, Context]]]] = [
    ("", _without_run()),
    (
        "The pictures of single runs are left out to keep this page below 5 MB.",
        _without_run("pictures"),
    ),
    (
        "Pictures and training curves of single runs are left out to keep this page below 5 MB.",
        _without_run("curve"),
    ),
    (
        "Pictures and training curves of single runs, and curves and maps of single noises, are left "
        "out to keep this page below 5 MB.",
        _without_noises,
    ),
    (
        "Single runs and single noises are left out to keep this page below 5 MB: rows.csv beside it "
        "has them.",
        _without_runs,
    ),
]


def _context(
    content: Content, pictures: Sequence[Picture], definitions: Mapping[str, str]
) -> dict[str, Any]:
    """Everything the template shows, as plain strings and numbers."""
    from markupsafe import Markup

    rows, everything, clean = content.rows, content.everything, content.clean
    first, *rest = re.split(r"(?<=\.) (?=[A-Z(])", content.answer, maxsplit=1)
    shown = clean or everything
    curves = view_figures.size_figures(clean)
    tables, cells = view_table.tables(clean, content.behind)
    figures = {
        "noise": view_noise.noise_figures(everything),
        "distance": view_distance.distance_figures(rows, everything[0].methods),
    }
    extras = [replace(s, figures=figures.get(s.id, ())) for s in content.sections.values()]
    names = [("map", "Advantage"), *([("size", "Data size")] if curves else [])]
    names += [(extra.id, extra.name) for extra in extras]
    names += [("pictures", "Pictures")] if pictures else []
    names += [("table", "Table")] if tables else []
    noun = "row is" if len(rows) == 1 else "rows are"
    return {
        "title": content.title,
        "command": content.command,
        "answer": view_text.emphasised(first),
        "answer_rest": view_text.emphasised(" ".join(rest)),
        "facts": view_text.facts(shown, rows),
        "notices": view_text.notices(everything, rows),
        "sections": [*names, ("how", "How it was measured")],
        "single": max((panel.counts[1] for panel in everything), default=0) <= 1,
        "costs": view_map.costs(content.choices),
        "views": view_map.tables(content.views, content.choices),
        "map_figures": view_map.figures(content.views[0], content.choices),
        "family": FAMILY,
        "notes": content.notes,
        "takeaways": [view_text.emphasised(text) for text in content.takeaways],
        "curves": curves,
        "pictures": [_embedded(picture) for picture in pictures],
        "extras": extras,
        "tables": tables,
        "protocol": view_text.protocol(rows),
        "splits": view_text.splits(shown),
        "definitions": view_text.definitions(rows, definitions),
        "environment": view_text.environment(rows),
        "row_count": f"{len(rows):,} {noun} here, without the training curves.",
        "downloads": [
            {"name": name, "href": Markup(_gzip_uri(text))} for name, text in content.files.items()
        ],
        "emphasised": view_text.emphasised,
        "data": {"cells": cells, "budgets": view_map.budget_index(content.choices)},
    }


def _details(
    rows: Sequence[Row], run_pictures: Mapping[tuple[Any, ...], Sequence[Picture]]
) -> dict[str, Any]:
    """What the page shows of a single run when its cell is chosen; equal settings are held once."""
    keys = ["seed", "source_seed", "status", "accuracy", "val_accuracy", "selected_epoch"]
    keys += ["seconds", "error", "reason"]
    keys += ["git_sha"] if len(view_text.versions_of_code(rows)) > 1 else []
    details = []
    settings: dict[str, int] = {}
    for row in rows:
        detail = {key: view_text.jsonable(row[key]) for key in keys if row.get(key) is not None}
        text = json.dumps(view_text.jsonable(row.get("settings") or {}), indent=1)
        detail["settings"] = settings.setdefault(text, len(settings))
        if curve := view_text.validation_curve(row):
            detail["curve"] = curve
        if found := run_pictures.get(run_key(row), ()):
            detail["pictures"] = [_embedded(picture) for picture in found]
        details.append(detail)
    return {"rows": details, "settings": list(settings)}


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
