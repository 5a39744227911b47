"""Scores of a source for a target, each against a slow oracle or a case with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference_spectrum as reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reprogram.analysis import transferability as tr
from reprogram.analysis.transferability.hscore import ledoit_wolf_shrinkage
from reprogram.analysis.transferability.inputs import checked
from reprogram.analysis.transferability.probes import logistic_regression, stratified_folds
from reprogram.errors import InputError


def data(n: int = 40, d: int = 6, classes: int = 3, signal: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    means = torch.randn(classes, d, generator=generator)
    return signal * means[labels] + torch.randn(n, d, generator=generator), labels


@pytest.mark.parametrize(("n", "d", "signal"), [(40, 6, 1.0), (25, 3, 3.0), (12, 30, 0.5)])
def test_logme_is_the_largest_evidence(n: int, d: int, signal: float) -> None:
    features, labels = data(n, d, signal=signal)
    F = features.double().numpy()
    expected = np.mean(
        [reference.log_evidence(F, (labels == c).double().numpy()) for c in range(3)]
    )
    assert tr.logme(features, labels) == pytest.approx(expected / n, abs=1e-5)


@given(st.integers(0, 999))
def test_leep_and_nce_are_their_definitions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    theta = (3 * torch.randn(15, 4, generator=generator)).softmax(1)
    labels = torch.randint(3, (15,), generator=generator)
    expected = reference.leep(theta.double().numpy(), labels.numpy())
    assert tr.leep(theta, labels) == pytest.approx(expected, abs=1e-5)
    expected = reference.nce(theta.argmax(1).numpy(), labels.numpy())
    assert tr.nce(theta, labels) == pytest.approx(expected, abs=1e-12)


def test_a_source_that_knows_the_labels_scores_zero_and_one_that_does_not_their_entropy() -> None:
    labels = torch.tensor([0, 1, 2, 0])
    knows = torch.eye(4)[[3, 1, 0, 3]]
    assert tr.leep(knows, labels) == pytest.approx(0)
    assert tr.nce(knows, labels) == pytest.approx(0)
    blind = torch.full((4, 4), 0.25)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert tr.leep(blind, labels) == pytest.approx(-entropy)
    assert tr.nce(blind, labels) == pytest.approx(-entropy)


def test_h_score_counts_the_directions_between_classes() -> None:
    corners = torch.eye(3)[torch.arange(30) % 3]
    assert tr.h_score(corners, torch.arange(30) % 3) == pytest.approx(2)
    features, labels = data()
    F = features.double().numpy()
    means = np.stack([F[labels == c].mean(0) for c in range(3)])[labels]
    expected = np.trace(np.linalg.inv(np.cov(F.T, bias=True)) @ np.cov(means.T, bias=True))
    assert tr.h_score(features, labels) == pytest.approx(expected)


def test_the_shrinkage_is_ledoit_and_wolf_s() -> None:
    from sklearn.covariance import ledoit_wolf

    for n, d in ((40, 6), (10, 30)):
        features, labels = data(n, d)
        centred = (features - features.mean(0)).double()
        covariance, shrinkage = ledoit_wolf(centred.numpy(), assume_centered=True)
        assert ledoit_wolf_shrinkage(centred) == pytest.approx(shrinkage)
        means = np.stack([centred[labels == c].mean(0).numpy() for c in range(3)])[labels]
        between = np.cov(means.T, bias=True)
        expected = np.trace(np.linalg.inv(covariance) @ between) * (1 - shrinkage)
        assert tr.h_score_shrunk(features, labels) == pytest.approx(expected)


def test_the_shrunk_h_score_tells_noise_from_signal_where_the_plain_one_cannot() -> None:
    noise, labels = data(30, 60, signal=0.0)
    clear, _ = data(30, 60, signal=3.0)
    assert tr.h_score(noise, labels) == pytest.approx(tr.h_score(clear, labels), abs=1e-6)
    assert tr.h_score_shrunk(clear, labels) > 1.5 * tr.h_score_shrunk(noise, labels)


@pytest.mark.parametrize("n", [9, 40, 31])
def test_nearest_centroid_leaves_the_example_out(n: int) -> None:
    features, labels = data(n, signal=0.4)
    labels[-1] = 7  # the only one of its class
    expected = reference.nearest_centroid(features.double().numpy(), labels.numpy())
    assert tr.nearest_centroid(features, labels) == pytest.approx(expected)


def test_logistic_regression_is_scikit_learn_s() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = data(60)
    one_hot = torch.eye(3).double()[labels]
    weight, bias = logistic_regression(features.double(), one_hot, penalty=0.05)
    model = LogisticRegression(C=1 / (60 * 0.05), tol=1e-10, max_iter=10_000)
    model.fit(features.double().numpy(), labels.numpy())
    np.testing.assert_allclose(weight.T, model.coef_, atol=1e-4)
    np.testing.assert_allclose(bias - bias.mean(), model.intercept_, atol=1e-4)


def test_probes_find_what_is_there_and_nothing_else() -> None:
    clear, labels = data(90, signal=4.0)
    noise, _ = data(90, signal=0.0)
    for probe in (tr.linear_probe, tr.ridge_leave_one_out, tr.nearest_centroid):
        assert probe(clear, labels) > 0.95
        assert probe(noise, labels) < 0.55  # with three classes, and none of them seen twice


def test_ridge_leave_one_out_is_refitting() -> None:
    features, labels = data(20, signal=0.7)
    f = features.double()
    f = (f - f.mean(0)) / f.std(0, correction=0)
    kernel = f @ f.T + 1
    full = torch.einsum("ij,kl->ikjl", kernel, torch.eye(3).double())
    one_hot = torch.eye(3).double()[labels]
    change = reference.left_out(full, one_hot - 1 / 3, 1e-3 * float(kernel.trace()))
    expected = float((change.argmax(1) == labels).double().mean())
    assert tr.ridge_leave_one_out(features, labels) == expected


def test_folds_are_stratified() -> None:
    labels = torch.tensor([0] * 10 + [1] * 20)
    part = stratified_folds(labels, 5)
    for fold in range(5):
        assert labels[part == fold].bincount().tolist() == [2, 4]


def test_minus_unprompted_is_minus_an_accuracy() -> None:
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert tr.minus_unprompted(logits, torch.tensor([0, 1, 1, 0])) == -0.75


@pytest.mark.parametrize("name", tr.SCORES)
def test_every_score_prefers_the_better_source_and_names_what_is_wrong(name: str) -> None:
    score = tr.SCORES[name].function
    clear, labels = data(60, d=3, signal=5.0)
    noise, _ = data(60, d=3, signal=0.0)
    centres = torch.stack([clear[labels == c].mean(0) for c in range(3)])
    if tr.SCORES[name].reads == "features":
        good, bad = clear, noise
    else:
        good, bad = ((-torch.cdist(f, centres)).softmax(1) for f in (clear, noise))
    if name == "minus-unprompted":
        good, bad = bad, good  # what is right already cannot be gained
    better = score(good, labels)
    assert isinstance(better, float) and better > score(bad, labels)
    with pytest.raises(InputError, match="must be finite"):
        score(good * math.nan, labels)


@pytest.mark.parametrize("name", tr.SCORES)
def test_one_class_is_ordinary(name: str) -> None:
    features, _ = data(12, d=3)
    assert math.isfinite(tr.SCORES[name].function(features.softmax(1), torch.zeros(12).long()))


def test_what_a_score_cannot_read_is_named() -> None:
    with pytest.raises(InputError, match="as many labels as examples"):
        checked(torch.randn(5, 3), torch.zeros(4).long())
    with pytest.raises(InputError, match="softmax"):
        tr.leep(torch.randn(5, 3), torch.zeros(5).long())
    with pytest.raises(InputError, match="folds must be from 2"):
        tr.linear_probe(torch.randn(5, 3), torch.zeros(5).long(), folds=9)
