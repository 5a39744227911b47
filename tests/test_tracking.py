"""TensorBoard gets every state's losses and accuracies."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprogram.errors import InputError
from reprogram.tracking import tensorboard
from reprogram.training import Epoch, Score


def test_scalars_of_every_state(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra track is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard(tmp_path) as log:
        log(Epoch(0, None, Score(0.25, 1.5, 8)))
        log(Epoch(1, 1.25, Score(0.5, 1.0, 8), Score(0.375, 1.1, 16)))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("accuracy/val")] == [(0, 0.25), (1, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("accuracy/test")] == [(1, 0.375)]
    assert [e.step for e in events.Scalars("loss/train")] == [1]


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"reprogram\[track\]"), tensorboard(tmp_path):
        pass
