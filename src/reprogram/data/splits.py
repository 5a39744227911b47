"""Which images a run trains on, validates on and tests on: pure functions of labels and seeds.

The official training split gives a pool, the pool gives validation, and the rest gives training
sets whose fractions are nested. Validation depends on the target, the seed, the pool and the
validation share alone, so that methods and fractions are compared on the same images.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from reprogram.errors import InputError
from reprogram.seeds import seed_for

__all__ = ["TEST_SHARE", "check_fraction", "holdout_test", "plan_split", "stratified_subset"]

TEST_SHARE = 0.2  # of a set that has no test split


def plan_split(
    labels: Int[ndarray, " n"],
    groups: ndarray | None = None,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    val_share: float = 0.1,
    train_pool: int | None = None,
    target_name: str = "",
) -> tuple[Int[ndarray, " train"], Int[ndarray, " val"]]:
    """Positions of a run's training and validation images in the official training split.

    A set with a validation split of its own passes `val_share=0`.

    Args:
        labels: Classes of the official training split.
        groups: What must not be divided between training and validation, one per image.
        fraction: Of every class's training images, in (0, 1]; ceil(fraction * n_c) are taken.
        seed: Of the trial.
        val_share: Of the pool that goes to validation, in [0, 1).
        train_pool: Images of the official split that are used at all; None for all.
        target_name: Enters the seed.

    Returns:
        Ascending positions (train,) and (val,). Every class of the pool keeps a training image;
        a smaller fraction's images are among a larger one's.

    Raises:
        InputError: For a fraction, share or pool outside its range.

    >>> train, val = plan_split(np.repeat([0, 1], 10), fraction=0.5)
    >>> len(train), len(val)
    (10, 2)
    """
    _check_plan(len(labels), fraction, val_share, train_pool)
    rng = np.random.default_rng(seed_for("split", target_name, seed))
    order = rng.permutation(len(labels))
    if train_pool is not None:
        order = _stratified_prefix(labels, order, train_pool)
    kept, val = _hold_out(labels, groups, order, val_share, rng)
    train = [_of_class(labels, kept, c) for c in np.unique(labels[kept]).tolist()]
    # 1e-9: 0.07 * 100 is 7.000000000000001 in floating point, and means 7.
    taken = [mine[: math.ceil(fraction * len(mine) - 1e-9)] for mine in train]
    return np.sort(_joined(taken)), np.sort(val)


def holdout_test(
    labels: Int[ndarray, " n"], groups: ndarray | None = None
) -> tuple[Int[ndarray, " train"], Int[ndarray, " test"]]:
    """Positions of the training and test images of a set that has no test split.

    A fifth, stratified and by group; no name and no seed of a trial enters, so that a set keeps
    its test images wherever it lies.
    """
    rng = np.random.default_rng(seed_for("test split"))
    train, test = _hold_out(labels, groups, rng.permutation(len(labels)), TEST_SHARE, rng)
    return np.sort(train), np.sort(test)


def stratified_subset(labels: Int[ndarray, " n"], n: int, *, seed: int) -> Int[ndarray, " subset"]:
    """Ascending positions of exactly n images, every class in proportion (largest remainder).

    Args:
        labels: Classes of the images to choose from.
        n: How many to take, 1 to N.
        seed: From `seed_for`.

    Raises:
        InputError: For n outside 1 to N.

    >>> stratified_subset(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0).shape
    (3,)
    """
    if not 1 <= n <= len(labels):
        raise InputError(f"a subset takes 1 to {len(labels)} images here, got {n}.")
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(_stratified_prefix(labels, order, n))


def check_fraction(fraction: float, name: str = "data_fraction") -> None:
    """Refuse a share of the images outside (0, 1], by the name that the caller knows it by."""
    if not 0 < fraction <= 1:
        remedy = ". 1.0 uses every image that validation does not hold."
        if 1 < fraction <= 100:
            remedy = f": for {fraction:g} % write {fraction / 100:g}."
        raise InputError(f"{name} must be in (0, 1], got {fraction:g}{remedy}")


def _check_plan(n: int, fraction: float, val_share: float, train_pool: int | None) -> None:
    check_fraction(fraction)
    if not 0 <= val_share < 1:
        raise InputError(
            f"val_share must be in [0, 1), got {val_share}. 0 trains without validation."
        )
    if train_pool is not None and not 1 <= train_pool <= n:
        raise InputError(
            f"train_pool must be 1 to {n}, the images of the training split, got {train_pool}. "
            "Leave it out to use all."
        )


def _joined(parts: list[ndarray]) -> Int[ndarray, " n"]:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _of_class(labels: ndarray, order: ndarray, c: int) -> Int[ndarray, " n_c"]:
    """The positions of one class, in the given order."""
    return order[labels[order] == c]


def _stratified_prefix(labels: ndarray, order: ndarray, n: int) -> Int[ndarray, " n"]:
    """The first images of every class in an order, n in all, in that order."""
    classes, ranked, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    quotas = _quotas(counts, n, counts)
    rank = np.empty(len(order), np.int64)  # rank[i]: how many of its class come before i
    for c in range(len(classes)):
        rank[ranked == c] = np.arange(counts[c])
    return order[rank < quotas[ranked]]


def _quotas(counts: Int[ndarray, " c"], total: int, caps: Int[ndarray, " c"]) -> Int[ndarray, " c"]:
    """Shares of a total in proportion to counts, by largest remainder, none above its cap.

    >>> _quotas(np.array([5, 3, 2]), 5, np.array([5, 3, 2])).tolist()
    [3, 1, 1]
    """
    total = min(total, int(caps.sum()))
    exact = counts * total  # in units of 1 / counts.sum(), so that no rounding decides
    quotas = np.minimum(exact // counts.sum(), caps)
    by_remainder = np.argsort(-(exact % counts.sum()), kind="stable")
    while missing := total - int(quotas.sum()):
        takers = by_remainder[quotas[by_remainder] < caps[by_remainder]][:missing]
        quotas[takers] += 1
    return quotas


def _hold_out(
    labels: ndarray,
    groups: ndarray | None,
    order: ndarray,
    share: float,
    rng: np.random.Generator,
) -> tuple[ndarray, ndarray]:
    """Divide an order into what stays and a stratified share of it; every class keeps an image."""
    total = max(1, round(share * len(order))) if share > 0 and len(order) else 0
    if total == 0:
        return order, np.empty(0, np.int64)
    classes, ranked, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    mixed = rng.permutation(len(classes))  # equal remainders fall to no class in particular
    quotas = np.empty(len(classes), np.int64)
    quotas[mixed] = _quotas(counts[mixed], total, counts[mixed] - 1)
    if groups is None:
        held = np.zeros(len(order), bool)
        for c in range(len(classes)):
            held[np.flatnonzero(ranked == c)[: quotas[c]]] = True
    else:
        held = _whole_groups(ranked, groups[order], counts, quotas)
    return order[~held], order[held]


def _whole_groups(ranked: ndarray, groups: ndarray, counts: ndarray, quotas: ndarray) -> ndarray:
    """Which images to hold out so that no group is divided and quotas are met as near as can be.

    Groups are looked at in the order given. The first pass takes a group that brings its classes
    no farther from their quotas; the second, one that brings the total nearer to its own, for sets
    whose groups are larger than the quotas.

    Args:
        ranked: Class of each image, 0 to C - 1.
        groups: Group of each image.
        counts: Images of each class.
        quotas: Images of each class to hold out.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    sequence = np.argsort(first)
    rows = _group_tallies(member, ranked, len(first))
    held, taken = np.zeros(len(counts), np.int64), np.zeros(len(first), bool)

    def keeps_every_class(classes: ndarray, n: ndarray) -> bool:
        return bool((held[classes] + n < counts[classes]).all())

    for g in sequence:
        classes, n = rows[g]
        before = np.abs(quotas[classes] - held[classes]).sum()
        after = np.abs(quotas[classes] - held[classes] - n).sum()
        if after <= before and keeps_every_class(classes, n):
            held[classes] += n
            taken[g] = True
    for g in sequence:
        classes, n = rows[g]
        short = quotas.sum() - held.sum()
        if not taken[g] and abs(short - n.sum()) < abs(short) and keeps_every_class(classes, n):
            held[classes] += n
            taken[g] = True
    return taken[member]


def _group_tallies(
    member: ndarray, ranked: ndarray, num_groups: int
) -> list[tuple[ndarray, ndarray]]:
    """For each group its classes and how many images it has of each."""
    pairs, n = np.unique(np.stack([member, ranked]), axis=1, return_counts=True)
    bounds = np.searchsorted(pairs[0], np.arange(num_groups + 1))
    return [(pairs[1, a:b], n[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
