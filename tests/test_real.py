"""On real images with real weights: what a user's first runs are, in small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import reprogram as rp
from reprogram.cli import run

pytestmark = pytest.mark.real


def test_evaluate_source_with_labels_of_the_sources_own_classes(
    shared: Path, real_npz: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The ImageNet sample has no training images: only the asked split is needed."""
    source = shared / "weights" / "squeezenet1_1-imagenet"
    words = ["evaluate-source", source, "--target", real_npz("imagenet-sample"), "--json"]
    assert run(list(map(str, words))) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["split"]) == (200, "test")
    # torchvision's own network on the same pixels names 132 of 200 (PROVENANCE.md notes 64.5%).
    assert found["accuracy"] == pytest.approx(0.66, abs=0.0051)


def test_a_prompt_beats_the_unprompted_mapping_on_usps(
    shared: Path, real_npz: Callable[[str], Path]
) -> None:
    source = rp.load_source(shared / "weights" / "resnet20-cifar10")
    task = rp.load_target(str(real_npz("usps")))
    common = {"train_pool": 500, "batch_size": 64, "epochs": 3, "progress": False}
    plain = rp.fit(source, task, "none+ilm", **common).record
    prompted = rp.fit(source, task, "smm+ilm", augment="none", **common).record
    assert prompted["n_test"] == 2007
    assert prompted["accuracy"] > plain["accuracy"] + 0.1


def test_tracks_of_gtsrb_stay_together(real_npz: Callable[[str], Path]) -> None:
    task = rp.load_target(str(real_npz("gtsrb")))
    from reprogram.data import plan_split

    train, val = plan_split(
        task.train.labels, task.train.groups, fraction=1.0, seed=0, val_share=0.1,
        train_pool=None, target_name=task.name,
    )  # fmt: skip
    groups = task.train.groups
    assert not set(groups[train]) & set(groups[val])
    assert len(val) == pytest.approx(0.1 * len(groups), rel=0.1)
