"""Jobs one after another in this process: for debugging, and for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from reprogram.experiments.executors.base import Executor, Report
from reprogram.experiments.jobs import Context, Event, Job, run_job

__all__ = ["InlineExecutor"]


class InlineExecutor(Executor):
    """No worker at all."""

    def run(self, jobs: Sequence[Job], context: Context) -> Iterator[Report]:
        threads = torch.get_num_threads()
        try:
            for job in jobs:
                yield Report(job, Event(None, {}))
                yield from (Report(job, event) for event in run_job(job, context))
                yield Report(job, None)
        finally:
            torch.set_num_threads(threads)
