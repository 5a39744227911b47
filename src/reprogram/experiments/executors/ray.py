"""Jobs on a Ray cluster, local or remote (extra `ray`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from reprogram.errors import InputError
from reprogram.experiments.executors.base import Executor, Report
from reprogram.experiments.executors.remote import (
    context_for_nodes,
    files_of,
    reports_of,
    run_remotely,
)
from reprogram.experiments.jobs import Context, Event, Job

__all__ = ["RayExecutor"]


class RayExecutor(Executor):
    """One Ray task a job; its fit and rows come back one by one to this process, which writes them.

    Args:
        workers: Jobs at a time.
        attempts: How often a job is started before it is given up, a lost node included.
        address: Of the cluster ("auto", "ray://..."); None starts one on this machine.
        gpus: Share of a GPU that a job takes.
    """

    def __init__(
        self, workers: int = 1, attempts: int = 3, address: str | None = None, gpus: float = 0.0
    ) -> None:
        super().__init__(workers, attempts)
        self.address, self.gpus = address, gpus

    def run(self, jobs: Sequence[Job], context: Context) -> Iterator[Report]:
        ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            local = {} if self.address else {"num_cpus": self.workers * context.threads}
            ray.init(
                address=self.address, log_to_driver=False, include_dashboard=False,
                configure_logging=False, **local,
            )  # fmt: skip
        try:
            yield from self._run(ray, jobs, context)
        finally:
            if ours:
                ray.shutdown()

    def _run(self, ray: Any, jobs: Sequence[Job], context: Context) -> Iterator[Report]:
        # Retries are counted here, so that a lost node shows in the messages.
        task = ray.remote(
            num_cpus=context.threads, num_gpus=self.gpus, max_retries=0, num_returns="streaming",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(context.threads)}},
            # Shape checks would wrap a named function, and Ray not see that it is a generator.
        )(lambda *given: (yield from run_remotely(*given)))  # fmt: skip
        context = context_for_nodes(context)
        queue = deque((job, 1) for job in jobs)
        running: dict[Any, tuple[Job, int]] = {}
        try:
            while queue or running:
                while queue and len(running) < self.workers:
                    job, attempt = queue.popleft()
                    running[task.remote(job, context, files_of(job.directory))] = (job, attempt)
                    yield Report(job, Event(None, {}))
                (ready, *_), _ = ray.wait(list(running), num_returns=1)
                job, attempt = running[ready]
                try:
                    outcome = ray.get(next(ready))
                except StopIteration:
                    del running[ready]
                    yield Report(job, None)
                except ray.exceptions.RayTaskError as error:
                    raise error.as_instanceof_cause() from error
                except ray.exceptions.RayError as error:
                    del running[ready]
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    yield self.lost(queue, job, attempt, reason)
                else:
                    yield from reports_of(job, outcome)
        finally:
            for rows in running:
                ray.cancel(rows, force=True)


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise InputError(
            "--executor ray needs Ray: pip install 'reprogram[ray]', or use --executor process."
        ) from error
    return ray
