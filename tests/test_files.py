"""Files are whole or absent: after a power cut, and on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from reprogram import files
from reprogram.errors import InputError
from reprogram.files import disk_full, refuse_foreign, replacing, write_text


def test_a_file_is_on_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the rename would otherwise leave an empty file under the final name."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(handle: int) -> None:
        done.append("directory" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def renamed(a: Path, b: Path) -> None:
        done.append("name")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "new" / "x", "text")
    kinds = ["file", "name", "directory"] if Path("/proc/self/fd").exists() else ["file", "name"]
    assert done[: len(kinds)] == kinds
    assert (tmp_path / "new" / "x").read_text() == "text"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_that_torch_does_not_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save() -> None:
        with replacing(tmp_path / "state.pt"):
            torch.save({"a": torch.zeros(100_000)}, "/dev/full")

    with pytest.raises(RuntimeError):  # there is room: the writer's own error stays
        save()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(files, "_probed", lambda folder: full)
    with pytest.raises(OSError, match="No space left") as found:
        save()
    assert disk_full(found.value) and "state.pt" in str(found.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_behind_other_errors() -> None:
    for number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        try:
            try:
                raise OSError(number, "full")
            except OSError as error:
                raise ValueError("cannot write") from error
        except ValueError as error:
            found = disk_full(error)
            assert found is not None and found.errno == number
    assert disk_full(OSError(errno.EACCES, "denied")) is None


def test_hidden_files_scripts_and_logs_are_nobody_s(tmp_path: Path) -> None:
    for name in (".gitkeep", "train.log", "config.py"):
        (tmp_path / name).touch()
    refuse_foreign(tmp_path, ("grid.json",), "grid")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="is not empty and holds no grid"):
        refuse_foreign(tmp_path, ("grid.json",), "grid")
    with pytest.raises(InputError, match="is a file"):
        refuse_foreign(tmp_path / "photo.jpg", (), "grid")
