"""Peak memory of one side of a row, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from reprogram.errors import InputError

__all__ = ["peak_of", "print_peak", "resident_mib"]

ROOT = Path(__file__).resolve().parents[1]


def peak_of(module: str, *arguments: object) -> float:
    """MiB that `python -m MODULE ARGUMENTS` prints by :func:`print_peak`."""
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def print_peak(run: Callable[[], object]) -> None:
    """Print the MiB by which this process's peak while it runs exceeds its size after import."""
    torch.set_num_threads(1)
    before = resident_mib("VmRSS")
    run()
    print(resident_mib("VmHWM") - before)


def resident_mib(field: str) -> float:
    """VmRSS (resident size) or VmHWM (its peak) of this process.

    Where the system has no /proc, the peak so far stands for both.

    Raises:
        InputError: The system tells neither.
    """
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would start at the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError as error:
        raise InputError("this system does not tell a process's peak memory.") from error
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
