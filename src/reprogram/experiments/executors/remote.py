"""What runs on a machine that shares no disk with this one: a job and files in, rows and files out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reprogram.data.roots import data_root
from reprogram.experiments.executors.base import Report
from reprogram.experiments.jobs import Context, Event, Job, run_job
from reprogram.files import disk_full, replacing

__all__ = ["Outcome", "context_for_nodes", "files_of", "reports_of", "run_remotely"]


@dataclass(frozen=True)
class Outcome:
    """A part of what a job made.

    Attributes:
        what: The row of a cell; the full disk that ended the job.
        files: Those of its fit that are new, by name.
    """

    what: Event | OSError
    files: dict[str, bytes]


def context_for_nodes(context: Context) -> Context:
    """The context with the data root of this machine's environment and config, which nodes lack."""
    return replace(context, data_root=data_root(context.data_root).absolute())


def files_of(directory: Path | None) -> dict[str, bytes]:
    """The files of a fit that is there, whole or unfinished: what a job needs not do again."""
    paths = directory.glob("[!.]*") if directory else ()
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def run_remotely(job: Job, context: Context, files: dict[str, bytes]) -> Iterator[Outcome]:
    """Run a job in a folder of its own that begins with `files`; the fit comes with its first row."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "fit"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        here = replace(context, cache=Path(folder) / "cache")
        known = files
        try:
            for event in run_job(replace(job, directory=place), here):
                made = files_of(place)
                yield Outcome(event, {k: v for k, v in made.items() if known.get(k) != v})
                known = made
        except OSError as error:
            if not disk_full(error):
                raise
            yield Outcome(OSError(error.errno, error.strerror, error.filename), {})


def reports_of(job: Job, outcome: Outcome) -> Iterator[Report]:
    """Put the files of a fit in place, and tell the row that came with them.

    Raises:
        OSError: The disk is full, there or here.
    """
    if isinstance(outcome.what, OSError):
        raise outcome.what
    assert job.directory is not None
    # result.json says that a fit is whole, so it comes last.
    for name in sorted(outcome.files, key=lambda name: name == "result.json"):
        with replacing(job.directory / name) as temporary:
            temporary.write_bytes(outcome.files[name])
    if "result.json" in outcome.files:
        (job.directory / "checkpoint.pt").unlink(missing_ok=True)
    yield Report(job, outcome.what)
