"""Scores are of the model's own classes; images come as PIL images or as files."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import tiny_part, tiny_source, tiny_task
from PIL import Image

import reprogram as rp
from reprogram.errors import InputError
from reprogram.evaluation import evaluate


@pytest.fixture(scope="module")
def model() -> rp.Reprogrammed:
    method, source = rp.get_method("none+first"), tiny_source()
    settings = method.resolve(source, native_size=8, n_train=1)
    return method.build(source, tiny_task().class_names, settings, torch.Generator()).eval()


def test_the_models_classes_in_another_order_are_refused(model: rp.Reprogrammed) -> None:
    with pytest.raises(rp.InputError, match="another order .colour_1, colour_0, colour_2; the mod"):
        rp.evaluate(model, tiny_task().select([1, 0, 2]).test)


def test_other_names_are_matched_by_their_order_with_a_warning(
    model: rp.Reprogrammed, caplog: pytest.LogCaptureFixture
) -> None:
    own = rp.evaluate(model, tiny_task().test)
    assert not caplog.records
    renamed = rp.TargetTask("renamed", ["red", "green", "blue"], {"test": lambda: tiny_part(30, 1)})
    with caplog.at_level(logging.WARNING):
        assert rp.evaluate(model, renamed.test).accuracy == own.accuracy
    assert "(red, green, blue; the model: colour_0, colour_1, colour_2)" in caplog.text


def test_classes_of_equal_names_are_counted_apart(model: rp.Reprogrammed) -> None:
    twice = copy.copy(model)
    twice.class_names = ("crane", "owl", "crane")
    assert list(evaluate(twice, tiny_task().test).class_accuracy) == ["crane", "owl", "crane (2)"]


def test_a_task_is_no_split(model: rp.Reprogrammed) -> None:
    with pytest.raises(rp.InputError, match="task.test, task.train or task.val"):
        rp.evaluate(model, tiny_task())


def test_images_are_predicted_from_files_and_one_by_one(
    model: rp.Reprogrammed, tmp_path: Path
) -> None:
    file = tmp_path / "cat.png"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8))
    image.save(file)
    several = rp.predict(model, [image, file, str(file)])
    assert several.shape == (3, 3) and torch.equal(several[0], several[2])
    for single in (image, file, str(file)):
        torch.testing.assert_close(rp.predict(model, single), several[:1])


def test_no_image_is_an_error(model: rp.Reprogrammed) -> None:
    with pytest.raises(InputError, match="one image or more"):
        rp.predict(model, [])
