"""TargetTask and Split: lazy splits, selected classes, missing classes, fingerprints."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from reprogram.data import TargetTask
from reprogram.data.images import ArrayStore, DatasetStore
from reprogram.data.resized import DEFAULT_MAX_MEMORY
from reprogram.data.selection import class_indices, compact, split_selection
from reprogram.data.task import Part
from reprogram.errors import InputError

NAMES = ("cat", "dog", "owl", "emu")


def part(labels: list[int]) -> Callable[[], Part]:
    """Images whose grey is their class."""
    array = np.array(labels, dtype=np.int64)
    pixels = np.repeat(array, 16).reshape(len(labels), 4, 4).astype(np.uint8)
    return lambda: Part(ArrayStore(pixels), array)


def task(train: list[int], test: list[int] | None = None) -> TargetTask:
    parts = {"train": part(train)} | ({"test": part(test)} if test is not None else {})
    return TargetTask("pets", NAMES, parts)


def never() -> Part:
    raise AssertionError("read a split that nobody asked for")


def test_only_the_asked_split_is_read() -> None:
    lazy = TargetTask("pets", NAMES, {"train": never, "test": part([0, 1, 2, 3])})
    assert len(lazy.test) == 4
    assert len(lazy.select("dog,owl").test) == 2
    assert lazy.has("train") and not lazy.has("val")


def test_absent_and_unknown_splits_are_named() -> None:
    with pytest.raises(InputError, match="no val split. It has: train"):
        _ = task([0, 1, 2, 3]).val
    with pytest.raises(InputError, match="unknown split 'tset'. Did you mean test"):
        task([0, 1, 2, 3]).split("tset")


def test_selected_classes_are_relabelled_in_the_order_given() -> None:
    chosen = task([0, 1, 2, 3, 1, 0]).select("owl,0-1")
    assert chosen.class_names == ("owl", "cat", "dog")
    assert chosen.train.labels.tolist() == [1, 2, 0, 2, 1]
    greys = chosen.train.images(4)[:, 0, 0, 0]
    assert greys.tolist() == [0, 1, 2, 1, 0]  # the grey is the class in the whole task
    assert chosen.train.image(2).getpixel((0, 0)) == (2, 2, 2)


def test_one_selection_has_one_name() -> None:
    whole = task([0, 1, 2, 3])
    names = {whole.select(c).name for c in ("0-2", "cat,dog,owl", "0,1,2", "cat, 1-2")}
    assert names == {"pets[0-2]"}


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ("cta,dog", "unknown class of pets 'cta'. Did you mean cat"),
        ("0-9", "a range goes upwards within 0 to 3"),
        ("2-1", "a range goes upwards within 0 to 3"),
        ("7,cat", "Indices are 0 to 3"),
        ("cat,0", "names class 0 twice"),
        ("dog", "must name two classes at least"),
        ("", "unknown class"),
    ],
)
def test_bad_selections_are_named(classes: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        task([0, 1, 2, 3]).select(classes)


def test_number_that_is_an_index_and_another_class_is_ambiguous() -> None:
    names = ["0", "1", "10", "2"]  # folders in alphabetical order
    with pytest.raises(InputError, match="2-2 for the index, 3-3 for the name"):
        class_indices("2,0", names, "pages")
    assert class_indices("10,0", names, "pages") == [2, 0]
    assert class_indices("2-2,3-3", names, "pages") == [2, 3]
    assert class_indices([2, 3], names, "pages") == [2, 3]


def test_duplicate_class_name_needs_an_index() -> None:
    with pytest.raises(InputError, match="classes 0, 1 have this name"):
        class_indices("crane,owl", ["crane", "crane", "owl"], "birds")


def test_selection_is_spelled_back() -> None:
    assert split_selection("a[b][0-3]") == ("a[b]", "0-3")
    assert compact([3, 4, 5, 0, 9]) == "3-5,0,9"


def test_class_without_images_is_warned_of_once_and_keeps_its_column(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sparse = task([0, 2, 2, 0], test=[0, 1, 2, 3])
    with caplog.at_level(logging.WARNING):
        assert sparse.train.num_classes == 4
        _ = sparse.train
        _ = sparse.test
    assert [record.getMessage() for record in caplog.records] == [
        "target pets: 2 of 4 classes have no train images and keep their columns: dog, emu"
    ]


def test_selection_warns_of_its_own_classes_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _ = task([0, 2, 2, 0]).select("cat,owl").train
    assert caplog.records == []


def test_split_without_images_is_an_error() -> None:
    with pytest.raises(InputError, match=r"pets\[0-1\]' has no test images"):
        _ = task([0, 1, 2, 3], test=[2, 3]).select("0-1").test


@pytest.mark.parametrize("labels", [[0, 4], [-1, 2]])
def test_labels_out_of_range_are_refused(labels: list[int]) -> None:
    with pytest.raises(InputError, match="train labels must be 0 to 3"):
        _ = task(labels).train


def test_one_class_is_no_task() -> None:
    with pytest.raises(InputError, match="a classifier needs two"):
        TargetTask("pets", ["cat"], {"train": part([0])})


def test_subset_has_the_images_labels_and_groups_at_its_positions() -> None:
    whole = TargetTask(
        "pets", NAMES, {"train": lambda: part([0, 1, 2, 3])()._replace(groups=np.arange(4) * 10)}
    ).train
    some = whole.subset([3, 1])
    assert some.labels.tolist() == [3, 1]
    assert some.groups is not None and some.groups.tolist() == [30, 10]
    alone = some.images(8)
    assert alone[:, 0, 0, 0].tolist() == [3, 1]
    assert torch.equal(alone, whole.images(8)[[3, 1]])
    assert torch.equal(whole.subset([3, 1]).images(8), alone)  # from what the whole has resized
    assert some.subset([1]).labels.tolist() == [1]


def test_native_size_is_that_of_images_of_all_classes() -> None:
    assert task([0, 1, 2, 3]).native_size == 4
    few = [np.zeros((30, 30, 3), np.uint8)] * 10  # a class of buttons before two of cars
    many = [np.zeros((300, 400, 3), np.uint8)] * 90
    store = DatasetStore([*few, *many], "images", Image.fromarray)
    parts = {"train": lambda: Part(store, np.repeat([0, 1], [10, 90]))}
    assert TargetTask("x", NAMES, parts).native_size == 400
    assert TargetTask("x", NAMES, {"train": never}, native_size=99).native_size == 99


def test_fingerprint_sees_names_labels_images_and_selection() -> None:
    base = task([0, 1, 2, 3], test=[0, 1])
    same = task([0, 1, 2, 3], test=[0, 1])
    assert base.fingerprint == same.fingerprint and len(base.fingerprint) == 64
    renamed = TargetTask("pets", ("cat", "dog", "owl", "ox"), {"train": part([0, 1, 2, 3])})
    others = [task([0, 1, 2, 3]), task([0, 1, 3, 2], test=[0, 1]), renamed, base.select("0-1")]
    others.append(base.select("1,0"))
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_memory_limit_reaches_the_splits_of_a_selection() -> None:
    assert task([0, 1, 2, 3]).max_memory == DEFAULT_MAX_MEMORY
    small = TargetTask("pets", NAMES, {"train": part([0, 1, 2, 3])}, max_memory=7)
    assert small.select("0-1").max_memory == 7
