"""Distances of data sets: closed forms, slow oracles, identities, intervals that cover."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from cases import tiny_source, tiny_task
from reference_distances import slow_frechet, slow_mmd, slow_otdd
from scipy.stats import wasserstein_distance

from reprogram.analysis.distance import (
    DISTANCES,
    Sample,
    fid_against_n,
    fid_warning,
    frechet,
    gaussian_kl,
    kid,
    measure,
    median_bandwidth,
    mmd,
    otdd,
    proxy_a,
    sample_features,
    sliced_wasserstein,
    two_samples,
)
from reprogram.errors import InputError

FEATURES_ONLY = {
    "fid": frechet, "kid": kid, "mmd": mmd, "sliced-wasserstein": sliced_wasserstein,
    "proxy-a": proxy_a,
}  # fmt: skip


def normal(n: int, d: int, seed: int = 0, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, std, (n, d))


def with_moments(n: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Rows whose sample mean and covariance are exactly these."""
    raw = normal(n, len(mean))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def sample(n: int = 40, d: int = 3, seed: int = 0, mean: float = 0.0) -> Sample:
    return Sample(normal(n, d, seed, mean), np.arange(n) % 2)


# Gaussians


def test_frechet_of_commuting_gaussians_has_its_closed_form() -> None:
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    x = with_moments(50, np.zeros(3), np.diag(a))
    y = with_moments(60, np.array([3.0, 0.0, 4.0]), np.diag(b))
    assert frechet(x, y) == pytest.approx(25 + ((a**0.5 - b**0.5) ** 2).sum(), rel=1e-10)


@pytest.mark.parametrize("n", [6, 200])  # fewer images than features, and more
def test_frechet_equals_the_matrix_square_root(n: int) -> None:
    x, y = normal(n, 10, 0), normal(n, 10, 1, 0.5) @ normal(10, 10, 2)
    # sqrtm of the singular product of covariances is good to the root of the rounding only.
    assert frechet(x, y) == pytest.approx(slow_frechet(x, y), rel=1e-10 if n > 10 else 1e-5)


def test_gaussian_kl_has_its_closed_form_and_a_direction() -> None:
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = with_moments(50, np.array([1.0, -2.0]), np.eye(2))
    y = with_moments(50, np.zeros(2), covariance)
    inverse = np.linalg.inv(covariance)
    shift = np.array([1.0, -2.0])
    expected = (
        np.trace(inverse) + shift @ inverse @ shift - 2 + np.log(np.linalg.det(covariance))
    ) / 2
    assert gaussian_kl(x, y, ridge=0.0) == pytest.approx(expected, rel=1e-10)
    assert gaussian_kl(y, x, ridge=0.0) != pytest.approx(expected, rel=1e-2)


def test_gaussian_kl_needs_its_ridge_below_d_images() -> None:
    x, y = normal(8, 20, 0), normal(8, 20, 1)
    assert np.isfinite(gaussian_kl(x, y))
    with pytest.raises(InputError, match="covariance of the 20 features is singular"):
        gaussian_kl(np.zeros((8, 20)), np.zeros((8, 20)))


# Kernels


def test_kid_and_mmd_equal_the_double_loop() -> None:
    x, y = normal(9, 4, 0), normal(7, 4, 1, 1.0)
    assert kid(x, y) == pytest.approx(slow_mmd(x, y, lambda a, b: (a @ b / 4 + 1) ** 3), rel=1e-12)
    sigma = median_bandwidth(x, y)
    slow = slow_mmd(x, y, lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * sigma**2)))
    assert mmd(x, y) == pytest.approx(slow, rel=1e-12)


def test_the_bandwidth_sees_all_of_a_set_that_lies_class_after_class() -> None:
    x = np.repeat(10.0 * np.arange(4), 600)[:, None] + normal(2400, 1, 0)
    shuffled = np.random.default_rng(0).permutation(x)
    assert median_bandwidth(x, x) == pytest.approx(median_bandwidth(shuffled, shuffled), rel=0.1)


def test_mmd_is_unbiased_for_its_closed_form() -> None:
    """E k(x, y) = s / sqrt(s^2 + 2) exp(-m^2 / 2(s^2 + 2)) for unit Gaussians at a distance m."""
    s, m = 0.8, 0.5
    inner = s / np.sqrt(s**2 + 2)
    expected = 2 * inner * (1 - np.exp(-(m**2) / (2 * (s**2 + 2))))
    drawn = [mmd(normal(30, 1, k), normal(30, 1, 1000 + k, m), s) for k in range(200)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert np.mean(drawn) == pytest.approx(expected, abs=4 * error)


def test_kid_is_unbiased_where_two_sets_are_alike() -> None:
    drawn = np.array([kid(normal(20, 3, k), normal(20, 3, 1000 + k)) for k in range(200)])
    assert abs(drawn.mean()) < 4 * drawn.std() / np.sqrt(len(drawn))
    assert (drawn < 0).any()  # an unbiased estimate of 0 is sometimes below it


# Transport


def test_sliced_wasserstein_in_one_dimension_is_wasserstein() -> None:
    x, y = normal(50, 1, 0), normal(50, 1, 1, 0.7, 2.0)
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y, order=1) == pytest.approx(expected, rel=1e-12)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection() -> None:
    x = normal(30, 64)
    # E (theta . v)^2 = |v|^2 / d; 4,000 directions leave 2 % of chance.
    found = sliced_wasserstein(x, x + 3.0, directions=4000)
    assert found == pytest.approx(3.0, rel=0.1)


def test_otdd_equals_brute_force() -> None:
    pytest.importorskip("ot")
    for seed in range(5):
        x, y = normal(6, 2, seed), normal(6, 2, 100 + seed, 0.5)
        a, b = np.array([0, 1, 0, 1, 0, 1]), np.array([5, 5, 3, 3, 3, 5])
        assert otdd(x, a, y, b) == pytest.approx(slow_otdd(x, a, y, b), rel=1e-9)


def test_otdd_sees_labels_and_not_their_names() -> None:
    pytest.importorskip("ot")
    x = np.concatenate([normal(10, 2, 0), normal(10, 2, 1, 8.0)])
    true = np.repeat([0, 1], 10)
    mixed = np.tile([0, 1], 10)
    assert otdd(x, true, x, 7 - true) == pytest.approx(0, abs=1e-6)
    assert otdd(x, true, x, mixed) > 3


def test_without_pot_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(InputError, match=r'pip install "reprogram\[ot\]"'):
        otdd(normal(4, 2), np.zeros(4, int), normal(4, 2), np.zeros(4, int))


# Classifier


def test_proxy_a_is_2_for_separable_sets_and_about_0_for_like_ones() -> None:
    assert proxy_a(normal(100, 5, 0), normal(100, 5, 1, 20.0)) == 2
    alike = [proxy_a(normal(100, 5, k), normal(100, 5, 1000 + k)) for k in range(10)]
    assert np.mean(alike) == pytest.approx(0, abs=0.15)


def test_proxy_a_counts_held_out_errors_only() -> None:
    """With more features than images any labels can be learned, and none are told apart."""
    found = [proxy_a(normal(20, 200, k), normal(20, 200, 1000 + k)) for k in range(10)]
    assert abs(np.mean(found)) < 0.5


# All


@pytest.mark.parametrize("name", DISTANCES)
def test_a_set_is_at_zero_from_itself(name: str) -> None:
    if name == "otdd":
        pytest.importorskip("ot")
    one = sample()
    found = DISTANCES[name].compute(one, one)
    # The unbiased estimates leave the diagonal out within a set, and not across: below 0 by O(1/n).
    assert found == pytest.approx(0, abs=1e-6) if name not in ("kid", "mmd") else -1 < found < 0


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "gaussian-kl"])
def test_distances_are_symmetric_and_grow_with_a_shift(name: str) -> None:
    if name == "otdd":
        pytest.importorskip("ot")
    compute = DISTANCES[name].compute
    one, near, far = sample(seed=0), sample(seed=1, mean=0.5), sample(seed=1, mean=2.0)
    assert compute(one, near) == pytest.approx(compute(near, one), rel=1e-9)
    assert compute(one, near) < compute(one, far)


@pytest.mark.parametrize("name", FEATURES_ONLY)
def test_features_are_not_changed(name: str) -> None:
    x, y = normal(20, 3, 0), normal(20, 3, 1)
    before = x.copy(), y.copy()
    FEATURES_ONLY[name](x, y)
    assert (x == before[0]).all() and (y == before[1]).all()


def test_intervals_cover_the_truth() -> None:
    """FID of N(0, 1) and N(1, 1) on one feature is 1; with 40 trials, fewer than 33 hits are no chance."""
    hits = 0
    for k in range(40):
        first, second = sample(200, 1, seed=k), sample(200, 1, seed=1000 + k, mean=1.0)
        found = measure(first, second, ["fid"], replicates=40, seed=k)["fid"]
        assert found.low is not None and found.high is not None
        assert found.low < found.value < found.high
        hits += found.low <= 1.0 <= found.high
    assert hits >= 33


def test_measure_repeats_itself_and_shares_half_samples() -> None:
    first, second = sample(seed=0), sample(seed=1, mean=1.0)
    both = measure(first, second, ["kid", "mmd"], replicates=5)
    assert measure(first, second, ["mmd"], replicates=5)["mmd"] == both["mmd"]
    assert measure(first, second, ["mmd"], replicates=5, seed=1)["mmd"] != both["mmd"]
    bare = measure(first, second, ["mmd"], replicates=0)["mmd"]
    assert (bare.value, bare.low, bare.high, bare.n) == (both["mmd"].value, None, None, 40)


def test_fid_falls_with_n_and_warns_below_ten_images_a_feature(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = sample(400, 20, 0), sample(400, 20, 1)  # the same distribution
    values = fid_against_n(first, second)
    assert list(values) == [100, 200, 400]
    assert list(values.values()) == sorted(values.values(), reverse=True)
    assert values[400] == pytest.approx(frechet(first.features, second.features), rel=1e-9)
    with caplog.at_level(logging.WARNING):
        measure(first, second, ["fid"], replicates=0)
        assert caplog.records == []
        measure(first.take(np.arange(199)), second.take(np.arange(199)), ["fid"], replicates=0)
    assert "below 10 d = 200 images" in caplog.records[0].getMessage()
    assert fid_warning(199, 20) and not fid_warning(200, 20)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="unknown distance 'fud'. Did you mean fid"):
        measure(sample(), sample(), ["fud"])
    with pytest.raises(InputError, match="got 40 and 30"):
        measure(sample(), sample(30), ["fid"])
    with pytest.raises(InputError, match="at least 20 images"):
        measure(sample(10), sample(10), ["fid"])
    with pytest.raises(InputError, match="features of one source, got 3 and 4"):
        measure(sample(), sample(d=4), ["fid"])
    with pytest.raises(InputError, match="replicates must be 0"):
        measure(sample(), sample(), ["fid"], replicates=1)


def test_sample_features_are_the_sources_on_a_stratified_choice() -> None:
    source, task = tiny_source(), tiny_task(n_train=60)
    some = sample_features(source, task.train, 30)
    assert some.features.shape == (30, source.num_features)
    assert np.bincount(some.labels).tolist() == [10, 10, 10]
    again = sample_features(source, task.train, 30)
    assert (again.features == some.features).all()
    other = sample_features(source, task.train, 30, seed=1)
    assert (other.features != some.features).any()
    everything = sample_features(source, task.train, 60)
    images = task.train.images(source.image_size).float() / 255
    expected = source.features(images).detach().double().numpy()
    assert everything.features == pytest.approx(expected, abs=1e-5)


def test_two_samples_of_one_set_are_disjoint_halves() -> None:
    source, task = tiny_source(), tiny_task(n_train=60)
    one, other = two_samples(source, task.train, tiny_task(n_train=60).train, 60)
    assert len(one.labels) == len(other.labels) == 30
    assert np.bincount(one.labels).tolist() == np.bincount(other.labels).tolist() == [10, 10, 10]
    rows = np.concatenate([one.features, other.features])
    assert len(np.unique(rows, axis=0)) == 60
    one, other = two_samples(source, task.train, task.test, 60)
    assert len(one.labels) == len(other.labels) == 30  # of the smaller split
