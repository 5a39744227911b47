"""What the page says around its tables: the evidence, warnings, protocol and environment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reprogram.report.panels import Panel, Row

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["definitions", "emphasised", "environment", "facts", "jsonable", "notices"]
__all__ += ["protocol", "splits", "validation_curve", "versions_of_code"]

DEFINITIONS = {
    "full-finetune": "The classification head is replaced by a new linear layer and every layer is "
    "trained, on a copy of the source.",
    "head-finetune": "The last layer is replaced by a new linear layer, which alone is trained, on "
    "the frozen features before it. Elsewhere this is often called linear probing.",
    "linear-probe": "A linear layer is added on top of the whole frozen network, on its class "
    "scores, and alone is trained.",
    "reprogramming": "A prompt and the network that masks it for each image (SMM) are trained in "
    "front of the frozen source; each target class reads one source class, chosen anew at the "
    "start of every epoch (ILM).",
    "smm+ilm": "The method of `reprogramming`, with the SMM paper's own learning rates.",
    "smm+linear": "A prompt, the network that masks it (SMM) and a linear layer on the frozen "
    "source's class scores are trained together.",
    "none+ilm": "No prompt: the plain resized image, each target class reads one source class.",
    "pad+ilm": "The image lies inside a trained border; each target class reads one source class, "
    "chosen anew at the start of every epoch (ILM).",
}


def emphasised(text: str) -> Markup:
    """The answer with its percentages set bold."""
    from markupsafe import Markup, escape

    one = r"[+−]?\d[\d.,]*(?: ± [\d.]+)?"
    number = f"(?:{one} to )?{one} (?:%|points)"
    return Markup(re.sub(f"({number})", r"<b>\1</b>", str(escape(text))))  # noqa: S704


def facts(shown: Sequence[Panel], rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The size of the evidence in a line."""
    seeds = {str(row["seed"]) for row in rows}
    named = [
        (len({panel.source for panel in shown}), "source"),
        (len({panel.target for panel in shown}), "target"),
        (len({method for panel in shown for method in panel.methods}), "method"),
        (len({fraction for panel in shown for fraction in panel.fractions}), "data size"),
        (len(seeds), "seed"),
    ]
    found = [(str(n), name if n == 1 else name + "s") for n, name in named]
    done = sum(row["status"] == "done" for row in rows)
    found.append((f"{done:,}", "run" if done == 1 else "runs"))
    tests = sorted({int(row["n_test"]) for row in rows if row.get("n_test")})
    if tests:
        span = f"{tests[0]:,}" if len(tests) == 1 else f"{tests[0]:,} to {tests[-1]:,}"
        found.append((span, "test images"))
    return found


def notices(everything: Sequence[Panel], rows: Sequence[Row]) -> list[str]:
    """What a reader must know before believing the tables."""
    found = []
    if max((panel.counts[1] for panel in everything), default=0) == 1:
        found.append("n = 1: nothing can be resolved, means are shown.")
    found += [text for text in (_absent_runs(rows), _absent_cells(everything)) if text]
    if len(commits := versions_of_code(rows)) > 1:
        found.append(
            f"The rows come from {len(commits)} versions of the code: {', '.join(commits)}. "
            "A cell's runs name theirs."
        )
    if any(commit.endswith("-dirty") for commit in commits):
        found.append("Some rows come from code with changes that were not committed (-dirty).")
    if any(row.get("track_test") for row in rows):
        found.append("The test curve was recorded beside the runs; it selected nothing.")
    return found


_STATES = [("missing", "not run"), ("failed", "failed"), ("skipped", "skipped")]


def _absent_runs(rows: Sequence[Row]) -> str:
    """How many of the planned runs have no result."""
    states = [str(row["status"]) for row in rows]
    absent = [f"{states.count(s):,} {words}" for s, words in _STATES if s in states]
    return f"Of {len(states):,} runs, {', '.join(absent)}." if absent else ""


def _absent_cells(everything: Sequence[Panel]) -> str:
    """How many cells have no number, and whether the others stand on different numbers of runs."""
    states = [p.entry(m, f).status for p in everything for m in p.methods for f in p.fractions]
    absent = [f"{states.count(s):,} {words}" for s, words in _STATES if s in states]
    counts = [panel.counts for panel in everything if panel.counts[1]]
    low, high = min((c[0] for c in counts), default=0), max((c[1] for c in counts), default=0)
    text = f"Of {len(states):,} cells, {', '.join(absent)}: marked in the tables." if absent else ""
    differ = f"Cells stand on {low} to {high} runs: n is written in each." if low != high else ""
    return " ".join(filter(None, [text, differ]))


def versions_of_code(rows: Sequence[Row]) -> list[str]:
    """Every commit that rows were made with, failed ones too."""
    return sorted({str(row["git_sha"]) for row in rows if row.get("git_sha")})


def validation_curve(row: Row) -> list[float | None]:
    """Validation accuracy after each epoch, from 0 on; empty where there is none.

    >>> validation_curve({"history": [{"epoch": 0, "val": {"accuracy": 0.25}}, {"epoch": 1}]})
    [0.25, None]
    """
    found = {}
    for epoch in row.get("history") or []:
        value = epoch.get("val_accuracy", (epoch.get("val") or {}).get("accuracy"))
        if value is not None:
            found[int(epoch["epoch"])] = round(float(value), 4)
    return [found.get(epoch) for epoch in range(len(row.get("history") or []))] if found else []


def protocol(rows: Sequence[Row]) -> str:
    """How a number came about, in words."""
    rules = sorted({str(row["selection_rule"]) for row in rows if row.get("selection_rule")})
    rule = f" The epoch: {'; '.join(rules)}." if rules else ""
    tracked = any(row.get("track_test") for row in rows)
    tested = "after every epoch, which selects nothing" if tracked else "once"
    return (
        "Training and validation images come from the target's training split; smaller sets are "
        f"prefixes of larger ones and the same for every method of a seed.{rule} The test split is "
        f"evaluated {tested}. The interval of a mean is "
        "Student's t over seeds alone: of two or three it can be very wide or, by chance, very "
        "narrow. Methods are compared in pairs by seed at p < 0.05, Holm-corrected over the methods "
        "of one field (a target and data size, or a noise) and not over fields. A p-value accounts "
        "for the spread over seeds and, as a cautious floor, for the least sampling error that one "
        "run has on the test images, which all seeds share. A difference is quoted with its own, uncorrected "
        "95 % interval."
    )


def splits(shown: Sequence[Panel]) -> list[list[str]]:
    """Images of every target: classes, training, validation, test."""
    lines = {}
    for panel in shown:
        entries = [entry for entry in panel.entries.values() if entry.done]
        if entries and panel.place not in lines:
            spans = [
                _span([v for e in entries if (v := e.typical(key)) is not None])
                for key in ("num_classes", "n_train", "n_val", "n_test")
            ]
            lines[panel.place] = [panel.place, *spans]
    return list(lines.values())


def _span(values: Sequence[float]) -> str:
    """The range of some numbers."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def definitions(rows: Sequence[Row], given: Mapping[str, str]) -> list[tuple[str, str]]:
    """What each method is, where there are words for it."""
    words = {**DEFINITIONS, **given}
    names = sorted({str(row["method"]) for row in rows})
    return [(name, words[name]) for name in names if name in words]


def environment(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What the rows were made with; several values are all named."""
    fields = {
        "engine": "engine",
        "threads": "threads",
        "device": "device",
        "precision": "precision",
    }
    found = []
    for key, name in fields.items():
        values = sorted({str(row[key]) for row in rows if row.get(key) is not None})
        if values:
            found.append((name, ", ".join(values)))
    versions: dict[str, set[str]] = {}
    for row in rows:
        for package, version in (row.get("versions") or {}).items():
            versions.setdefault(str(package), set()).add(str(version))
    found += [(package, ", ".join(sorted(seen))) for package, seen in sorted(versions.items())]
    commits = versions_of_code(rows)
    return found + ([("code version", ", ".join(commits))] if commits else [])


def jsonable(value: Any) -> Any:
    """A value as JSON holds it: no NaN, no objects."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
