"""Output mappings against slow oracles: ties, missing classes, limits and errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference_mappings as ref
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reprogram.errors import InputError
from reprogram.output_mappings import (
    BayesianMapping,
    BayesianPlusMapping,
    FirstMapping,
    FrequencyMapping,
    HeadMapping,
    LinearMapping,
    ManyToOneMapping,
    MatrixMapping,
    OutputMapping,
    RandomMapping,
    bayesian_matrix,
    counts,
    default_top_k,
    first_matrix,
    frequency_matrix,
    many_to_one_matrix,
    random_matrix,
    top_k_probabilities,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def predicted(draw: st.DrawFn, one_to_one: bool = False) -> tuple[list[int], list[int], int, int]:
    """Predictions, labels, S and T: few images, so that ties and empty classes are common."""
    S = draw(st.integers(1, 7))
    T = draw(st.integers(1, S if one_to_one else 9))
    n = draw(st.integers(0, 25))
    predictions = draw(st.lists(st.integers(0, S - 1), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, T - 1), min_size=n, max_size=n))
    return predictions, labels, S, T


@given(predicted())
def test_counts_equal_the_one_hot_definition(case: tuple[list[int], list[int], int, int]) -> None:
    table = counts(*case)
    assert table.shape == case[2:] and table.dtype == torch.int64
    np.testing.assert_array_equal(table.numpy(), ref.counts(*case))


@given(predicted(one_to_one=True))
def test_frequency_matrix(case: tuple[list[int], list[int], int, int]) -> None:
    W = frequency_matrix(*case).numpy()
    np.testing.assert_array_equal(W, ref.greedy(ref.counts(*case), k=1))
    assert (W.sum(0) == 1).all() and (W.sum(1) <= 1).all()


@given(predicted(one_to_one=True), st.data())
def test_many_to_one_matrix(
    case: tuple[list[int], list[int], int, int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, case[2] // case[3]))
    W = many_to_one_matrix(*case, k=k).numpy()
    np.testing.assert_allclose(W, ref.greedy(ref.counts(*case), k), rtol=1e-7)
    assert ((W > 0).sum(0) == k).all() and ((W > 0).sum(1) <= 1).all()


@given(predicted(), st.sampled_from([0.0, 0.3, 1.0]))
def test_bayesian_matrix_of_predictions(
    case: tuple[list[int], list[int], int, int], smoothing: float
) -> None:
    predictions, labels, S, T = case
    scores = torch.eye(S, dtype=torch.float64)[predictions]
    W = bayesian_matrix(scores, labels, S, T, smoothing).numpy()
    np.testing.assert_allclose(W, ref.bayesian(scores.numpy(), labels, T, smoothing), rtol=1e-12)
    np.testing.assert_allclose(W.sum(0), 1, rtol=1e-12)
    for t in set(range(T)) - set(labels):
        np.testing.assert_allclose(W[:, t], 1 / S)
    mapping = BayesianMapping(S, T, smoothing).double()
    mapping.fit(scores, torch.tensor(labels, dtype=torch.int64))
    np.testing.assert_allclose(mapping.weight.numpy(), W, rtol=1e-12)


@given(predicted(), st.integers(0, 1000), st.booleans(), st.data())
def test_bayesian_plus(
    case: tuple[list[int], list[int], int, int], seed: int, ties: bool, data: st.DataObject
) -> None:
    _, labels, S, T = case
    logits = torch.randn(len(labels), S, dtype=torch.float64, generator=generator(seed))
    if ties:
        logits = logits.round()
    k = data.draw(st.integers(1, S))
    scores = top_k_probabilities(logits, k)
    np.testing.assert_allclose(
        scores.numpy(), ref.top_k_probabilities(logits.numpy(), k), rtol=1e-12
    )
    W = bayesian_matrix(scores, labels, S, T)
    np.testing.assert_allclose(W.numpy(), ref.bayesian(scores.numpy(), labels, T, 1), rtol=1e-12)
    mapping = BayesianPlusMapping(S, T, top_k=k).double()
    mapping.fit(logits, torch.tensor(labels, dtype=torch.int64))
    np.testing.assert_allclose(mapping.weight.numpy(), W.numpy(), rtol=1e-12)


def test_bayesian_plus_in_pieces() -> None:
    """More images than one piece holds, and an uneven last piece."""
    logits = torch.randn(9001, 6, generator=generator())
    labels = torch.randint(20, (9001,), generator=generator(1))
    mapping = BayesianPlusMapping(6, 20)
    mapping.fit(logits, labels)
    W = bayesian_matrix(top_k_probabilities(logits, 3), labels, 6, 20)
    torch.testing.assert_close(mapping.weight, W.float())


@pytest.mark.parametrize(
    ("S", "T", "k"), [(1000, 1, 1), (1000, 13, 1), (1000, 14, 2), (1000, 100, 15), (10, 100, 10)]
)
def test_default_top_k(S: int, T: int, k: int) -> None:
    assert default_top_k(S, T) == k == BayesianPlusMapping(S, T).top_k


def test_ties_at_the_kth_place_go_to_the_lowest_source() -> None:
    kept = top_k_probabilities(torch.tensor([[1.0, 0, 2, 1, 1], [3, 3, 3, 3, 3]]), 3) > 0
    assert kept.tolist() == [[True, False, True, True, False], [True, True, True, False, False]]


def test_ties_go_to_the_lowest_source_then_the_lowest_target() -> None:
    W = frequency_matrix([0, 0, 1, 1], [0, 1, 0, 1], 3, 2)  # all four counts are 1
    assert W.tolist() == [[1, 0], [0, 1], [0, 0]]
    W = frequency_matrix([2, 1], [0, 0], 3, 1)
    assert W.tolist() == [[0], [1], [0]]


def test_a_class_without_images_keeps_its_column() -> None:
    W = frequency_matrix([1, 1], [2, 2], 4, 3)
    assert W.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]]
    W = bayesian_matrix(torch.eye(4)[[1, 1]], [2, 2], 4, 3)
    assert W[:, 0].tolist() == [0.25] * 4 and W[:, 2].tolist() == [0, 1, 0, 0]


def test_no_images_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(frequency_matrix(none, none, 5, 3), first_matrix(5, 3))
    W = bayesian_matrix(torch.zeros(0, 5), none, 5, 3, smoothing=0)
    assert torch.equal(W, torch.full((5, 3), 1 / 5))


def test_a_perfect_source_gives_the_identity() -> None:
    labels = torch.arange(5).repeat(3)
    assert torch.equal(frequency_matrix(labels, labels, 5, 5), torch.eye(5))
    assert torch.equal(bayesian_matrix(torch.eye(5)[labels], labels, 5, 5), torch.eye(5))


def test_arrays_and_whole_number_scores_are_welcome() -> None:
    predictions, labels = np.array([2, 0, 2], dtype=np.uint8), np.array([1, 0, 1], dtype=np.int32)
    W = frequency_matrix(predictions, labels, 3, 2)
    assert W.dtype == torch.float32 and W.tolist() == [[1, 0], [0, 0], [0, 1]]
    one_hot = np.eye(3, dtype=np.int64)[predictions]
    assert bayesian_matrix(one_hot, labels, 3, 2).dtype == torch.float32


def fitted(name: str) -> MatrixMapping:
    mappings: dict[str, Callable[[], MatrixMapping]] = {
        "rlm": lambda: RandomMapping(8, 3, generator()),
        "flm": lambda: FrequencyMapping(8, 3, refit="start"),
        "ilm": lambda: FrequencyMapping(8, 3, refit="epoch"),
        "many": lambda: ManyToOneMapping(8, 3, k=2),
        "blm": lambda: BayesianMapping(8, 3),
        "blm+": lambda: BayesianPlusMapping(8, 3, top_k=4),
        "first": lambda: FirstMapping(8, 3),
    }
    mapping = mappings[name]()
    mapping.fit(torch.randn(50, 8, generator=generator(1)), torch.arange(50) % 3)
    return mapping


@pytest.mark.parametrize(
    ("name", "refit"),
    [("rlm", "never"), ("flm", "start"), ("ilm", "epoch"), ("many", "epoch"), ("blm", "epoch"),
     ("blm+", "epoch"), ("first", "never")],
)  # fmt: skip
def test_matrix_mappings(name: str, refit: str) -> None:
    mapping = fitted(name)
    assert (mapping.reads, mapping.refit) == ("logits", refit)
    assert not list(mapping.parameters())
    x = torch.randn(4, 8, generator=generator(2), requires_grad=True)
    y = mapping(x)
    assert torch.equal(y, x @ mapping.weight)
    y.sum().backward()  # the prompt's gradient passes through
    assert x.grad is not None and x.grad.any()
    torch.testing.assert_close(mapping.weight.sum(0), torch.ones(3))
    again = fitted(name)
    assert torch.equal(again.weight, mapping.weight)
    again.weight.zero_()
    again.load_state_dict(mapping.state_dict())
    assert torch.equal(again.weight, mapping.weight)


@pytest.mark.parametrize("name", ["flm", "ilm", "many", "blm", "blm+"])
def test_fit_replaces_what_was_fitted(name: str) -> None:
    mapping = fitted(name)
    before, buffer = mapping.weight.clone(), mapping.weight
    outputs = torch.eye(8)[torch.arange(48) % 3 + 5] * 9.0
    outputs.requires_grad_()
    mapping.fit(outputs, torch.arange(48) % 3)
    assert mapping.weight is buffer and not mapping.weight.requires_grad
    assert not torch.equal(mapping.weight, before)
    assert (mapping(outputs).argmax(1) == torch.arange(48) % 3).all()


def test_random_matrix() -> None:
    W = random_matrix(20, 7, generator())
    assert torch.equal(W, random_matrix(20, 7, generator()))
    assert not torch.equal(W, random_matrix(20, 7, generator(1)))
    assert (W.sum(0) == 1).all() and (W.sum(1) <= 1).all() and set(W.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize(("cls", "reads"), [(LinearMapping, "logits"), (HeadMapping, "features")])
def test_linear_mappings(cls: type[LinearMapping], reads: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    mapping, again = cls(6, 9, generator=generator()), cls(6, 9, generator=generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert (mapping.reads, mapping.refit) == (reads, "never")
    assert [tuple(p.shape) for p in mapping.parameters()] == [(9, 6), (9,)]
    assert torch.equal(mapping.linear.weight, again.linear.weight)
    mapping.fit(torch.zeros(2, 6), torch.tensor([0, 1]))
    x = torch.randn(4, 6, generator=generator())
    assert torch.equal(mapping(x), again(x))
    torch.testing.assert_close(mapping(x), x @ mapping.linear.weight.T + mapping.linear.bias)
    mapping(x).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in mapping.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrequencyMapping(6, 3),
        lambda: BayesianMapping(6, 3),
        lambda: RandomMapping(6, 3, generator()),
        lambda: LinearMapping(6, 3, generator=generator()),
        lambda: HeadMapping(6, 3, generator=generator()),
    ],
)
def test_the_matrix_is_what_a_mapping_does(make: Callable[[], OutputMapping]) -> None:
    mapping = make().double()
    x = torch.randn(30, 6, generator=generator(), dtype=torch.float64)
    mapping.fit(x, torch.arange(30) % 3)
    assert mapping.matrix is not None and mapping.matrix.any()
    torch.testing.assert_close(x @ mapping.matrix, mapping(x) - mapping(torch.zeros_like(x)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrequencyMapping(3, 4),
        lambda: ManyToOneMapping(3, 4, k=1),
        lambda: RandomMapping(3, 4, generator()),
        lambda: FirstMapping(3, 4),
        lambda: frequency_matrix([0], [0], 3, 4),
        lambda: many_to_one_matrix([0], [0], 3, 4, k=1),
        lambda: random_matrix(3, 4, generator()),
        lambda: first_matrix(3, 4),
    ],
)
def test_more_target_than_source_classes(make: Callable[[], OutputMapping | Tensor]) -> None:
    with pytest.raises(
        InputError, match=r"got 4 target and 3 source classes. Use the mapping blm, blm\+ or linear"
    ):
        make()


def test_mappings_for_more_target_than_source_classes() -> None:
    labels = torch.arange(40) % 4
    outputs = torch.randn(40, 3, generator=generator())
    for mapping in (
        BayesianMapping(3, 4),
        BayesianPlusMapping(3, 4),
        LinearMapping(3, 4, generator=generator()),
    ):
        mapping.fit(outputs, labels)
        assert mapping(outputs).shape == (40, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: counts([0, 3], [0, 0], 3, 2), "predictions must lie in 0 to 2, got 3"),
        (lambda: counts([0, 1], [0, -1], 3, 2), "labels must lie in 0 to 1, got -1"),
        (lambda: counts([0, 1], [0], 3, 2), "got 1 for 2"),
        (lambda: counts(torch.zeros(2), [0, 0], 3, 2), "predictions must be whole numbers"),
        (lambda: counts(torch.eye(2).long(), [0, 0], 3, 2), r"predictions must have shape \(n,\)"),
        (lambda: counts([], [], 3, 0), "number of classes for labels .* got 0"),
        (lambda: bayesian_matrix(-torch.eye(2), [0, 0], 2, 2), "finite and not negative"),
        (lambda: bayesian_matrix(torch.eye(2) / 0, [0, 0], 2, 2), "finite and not negative"),
        (lambda: bayesian_matrix(torch.eye(2), [0, 0], 3, 2), r"shape \(n, 3\).*got \(2, 2\)"),
        (lambda: bayesian_matrix(torch.eye(2), [0], 2, 2), "got 1 for 2"),
        (lambda: bayesian_matrix(torch.eye(2), [0, 0], 2, 2, -1), "smoothing .* got -1"),
        (lambda: BayesianMapping(2, 2, float("nan")), "smoothing .* got nan"),
        (lambda: BayesianPlusMapping(5, 2, top_k=6), "top_k must be in 1 to 5.*got 6"),
        (lambda: ManyToOneMapping(10, 4, k=3), "sources_per_target must be in 1 to 2 .* got 3"),
        (lambda: FrequencyMapping(0, 0), "num_source_classes must be at least 1, got 0"),
    ],
)
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("cls", [FrequencyMapping, BayesianMapping, BayesianPlusMapping])
def test_fit_refuses_outputs_that_say_nothing(cls: Callable[[int, int], MatrixMapping]) -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(InputError, match="NaN or infinity for 1 of 2 images"):
        cls(3, 2).fit(torch.tensor([[0.0, 1, 2], [0, float("nan"), 0]]), labels)
    with pytest.raises(InputError, match=r"shape \(n, 3\)"):
        cls(3, 2).fit(torch.zeros(2, 4), labels)
