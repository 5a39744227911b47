"""What `reprogram doctor --engine` prints: the FLOPs of a padding prompt's image, engine by engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reprogram.cli.lists import aligned
from reprogram.engine.folded import folded_source, is_frozen_network
from reprogram.engine.windowed import plan_padding
from reprogram.input_transforms import Padding, default_image_size
from reprogram.sources import Source, load_source

__all__ = ["flop_rows", "flop_table"]


def flop_rows(
    names: Iterable[str], size: int | None, weights: Path | None, download: bool
) -> list[dict[str, Any]]:
    """One row for each source and image size.

    Args:
        names: Of the sources; `weights` are those of every source but the embedded one.
        size: Side of the image in the canvas, pixels; None takes the default ones for small and
            for large images.
        weights: Local file.
        download: Fetch missing weights.
    """
    rows = []
    for name in names:
        own = None if name == "embedded" else weights
        source = load_source(name, weights=own, download=download)
        sides = {default_image_size(source.image_size, native) for native in (32, None)}
        rows += [_row(source, side) for side in (sorted(sides) if size is None else [size])]
    return rows


def _row(source: Source, size: int) -> dict[str, Any]:
    """FLOPs of one image's forward pass, and the engine that `auto` takes for its training."""
    row: dict[str, Any] = {"source": source.name, "canvas": source.image_size, "size": size}
    counts = dict.fromkeys(("plain_flops", "window_flops", "background_flops"))
    if not is_frozen_network(source):
        return row | counts | {"engine": "plain", "reason": "not a network on this machine."}
    plan, reason = plan_padding(folded_source(source), Padding(source.image_size, size))
    if plan is None:
        return row | counts | {"engine": "folded", "reason": reason}
    counts = {
        "plain_flops": plan.flops_plain,
        "window_flops": plan.flops_window,
        "background_flops": plan.flops_background,
    }
    ratio = plan.flops_plain / plan.flops_window
    pays = f"windows need {ratio:.2f} times fewer FLOPs; the background runs once a batch."
    return row | counts | {"engine": "folded" if reason else "window", "reason": reason or pays}


def flop_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people, in GFLOP an image; the background's once a batch."""

    def shown(name: str, value: Any) -> tuple[str, Any]:
        if not name.endswith("_flops"):
            return name, value
        return name.removesuffix("_flops"), None if value is None else f"{value / 1e9:.3f}"

    lines = aligned([dict(shown(*item) for item in row.items()) for row in rows])
    return "\n".join(["padding prompts, forward pass: GFLOP an image, background a batch", *lines])
