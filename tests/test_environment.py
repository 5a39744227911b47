"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from reprogram.environment import resolve_device
from reprogram.errors import InputError


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_float32_means_float32_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert resolve_device(name) == torch.device("cuda")
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    "name, message", [("gpu", "unknown device 'gpu'"), ("cuda:7", "not available")]
)
def test_a_device_that_is_not_there(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=message):
        resolve_device(name)
