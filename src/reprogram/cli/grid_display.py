"""What people see of a grid: bars while it runs, and lines about its cells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprogram.experiments.bench import GridProgress
    from reprogram.experiments.estimate import Estimate
    from reprogram.experiments.results import Entry

__all__ = [
    "bars", "cell_count", "cost_lines", "counts_line", "duration", "plan_lines", "rate_lines",
    "status_lines",
]  # fmt: skip


@contextmanager
def bars(quiet: bool) -> Iterator[Callable[[GridProgress], None]]:
    """One bar for the grid, and a line for each job that runs."""
    from reprogram.progress import bar

    with bar(quiet, "{task.fields[note]}") as progress:
        whole = progress.add_task("cells", total=None, note="")
        lines: dict[str, Any] = {}

        def show(state: GridProgress) -> None:
            done = sum(state.counts.values())
            failed = state.counts["failed"]
            left = "" if state.estimate is None else f"  about {duration(state.estimate)} left"
            progress.update(
                whole, total=state.total, completed=done,
                note=f"{done}/{state.total}" + (f"  {failed} failed" if failed else "") + left,
            )  # fmt: skip
            for fit in [fit for fit in lines if fit not in state.running]:
                progress.remove_task(lines.pop(fit))
            for fit, job in state.running.items():
                if fit not in lines:
                    lines[fit] = progress.add_task(job["job"], total=None, note="")
                if "epoch" in job:
                    progress.update(
                        lines[fit], total=job["epochs"], completed=job["epoch"],
                        note=f"epoch {job['epoch']}/{job['epochs']}  loss {job['loss']:.2f}",
                    )  # fmt: skip

        yield show


def plan_lines(cost: Estimate, cells: int, todo: int, workers: int, threads: int) -> list[str]:
    """What a grid will take of time and disk, as if its caches were empty."""

    def count(n: int, what: str) -> str:
        return f"{n} {what}{'' if n == 1 else 's'}"

    return [
        f"{cell_count(cells)}, {todo} to run:   about {duration(cost.seconds / workers)} with "
        f"{count(workers, 'worker')} of {count(threads, 'thread')}",
        f"disk: {cost.bytes / 1e6:,.1f} MB of fitted models, {cost.feature_bytes / 1e6:,.1f} MB of "
        f"stored features, {cost.noise_bytes / 1e6:,.1f} MB of noisy images"
        + (f" made in {duration(cost.noise_seconds)}" if cost.noise_bytes else ""),
    ]


def rate_lines(document: dict[str, Any]) -> list[str]:
    """A line for each pair and method: its factor, what each gave, what gave nothing and why."""

    def words(row: dict[str, Any]) -> str:
        return f"  {row['source']} -> {row['target']}  {row['method']:<16} "

    lines = []
    for row in document["rates"]:
        tried = "".join(f"   x{f} {100 * v:.1f} %" for f, v in row["val_accuracy"].items())
        broken = "".join(f"   x{f} failed: {why}" for f, why in row.get("broken", {}).items())
        lines.append(f"{words(row)}x {row['factor']:<4g}{tried}{broken}")
    for row in document.get("not_chosen", []):
        lines.append(f"{words(row)}no rate: {row['reason']}")
    return lines


def cost_lines(entries: list[Entry], costs: dict[tuple[str, str, str], Any]) -> list[str]:
    """A line for each method of each pair: cells, milliseconds an image."""
    counts: dict[tuple[str, str, str], int] = {}
    for entry in entries:
        place = (entry.cell.source, entry.cell.target, entry.cell.method)
        counts[place] = counts.get(place, 0) + 1
    wide = max((len(" -> ".join(p[:2])) for p in costs), default=0)
    return [
        f"  {' -> '.join(p[:2]):<{wide}}  {p[2]:<16} {cell_count(counts[p]):>11}   "
        f"ms an image: {1e3 * c.step:8.3f} of a training step, {1e3 * c.look:7.3f} of a forward pass"
        f"{', stored' if c.stored else ''}"
        for p, c in sorted(costs.items())
    ]


def cell_count(n: int) -> str:
    """A number of cells.

    >>> cell_count(1), cell_count(20)
    ('1 cell', '20 cells')
    """
    return f"{n} cell" if n == 1 else f"{n} cells"


def status_lines(found: dict[str, Any]) -> list[str]:
    """How a grid stands: its counts, what runs, what went wrong and why."""
    from reprogram.experiments import Cell

    lines = [counts_line(found)]
    if found["active"]:
        left, heard = found["seconds_left"], found["time"]
        lines.append(
            ("choosing rates" if found["tuning"] else "running")
            + (f", about {duration(left)} left" if left is not None else "")
            + (f" ({duration(max(time.time() - heard, 0.0))} ago)" if heard else "")
        )
        lines += [f"  {_job_line(job)}" for job in found["running"]]
    return lines + [
        f"  {b['status']}: {Cell.from_dict(b['cell']).words}: {b['reason']}"
        for b in found["broken"]
    ]


def counts_line(found: dict[str, Any]) -> str:
    """How many cells are done, and what became of the others."""
    parts = [f"{found['done']} of {cell_count(found['total'])} done"]
    parts += [f"{found[k]} {k}" for k in ("failed", "skipped", "missing") if found[k]]
    return "   ".join(parts)


def _job_line(job: dict[str, Any]) -> str:
    epoch = (
        f"  epoch {job['epoch']}/{job['epochs']}  loss {job['loss']:.2f}" if "epoch" in job else ""
    )
    return job["job"] + epoch


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> duration(42), duration(754), duration(7500)
    ('42 s', '13 min', '2 h 5 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
