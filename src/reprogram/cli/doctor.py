"""doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprogram.cli.options import Whole
from reprogram.cli.output import result
from reprogram.errors import InputError

__all__ = ["doctor"]


def doctor(
    *,
    engine: bool = False,
    source: str | None = None,
    size: Whole | None = None,
    weights: Path | None = None,
    download: bool = False,
    json: bool = False,
) -> None:
    """Check environment, devices, caches and extras; each line ok or missing, with what mends it.

    Args:
        engine: Instead, which engine padding prompts take on a source, by the FLOPs of an image.
        source: With --engine: another source to count, beside the embedded one.
        size: With --engine: side of the image in the canvas, pixels.
        weights: Local .safetensors or .pth file with the source's weights.
        download: Fetch missing weights.
        json: Print one JSON document.
    """
    if engine:
        from reprogram.cli.flops import flop_rows, flop_table

        names = ["embedded"] if source is None else ["embedded", source]
        rows = flop_rows(names, size, weights, download)
        result({"engines": rows}, flop_table(rows), json)
        return
    if source is not None or size is not None or weights is not None or download:
        raise InputError("--source, --size, --weights and --download need --engine. Add --engine.")
    from reprogram.cli.checkup import check_up

    findings = check_up()
    lines = [_line(f) for f in findings]
    result({"checks": findings}, "\n".join(lines), json)


def _line(finding: dict[str, Any]) -> str:
    mend = f"   {finding['mend']}" if finding["mend"] else ""
    return f"  {finding['state']:<8} {finding['name']:<18} {finding['found']}{mend}"
