"""CPU seconds, which other processes on the machine disturb less than they disturb time."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Meter", "cpu_seconds", "seconds_of"]

Meter = Callable[[], float]  # a reading that only grows: a clock, a count of operations


def seconds_of(run: Callable[[], object], clock: Meter) -> float:
    """Seconds that one call takes on a clock."""
    started = clock()
    run()
    return clock() - started


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU seconds that one call takes, of all threads of this process."""
    return seconds_of(run, time.process_time)
