"""Jobs on a Slurm cluster through submitit (extra `slurm`)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reprogram.errors import InputError
from reprogram.experiments.executors.base import Executor, Report
from reprogram.experiments.executors.remote import (
    Outcome,
    context_for_nodes,
    files_of,
    reports_of,
    run_remotely,
)
from reprogram.experiments.jobs import Context, Event, Job

__all__ = ["SlurmExecutor"]


class SlurmExecutor(Executor):
    """One Slurm job a job, at most `workers` in the queue at a time.

    Rows and fit come back when a job ends: one that is lost before begins again from what was in
    the store.

    Args:
        workers: Slurm jobs at a time.
        attempts: How often a job is started before it is given up.
        folder: Where submitit keeps its files; the nodes must see it.
        cluster: "slurm", or "local" for processes on this machine (tests).
        parameters: submitit's own, such as {"slurm_partition": "gpu", "timeout_min": 120}.
        poll: Seconds between looks at the queue.
    """

    def __init__(
        self,
        workers: int = 1,
        attempts: int = 3,
        folder: Path = Path("slurm"),
        cluster: str = "slurm",
        parameters: dict[str, Any] | None = None,
        poll: float = 5.0,
    ) -> None:
        super().__init__(workers, attempts)
        self.folder, self.cluster, self.poll = folder, cluster, poll
        self.parameters = parameters or {}

    def run(self, jobs: Sequence[Job], context: Context) -> Iterator[Report]:
        executor = _import_submitit().AutoExecutor(folder=str(self.folder), cluster=self.cluster)
        executor.update_parameters(cpus_per_task=context.threads, **self.parameters)
        context = context_for_nodes(context)
        queue = deque((job, 1) for job in jobs)
        running: list[tuple[Any, Job, int]] = []
        try:
            while queue or running:
                while queue and len(running) < self.workers:
                    job, attempt = queue.popleft()
                    sent = executor.submit(_outcomes, job, context, files_of(job.directory))
                    running.append((sent, job, attempt))
                    yield Report(job, Event(None, {}))
                ended = [item for item in running if item[0].done()]
                if not ended:
                    time.sleep(self.poll)
                for item in ended:
                    running.remove(item)
                    yield from self._collect(*item, queue)
        finally:
            for submitted, _, _ in running:
                submitted.cancel()

    def _collect(
        self, submitted: Any, job: Job, attempt: int, queue: deque[tuple[Job, int]]
    ) -> Iterator[Report]:
        try:
            outcomes = submitted.result()
        except Exception as error:  # submitit wraps a preempted, lost or failed job
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}"
            yield self.lost(queue, job, attempt, reason)
            return
        for outcome in outcomes:
            yield from reports_of(job, outcome)
        yield Report(job, None)


def _outcomes(job: Job, context: Context, files: dict[str, bytes]) -> list[Outcome]:
    return list(run_remotely(job, context, files))


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--executor slurm needs submitit: pip install 'reprogram[slurm]', or use --executor "
            "process."
        ) from error
    return submitit
