"""What runs on a machine that shares no disk with this one: a job in, events and files out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reprogram.experiments.executors.base import Report
from reprogram.experiments.jobs import Context, Event, Job, run_job
from reprogram.files import replacing

__all__ = ["Outcome", "reports_of", "run_remotely"]


@dataclass(frozen=True)
class Outcome:
    """Everything that a job made: its events and the files of its fit."""

    events: list[Event]
    files: dict[str, bytes]


def run_remotely(job: Job, context: Context) -> Outcome:
    """Run a job in a folder of its own, and return what it made."""
    events: list[Event] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "fit"
        here = replace(context, cache=Path(folder) / "cache")
        run_job(replace(job, directory=place), here, events.append)
        files = {path.name: path.read_bytes() for path in place.glob("*") if path.is_file()}
    return Outcome([event for event in events if event.key], files)


def reports_of(job: Job, outcome: Outcome) -> Iterator[Report]:
    """Put the files of a fit in place, and tell its events."""
    assert job.directory is not None
    # result.json says that a fit is whole, so it comes last.
    for name in sorted(outcome.files, key=lambda name: name == "result.json"):
        with replacing(job.directory / name) as temporary:
            temporary.write_bytes(outcome.files[name])
    yield from (Report(job, event) for event in outcome.events)
    yield Report(job, None)
