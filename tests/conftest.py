"""What every test relies on: shape checks, seeds, Hypothesis profiles and the real image sets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Before anything imports these packages: no test goes online or opens a window.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("REPROGRAM_DATA", None)

import jaxtyping

# Shapes stand in the signatures and are checked in tests only. The hook rewrites modules as they
# are imported, so it comes before the first import of reprogram.
jaxtyping.install_import_hook("reprogram", "runtime_types.check")

import hypothesis
import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
hypothesis.settings.register_profile("dev", max_examples=25, deadline=None)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

# One thread: the same sums on every machine, and pytest -n gives each worker a core.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same global state, whatever ran before it."""
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and weights, which lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: real images and weights are absent")
    return SHARED


@pytest.fixture(scope="session")
def real_npz(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`real_npz("usps")` is the path of that set as .npz, unpacked once for the whole session."""
    unpack = shared / "data" / "unpack.py"
    base = tmp_path_factory.getbasetemp()
    # Under xdist each worker has a folder of its own in one that they share.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real"

    def path(name: str) -> Path:
        file = folder / f"{name}.npz"
        if not file.exists():
            if not unpack.is_file():
                pytest.skip(f"no {unpack.name} in ../shared/data: real images are absent")
            drawer = tmp_path_factory.mktemp("unpack")
            packed = "pacs" if name.startswith("pacs-") else name  # one file, four domains
            command = [sys.executable, str(unpack), str(drawer), packed]
            subprocess.run(command, check=True, capture_output=True)
            folder.mkdir(exist_ok=True)
            for made in drawer.iterdir():
                os.replace(made, folder / made.name)  # whole or absent for the other workers
        return file

    return path
