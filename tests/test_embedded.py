"""The source that ships with the package: small, whole, and as good as its card says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reprogram.data import load_target, stratified_subset
from reprogram.source_training import evaluate_source
from reprogram.sources import embedded_directory, load_source, training_record


def test_it_is_small_and_describes_itself() -> None:
    directory = embedded_directory()
    assert (directory / "model.safetensors").stat().st_size < 700_000
    source = load_source("embedded")
    assert (source.num_classes, source.image_size) == (100, 32)
    record = training_record(directory)
    assert record["target"] == "cifar100" and record["num_test"] == 10_000
    assert record["test_accuracy"] >= 0.66
    card = (directory / "README.md").read_text()
    (printed,) = re.findall(r"\*\*(\d+\.\d\d) %\*\*", card)
    assert float(printed) == round(100 * record["test_accuracy"], 2)
    assert record["command"] in card and record["date"] in card


@pytest.mark.real
def test_its_card_holds_on_real_images(real_npz: Callable[[str], Path]) -> None:
    """On 1,000 of the 10,000 test images; 0.66 less three standard errors of 1.5 points."""
    test = load_target(str(real_npz("cifar100"))).test
    some = test.subset(stratified_subset(test.labels, 1_000, seed=0))
    assert len(np.unique(some.labels)) == 100
    assert evaluate_source(load_source("embedded"), some)["accuracy"] > 0.615


@pytest.mark.real
@pytest.mark.slow
def test_evaluate_source_prints_the_cards_figure(real_npz: Callable[[str], Path]) -> None:
    found = evaluate_source(load_source("embedded"), load_target(str(real_npz("cifar100"))).test)
    assert found["accuracy"] == training_record(embedded_directory())["test_accuracy"]
    assert found["n"] == 10_000
