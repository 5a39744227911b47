"""What `reprogram doctor` looks at."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from reprogram.data.roots import cache_dir, config_path, data_root
from reprogram.environment import versions
from reprogram.errors import InputError
from reprogram.sources import load_source

__all__ = ["check_up"]

# Extra -> its distributions, and what it is for.
EXTRAS = {
    "clip": (("open_clip_torch",), "extractors open_clip/NAME@TAG"),
    "corruptions": (("imagecorruptions-imaug",), "noise of ImageNet-C"),
    "data": (("datasets", "h5py"), "targets hf/NAME and pcam"),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "reprogram export --to onnx"),
    "ot": (("pot",), "reprogram distance --metrics otdd"),
    "ray": (("ray",), "reprogram bench run --executor ray"),
    "slurm": (("submitit",), "reprogram bench run --executor slurm"),
    "track": (("tensorboard",), "reprogram fit --track"),
}
MODULES = {  # of distributions that are imported under another name
    "imagecorruptions-imaug": "imagecorruptions", "open_clip_torch": "open_clip", "pot": "ot",
}  # fmt: skip


def check_up() -> list[dict[str, Any]]:
    """Findings in order: name, state ("ok" or "missing"), what was found, what mends it."""
    return [*_environment(), *_devices(), _embedded(), *_folders(), *_extras()]


def _finding(name: str, ok: bool, found: str, mend: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "state": "ok" if ok else "missing",
        "found": found,
        "mend": "" if ok else mend,
    }


def _environment() -> list[dict[str, Any]]:
    found = versions()
    system = f"{platform.system()} {platform.machine()}, Python {found['python']}"
    packages = ", ".join(f"{k} {v}" for k, v in found.items() if k != "python")
    return [_finding("system", True, system), _finding("packages", True, packages)]


def _devices() -> list[dict[str, Any]]:
    cpu = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    findings = [_finding("cpu", True, cpu)]
    if gpus:
        findings.append(_finding("cuda", True, ", ".join(gpus)))
    else:
        findings.append(
            _finding("cuda", False, "no GPU", "not needed; --device auto takes the CPU")
        )
    if torch.backends.mps.is_available():
        findings.append(_finding("mps", True, "available with --device mps"))
    return findings


def _embedded() -> dict[str, Any]:
    try:
        source = load_source("embedded")
    except InputError as error:
        return _finding(
            "embedded source", False, str(error), "pip install --force-reinstall reprogram"
        )
    return _finding(
        "embedded source", True,
        f"{source.num_classes} classes, {source.image_size} px, fingerprint {source.fingerprint[:12]}",
    )  # fmt: skip


def _folders() -> list[dict[str, Any]]:
    root, hub = data_root(), Path(torch.hub.get_dir()) / "checkpoints"
    weights = len(list(hub.glob("*.pth"))) if hub.is_dir() else 0
    mend = f"set REPROGRAM_DATA, or data_root in {config_path()}; --download fetches sets there"
    hf = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    free = shutil.disk_usage(_existing(cache_dir())).free / 2**30
    return [
        _finding("data root", root.is_dir(), str(root), mend),
        _finding(
            "torch weights", weights > 0, f"{weights} files in {hub}",
            "--download fetches them, --weights reads a file",
        ),
        _finding("hub cache", hf.is_dir(), str(hf), "made by the first timm/NAME --download"),
        _finding("resized images", True, f"{cache_dir()}, {free:.0f} GiB free"),
    ]  # fmt: skip


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _extras() -> list[dict[str, Any]]:
    findings = []
    for extra, (packages, use) in EXTRAS.items():
        missing = [p for p in packages if find_spec(MODULES.get(p, p)) is None]
        found = use if missing else f"{use} ({', '.join(f'{p} {_version(p)}' for p in packages)})"
        findings.append(
            _finding(f"extra {extra}", not missing, found, f'pip install "reprogram[{extra}]"')
        )
    return findings


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
