"""Statistics against numbers worked out by hand and against scipy's own tests."""

from __future__ import annotations

import math

import pytest
import scipy.stats

from reprogram.errors import InputError
from reprogram.statistics import compare, holm, paired_difference, summarise


def test_interval_by_hand():
    # mean 0.92, s = 0.02, t(0.975, 2) = 4.302653, half width = 4.302653 * 0.02 / sqrt(3)
    summary = summarise([0.90, 0.92, 0.94])
    assert summary.n == 3
    assert summary.mean == pytest.approx(0.92)
    assert summary.half_width == pytest.approx(0.0496828, abs=1e-6)


def test_two_runs_have_a_wide_interval():
    # s = 0.01 * sqrt(2), t(0.975, 1) = 12.7062
    assert summarise([0.5, 0.52]).half_width == pytest.approx(12.7062 * 0.01, rel=1e-5)


def test_one_run_has_no_interval():
    assert summarise([0.7]) == summarise((0.7,))
    assert summarise([0.7]).half_width is None
    with pytest.raises(InputError, match="at least one value"):
        summarise([])


def test_pairs_are_formed_by_seed():
    first = {2: 0.92, 0: 0.90, 1: 0.94, 9: 0.1}
    second = {0: 0.80, 1: 0.83, 2: 0.83}
    difference, p = paired_difference(first, second)
    expected = scipy.stats.ttest_rel([0.90, 0.94, 0.92], [0.80, 0.83, 0.83])
    assert difference is not None and difference.n == 3
    assert difference.mean == pytest.approx(0.1)
    assert p == pytest.approx(expected.pvalue)


def test_equal_differences_are_as_uncertain_as_the_test_images_allow():
    first, second = {0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25}
    difference, p = paired_difference(first, second, images=100)
    # d = 0.25: sqrt(0.25 * 0.75 / 100) = 0.0433, t(0.975, 1) = 12.706
    assert difference is not None and difference.mean == 0.25
    assert difference.half_width == pytest.approx(12.7062 * 0.0433013, rel=1e-4)
    assert p == pytest.approx(2 * scipy.stats.t.sf(0.25 / 0.0433013, 1), rel=1e-4)
    assert p > 0.05  # two equal differences resolve nothing
    assert paired_difference(first, second)[1] == 1.0  # no spread at all: nothing to test with
    assert paired_difference(first, first, images=100)[1] == 1.0


def test_seeds_do_not_average_out_the_test_images():
    def error(seeds: int) -> float:
        second = {seed: 0.5 + 0.0001 * (seed % 2) for seed in range(seeds)}
        difference, _ = paired_difference(dict.fromkeys(range(seeds), 0.6), second, images=1000)
        assert difference is not None and difference.half_width is not None
        return difference.half_width / scipy.stats.t.ppf(0.975, seeds - 1)

    # Ten times the seeds, the same images: sqrt(0.1 * 0.9 / 1000).
    assert error(4) == pytest.approx(error(40)) == pytest.approx(0.0094868, rel=1e-3)


def test_a_spread_above_the_bound_stays_as_it_is():
    first, second = {0: 0.90, 1: 0.94, 2: 0.92}, {0: 0.80, 1: 0.83, 2: 0.83}
    assert paired_difference(first, second, images=1e6) == paired_difference(first, second)


def test_a_single_pair_resolves_nothing():
    difference, p = paired_difference({0: 0.9}, {0: 0.1})
    assert difference is not None and p is None
    assert paired_difference({0: 0.9}, {1: 0.1}) == (None, None)


def test_holm_by_hand():
    # sorted 0.005, 0.011, 0.02, 0.04 times 4, 3, 2, 1 = 0.02, 0.033, 0.04, 0.04
    corrected = holm([0.04, 0.005, 0.02, 0.011])
    assert corrected == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_correction_can_undo_a_difference():
    best = {0: 0.900, 1: 0.910, 2: 0.920}
    near = {0: 0.890, 1: 0.902, 2: 0.905}  # p = 0.037 by itself
    far = {0: 0.10, 1: 0.12, 2: 0.11}
    alone = compare("best", {"best": best, "near": near})
    among = compare("best", {"best": best, "near": near, "near2": dict(near), "far": far})
    assert alone[0].resolved and alone[0].p_value is not None and alone[0].p_value < 0.05
    assert [c.resolved for c in among] == [False, False, True]
    assert all(math.isfinite(c.p_value) for c in among if c.p_value is not None)
