"""list sources, targets, methods, settings, noises: tables that teach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

__all__ = ["list_app"]

list_app = App(name="list", help="Tables of sources, targets, methods, settings and noises.")


@list_app.command
def methods(
    *,
    source: str = "embedded",
    weights: Path | None = None,
    download: bool = False,
    all_: bool = False,
    json: bool = False,
) -> None:
    """Methods: what is trained, how many parameters, the mapping, the paper.

    Args:
        source: Whose canvas the parameters are counted for.
        weights: Local .safetensors or .pth file with the source's weights.
        download: Fetch missing weights.
        all_: Every prompt x mapping, not only the prompts and mappings they are made of.
        json: Print one JSON document.
    """
    from reprogram.cli.catalogue import mapping_rows, method_rows, prompt_rows
    from reprogram.methods import VARIANTS
    from reprogram.sources import load_source

    body = load_source(source, weights=weights, download=download)
    if all_ or json:
        rows = method_rows(body)
        _show({"methods": rows if json else _with_unit(rows, body.name)}, json, "methods")
        return
    tables = {
        "baselines": method_rows(body, baselines_only=True),
        "prompts (join one to a mapping with +)": prompt_rows(body),
        "mappings": mapping_rows(),
    }
    for title, rows in tables.items():
        _show({"": _with_unit(rows, body.name)}, json, title)
    print("A method is PROMPT+MAPPING: pad+ilm, smm+blm+, full+linear.")
    print("Variants, such as pad+ilm@refit:")
    for name, variant in VARIANTS.items():
        print(f"  @{name}: {variant.does}")


def _with_unit(rows: list[dict[str, object]], source: str) -> list[dict[str, object]]:
    """The rows with what their parameters are counted on in the column's head."""
    head = f"parameters ({source}, 10 classes)"
    return [{head if k == "parameters" else k: v for k, v in row.items()} for row in rows]


@list_app.command
def sources(*, json: bool = False) -> None:
    """Sources by name. A directory or, in Python, your own module is a source too."""
    from reprogram.cli.catalogue import source_rows

    _show({"sources": source_rows()}, json, "sources")


@list_app.command
def targets(*, json: bool = False) -> None:
    """Targets by name. An image folder, a .npz file and hf/NAME are targets too."""
    from reprogram.cli.catalogue import target_rows

    _show({"targets": target_rows()}, json, "targets")


@list_app.command
def settings(*, method: str = "pad+ilm", json: bool = False) -> None:
    """Settings that --set takes, with a method's published values.

    Args:
        method: Whose settings and values; none is chosen for the source and the target.
        json: Print one JSON document.
    """
    from reprogram.cli.catalogue import setting_rows

    _show({"settings": setting_rows(method)}, json, f"settings of {method}")


@list_app.command
def noises(*, json: bool = False) -> None:
    """Noises of `reprogram bench --noises NAME:SEVERITY@SIDE`, and how strong they are."""
    from reprogram.cli.catalogue import noise_rows

    _show({"noises": noise_rows()}, json, "noises (NAME:SEVERITY, then @test, @train or @both)")


def _show(document: dict[str, list[dict[str, object]]], as_json: bool, title: str) -> None:
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    (rows,) = document.values()
    print(f"\n{title}\n" + "\n".join(aligned(rows)))


def aligned(rows: Sequence[dict[str, object]]) -> list[str]:
    r"""Columns of text under their names, numbers to the right; nothing is wrapped.

    >>> print("\n".join(aligned([{"name": "pad", "n": 720}, {"name": "full", "n": 3072}])))
      name      n
      pad     720
      full  3,072
    """
    if not rows:
        return ["  (none)"]
    names = list(rows[0])
    cells = [names] + [[_text(row[name]) for name in names] for row in rows]
    width = [max(len(line[i]) for line in cells) for i in range(len(names))]
    right = [any(isinstance(row[name], int | float) for row in rows) for name in names]
    lines = []
    for line in cells:
        shown = zip(line, width, right, strict=True)
        lines.append(
            "  " + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in shown).rstrip()
        )
    return lines


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
