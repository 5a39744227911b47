"""Where a result was made: device, threads, versions, code."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from reprogram.errors import InputError

__all__ = ["environment", "git_sha", "peak_memory", "reset_peak_memory", "resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is cuda where there is one, else cpu.

    Raises:
        InputError: The device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {name!r}. Available: auto, cpu, cuda, cuda:N, mps."
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }.get(device.type, False)
    if device.type == "cuda":
        present = present and (device.index or 0) < torch.cuda.device_count()
        # A row that says float32 means it: TF32 rounds a convolution's inputs to 10 bits.
        torch.backends.cudnn.allow_tf32 = False
    if not present:
        raise InputError(f"device {name!r} is not available on this machine. Use --device auto.")
    return device


@functools.cache
def git_sha() -> str | None:
    """Commit of the checkout that this package is imported from; None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        run = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        tracked = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", __file__],
            capture_output=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() if tracked.returncode == 0 else None


@functools.cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("reprogram", "torch", "torchvision", "timm", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def environment(device: torch.device) -> dict[str, Any]:
    """What a row says about where it was made."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "versions": dict(versions()),
        "git_sha": git_sha(),
    }


def peak_memory() -> int | None:
    """Largest resident memory of this process since `reset_peak_memory`, bytes; None if unknown."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def reset_peak_memory() -> None:
    """Count from now on, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
