"""What an executor is: it runs jobs somewhere and tells what comes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reprogram.experiments.jobs import Context, Event, Job

__all__ = ["Executor", "Lost", "Report"]


@dataclass(frozen=True)
class Lost:
    """A job's worker ended without finishing it.

    Attributes:
        reason: How it ended.
        again: Whether the executor runs the job once more.
    """

    reason: str
    again: bool


@dataclass(frozen=True)
class Report:
    """Something that happened to a job: an event of it, its end (None), or its loss."""

    job: Job
    what: Event | Lost | None


class Executor(ABC):
    """Runs every job once, or again where its worker was lost.

    Args:
        workers: Jobs at a time.
        attempts: How often a job is started before it is given up.
    """

    def __init__(self, workers: int = 1, attempts: int = 3) -> None:
        self.workers, self.attempts = workers, attempts

    def lost(self, queue: deque[tuple[Job, int]], job: Job, attempt: int, reason: str) -> Report:
        """What is told of a job whose worker is lost; it goes back to the queue while it may."""
        again = attempt < self.attempts
        if again:
            queue.append((job, attempt + 1))
        return Report(job, Lost(reason, again))

    @abstractmethod
    def run(self, jobs: Sequence[Job], context: Context) -> Iterator[Report]:
        """Run the jobs; the caller may stop listening at any time, and the workers end then."""
