"""Jobs in worker processes on this machine; a worker that is killed is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from reprogram.experiments.executors.base import Executor, Report
from reprogram.experiments.jobs import Context, Event, Job, run_job
from reprogram.files import disk_full

__all__ = ["ProcessExecutor"]

_NUMBER_OF_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ProcessExecutor(Executor):
    """Worker slots: each holds a process, its pipe and the job it works on.

    Workers stay in the process group of their parent, and end when it does: each holds one end of a
    pipe whose other end nobody but the parent has, and leaves when that closes.
    """

    def run(self, jobs: Sequence[Job], context: Context) -> Iterator[Report]:
        queue = deque((job, 1) for job in jobs)
        slots = [_Slot(context) for _ in range(min(self.workers, len(jobs)))]
        try:
            while queue or any(slot.job for slot in slots):
                for slot in slots:
                    if slot.job is None and queue:
                        slot.start(*queue.popleft())
                        assert slot.job is not None
                        yield Report(slot.job, Event(None, {}))
                busy = {slot.pipe: slot for slot in slots if slot.job}
                for pipe in wait(list(busy)):
                    yield from self._hear(busy[pipe], queue)  # type: ignore[index]
        finally:
            for slot in slots:
                slot.close()

    def _hear(self, slot: _Slot, queue: deque[tuple[Job, int]]) -> Iterator[Report]:
        job = slot.job
        assert job is not None
        try:
            message = slot.pipe.recv()
        except (EOFError, OSError):
            yield self.lost(queue, job, slot.attempt, slot.bury())
            return
        if isinstance(message, OSError):  # no other cell would survive it either
            raise message
        if message is None:
            slot.job = None
        yield Report(job, message)


class _Slot:
    """One worker at a time and what it works on."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.job: Job | None = None
        self.attempt = 0
        self._spawn()

    def _spawn(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a forked torch may hang in its thread pool
        self.pipe, theirs = spawn.Pipe()
        watched, self._life = spawn.Pipe(duplex=False)
        self.process = spawn.Process(
            target=_work, args=(theirs, watched, self.context), daemon=True
        )
        with _environment({name: str(self.context.threads) for name in _NUMBER_OF_THREADS}):
            self.process.start()
        theirs.close()
        watched.close()

    def start(self, job: Job, attempt: int) -> None:
        self.job, self.attempt = job, attempt
        # A worker that is gone is found out when it is listened to.
        with contextlib.suppress(OSError):
            self.pipe.send(job)

    def bury(self) -> str:
        """Take a dead worker away and put a new one in its place; says how it ended."""
        self.process.join()
        code = self.process.exitcode or 0
        self.close()
        self.job = None
        self._spawn()
        if code >= 0:
            return f"its worker ended with exit code {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            hint = ", out of memory perhaps: --workers 1 needs less" if name == "SIGKILL" else ""
            return f"its worker was ended by {name}{hint}"
        return f"its worker was ended by signal {-code}"

    def close(self) -> None:
        self._life.close()  # an idle or busy worker leaves at once
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _work(pipe: Connection, watched: Connection, context: Context) -> None:
    """A worker: jobs in, events out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_leave_with, args=(watched,), daemon=True).start()
    from reprogram.allocator import keep_large_blocks

    keep_large_blocks()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = pipe.recv()
            try:
                for event in run_job(job, context, pipe.send):
                    pipe.send(event)
                pipe.send(None)
            except OSError as error:
                if not disk_full(error):
                    raise
                pipe.send(OSError(error.errno, error.strerror, error.filename))


def _leave_with(watched: Connection) -> None:
    """End this process, whatever it does, when the other end of a pipe is gone."""
    with contextlib.suppress(EOFError, OSError):
        watched.recv()
    os._exit(1)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables that a process started within sees."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
