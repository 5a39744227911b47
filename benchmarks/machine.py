"""Where the rows were measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.scale import Scale
from reprogram.environment import environment

__all__ = ["machine"]


def machine(scale: Scale) -> dict[str, Any]:
    """Device, processor, cores, versions, commit, sizes."""
    return environment(torch.device("cpu")) | {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "scale": vars(scale),
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for entry in info.read_text().splitlines():
            if entry.startswith("model name"):
                return entry.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
