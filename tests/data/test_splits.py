"""The split rules of the design: what is held out, what is nested, what is the same for all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprogram.data.splits import holdout_test, plan_split, stratified_subset
from reprogram.errors import InputError


def labelled(counts: list[int]) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


counts_of_classes = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(sum)


@given(
    counts=counts_of_classes,
    seed=st.integers(0, 3),
    val_share=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    group_size=st.sampled_from([None, 1, 3, 7]),
)
def test_every_split_keeps_the_rules(
    counts: list[int], seed: int, val_share: float, group_size: int | None
) -> None:
    labels = labelled(counts)
    groups = None
    if group_size is not None:  # groups lie within a class or not, as chance has it
        groups = np.arange(len(labels)) // group_size
    fractions = (0.2, 0.4, 0.6, 0.8, 1.0)
    plans = [
        plan_split(labels, groups, fraction=f, seed=seed, val_share=val_share) for f in fractions
    ]
    validation = plans[0][1]
    full = plans[-1][0]
    for f, (train, val) in zip(fractions, plans, strict=True):
        assert np.array_equal(val, validation)  # the same for every fraction
        for c in np.unique(labels):
            n_c = int((labels[full] == c).sum())
            assert n_c >= 1  # validation never takes a class whole
            assert (labels[train] == c).sum() == math.ceil(round(f * n_c, 6))
    for (small, _), (large, _) in zip(plans, plans[1:], strict=False):
        assert set(small) <= set(large)
    assert sorted([*full, *validation]) == list(range(len(labels)))
    if groups is not None:
        assert not set(groups[full]) & set(groups[validation])
    if val_share == 0:
        assert len(validation) == 0


def test_validation_is_a_stratified_tenth() -> None:
    labels = labelled([100, 200, 50])
    _, val = plan_split(labels)
    assert np.bincount(labels[val]).tolist() == [10, 20, 5]


def test_validation_exists_when_a_tenth_of_every_class_is_less_than_half_an_image() -> None:
    _, val = plan_split(labelled([4] * 10))
    assert len(val) == 4


def test_rounding_does_not_add_an_image() -> None:
    labels = np.repeat([0, 1], 100)
    train, _ = plan_split(labels, fraction=0.07, val_share=0.0)
    assert np.bincount(labels[train]).tolist() == [7, 7]  # 0.07 * 100 > 7 in floating point


def test_seed_and_target_change_the_split_and_nothing_else_does() -> None:
    labels = labelled([50, 50])
    first = plan_split(labels, seed=1, target_name="a")
    assert all(map(np.array_equal, first, plan_split(labels, seed=1, target_name="a")))
    assert not np.array_equal(first[1], plan_split(labels, seed=2, target_name="a")[1])
    assert not np.array_equal(first[1], plan_split(labels, seed=1, target_name="b")[1])


def test_pool_is_stratified_and_validation_is_cut_from_it() -> None:
    labels = labelled([600, 300, 100])
    train, val = plan_split(labels, train_pool=100)
    both = np.concatenate([train, val])
    assert np.bincount(labels[both]).tolist() == [60, 30, 10]
    assert np.bincount(labels[val]).tolist() == [6, 3, 1]


def test_tracks_give_each_class_about_a_tenth() -> None:
    # As GTSRB: tracks of 30 frames, 7 to 40 tracks a class.
    tracks = [7, 10, 20, 40]
    labels = np.repeat(np.arange(4), [30 * n for n in tracks])
    groups = np.arange(len(labels)) // 30
    train, val = plan_split(labels, groups)
    share = np.bincount(labels[val], minlength=4) / np.bincount(labels)
    assert not set(groups[train]) & set(groups[val])
    assert ((0.07 < share) & (share < 0.15)).all()


def test_groups_larger_than_every_quota_still_give_a_validation() -> None:
    labels = np.repeat(np.arange(10), 20)
    groups = np.arange(200) // 10  # two groups of ten a class, where a tenth is two images
    train, val = plan_split(labels, groups)
    assert len(val) == 20
    assert not set(groups[train]) & set(groups[val])


def test_test_split_is_a_fifth_whatever_the_seed_of_numpy() -> None:
    labels = labelled([100, 50])
    train, test = holdout_test(labels)
    np.random.seed(123)
    assert np.array_equal(test, holdout_test(labels)[1])
    assert np.bincount(labels[test]).tolist() == [20, 10]
    assert sorted([*train, *test]) == list(range(150))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fraction": 0.0}, "data_fraction must be in"),
        ({"fraction": 1.01}, "data_fraction must be in"),
        ({"fraction": float("nan")}, "data_fraction must be in"),
        ({"val_share": 1.0}, "val_share must be in"),
        ({"val_share": -0.1}, "val_share must be in"),
        ({"train_pool": 0}, "train_pool must be 1 to 20"),
        ({"train_pool": 21}, "train_pool must be 1 to 20"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plan_split(np.repeat([0, 1], 10), **options)


@given(counts=counts_of_classes, share=st.floats(0, 1), seed=st.integers(0, 5))
def test_subset_has_exactly_n_images_in_proportion(
    counts: list[int], share: float, seed: int
) -> None:
    labels = labelled(counts)
    n = max(1, round(share * len(labels)))
    index = stratified_subset(labels, n, seed=seed)
    assert len(set(index)) == n
    for c, count in enumerate(counts):
        assert abs((labels[index] == c).sum() - n * count / len(labels)) < 1


def test_subset_of_a_sorted_split_holds_every_class() -> None:
    labels = np.repeat(np.arange(10), 1000)  # as CIFAR's test split lies in ../shared
    assert np.bincount(labels[stratified_subset(labels, 50, seed=0)]).tolist() == [5] * 10


def test_subset_larger_than_the_set_is_refused() -> None:
    with pytest.raises(InputError, match="1 to 3 images here, got 4"):
        stratified_subset(np.array([0, 1, 1]), 4, seed=0)
