"""The summary of a spectrum, drift and the convergence bound; identities by their number in ntk.md."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import reference_spectrum as reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reprogram.analysis import spectrum as sp
from reprogram.errors import InputError


def jacobian(n: int, k: int, p: int, seed: int = 0) -> Tensor:
    """Gradients of falling size, so that the spectrum decays."""
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(n, k, p, generator=generator, dtype=torch.float64)
    return J / torch.arange(1, p + 1, dtype=torch.float64).sqrt()


def residual(n: int, k: int, seed: int = 1) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_of(J: Tensor) -> Tensor:
    return torch.einsum("ikp,jlp->ikjl", J, J)


def dual_parts(J: Tensor, R: Tensor) -> dict:
    flat = J.flatten(0, 1)
    return {
        "gram": flat.T @ flat, "examples": len(J), "num_classes": J.shape[1],
        "moment": flat.T @ R.flatten(), "squared_residual": float(R.square().sum()),
        "jacobian_mean": J.mean(0), "residual_mean": R.mean(0),
    }  # fmt: skip


def test_a_power_law_has_the_numbers_that_it_was_made_with() -> None:
    values = torch.arange(1, 201, dtype=torch.float64) ** -1.5
    rotation = torch.linalg.qr(residual(200, 200))[0]
    s = sp.summarise(rotation * values @ rotation.T)
    assert s.decay_exponent == pytest.approx(1.5, abs=1e-9)
    assert s.lambda_max == pytest.approx(1) and s.rank == 200
    assert s.lambda_min == s.smallest_nonzero == pytest.approx(200**-1.5)
    assert s.condition_number == pytest.approx(200**1.5)
    assert s.stable_rank == pytest.approx(float(values.sum()))
    shares = (values / values.sum()).numpy()
    assert s.effective_rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))
    rho = 1e-3 * float(values.sum())
    assert s.effective_dimension[1e-3] == pytest.approx(float((values / (values + rho)).sum()))
    assert s.cumulative_share is None and s.alignment_full is None


def test_an_identity_kernel_has_full_rank_in_every_sense() -> None:
    s = sp.summarise(torch.eye(7))
    assert s.stable_rank == pytest.approx(7) and s.effective_rank == pytest.approx(7)
    assert s.condition_number == 1
    assert s.decay_exponent == pytest.approx(0)


@pytest.mark.parametrize(("n", "k", "p"), [(6, 3, 9), (5, 2, 40)])
def test_smallest_nonzero_is_the_min_of_rows_and_parameters_th(n: int, k: int, p: int) -> None:
    J = jacobian(n, k, p)
    s = sp.summarise(kernel_of(J), parameters=p)
    singular = torch.linalg.svdvals(J.flatten(0, 1)).square()
    assert s.rank == min(n * k, p)
    assert s.smallest_nonzero == pytest.approx(float(singular[min(n * k, p) - 1]), rel=1e-9)
    assert s.smallest_nonzero_over_noise > 1e6
    assert (s.lambda_min_over_noise < 1) == (p < n * k)


@pytest.mark.parametrize(("n", "k", "p"), [(6, 3, 9), (5, 2, 40), (1, 4, 2), (7, 1, 3)])
def test_primal_and_dual_summaries_agree(n: int, k: int, p: int) -> None:
    J, R = jacobian(n, k, p), residual(n, k)
    primal = sp.summarise(kernel_of(J), R, parameters=p)
    dual = sp.summarise_dual(**dual_parts(J, R))
    kept = min(n * k, p)
    torch.testing.assert_close(dual.eigenvalues, primal.eigenvalues[:kept])
    torch.testing.assert_close(dual.cumulative_share, primal.cumulative_share[:kept])
    one, two = primal.to_dict(), dual.to_dict()
    skipped = {"lambda_min", "lambda_min_by_trace", "lambda_min_over_noise", "alignment_trace"}
    skipped |= {"noise_floor", "noise_floor_by_trace", "smallest_nonzero_over_noise"}
    skipped |= {"effective_dimension", "share_in_top"}
    for name in one.keys() - skipped:
        expected = one[name] if isinstance(one[name], float) else None
        assert two[name] == (one[name] if expected is None else pytest.approx(expected)), name
    assert dual.effective_dimension == pytest.approx(primal.effective_dimension)
    assert dual.lambda_min == pytest.approx(primal.lambda_min, abs=1e-12)
    assert dual.lambda_min == 0 or p >= n * k


def test_masked_parameters_do_not_count() -> None:
    J, R = jacobian(10, 2, 12), residual(10, 2)
    J[:, :, 5:] = 0
    s = sp.summarise_dual(**dual_parts(J, R))
    assert s.parameters == s.rank == len(s.eigenvalues) == 5
    assert s.smallest_nonzero_over_noise > 1e6


def test_alignments_are_the_written_out_ones_and_differ() -> None:
    n, k = 6, 3
    J, R = jacobian(n, k, 20), residual(n, k)
    theta = kernel_of(J)
    s = sp.summarise(theta, R)
    C = np.eye(n) - 1 / n
    full = theta.reshape(n * k, n * k).numpy()
    expected = reference.alignment(full, R.reshape(-1, 1).numpy(), np.kron(C, np.eye(k)))
    assert s.alignment_full == pytest.approx(expected)
    trace = torch.einsum("ikjk->ij", theta) / k
    expected = reference.alignment(trace.numpy(), R.numpy(), C)
    assert s.alignment_trace == pytest.approx(expected)
    assert sp.summarise(trace, R).alignment_trace == pytest.approx(expected)
    assert sp.summarise(trace, R).alignment_full is None
    assert abs(s.alignment_full - s.alignment_trace) > 0.01


def test_a_kernel_that_is_constant_over_the_examples_has_no_alignment() -> None:
    n, k = 6, 3
    A = residual(k, 9)  # a linear source: the same gradient at every example
    J, R = A.expand(n, k, 9), residual(n, k)
    s = sp.summarise(kernel_of(J), R, parameters=9)
    assert s.rank == k and s.alignment_full is None and s.alignment_trace is None
    assert sp.summarise_dual(**dual_parts(J, R)).alignment_full is None
    assert sp.kernel_drift(kernel_of(J), kernel_of(jacobian(n, k, 9))).alignment is None
    same = R[:1].expand(n, k)
    assert sp.summarise(kernel_of(jacobian(n, k, 9)), same).alignment_full is None


def test_alignment_is_one_for_the_target_s_own_kernel() -> None:
    R = residual(8, 2)
    R = R - R.mean(0)
    vector = R.reshape(-1, 1)
    assert sp.summarise(vector @ vector.T, R).alignment_full == pytest.approx(1)
    assert sp.summarise(R @ R.T, R).alignment_trace == pytest.approx(1)


def test_shares_add_up_in_the_eigenspaces() -> None:
    J, R = jacobian(6, 2, 5), residual(6, 2)
    s = sp.summarise(kernel_of(J), R, parameters=5)
    Q = torch.linalg.qr(J.flatten(0, 1))[0]  # the range of Theta
    reachable = float((Q.T @ R.flatten()).square().sum() / R.square().sum())
    assert s.share_in_top(5) == pytest.approx(reachable)
    assert s.share_in_top(12) == pytest.approx(1)
    assert (s.cumulative_share.diff() >= 0).all()


def test_i6_a_duplicated_example_adds_k_null_vectors() -> None:
    J, k = jacobian(5, 3, 50), 3
    J = torch.cat([J, J[:1]])
    assert sp.summarise(kernel_of(J)).rank == 5 * k
    trace = torch.einsum("ikp,jkp->ij", J, J) / k
    assert sp.summarise(trace).rank == 5


@given(seed=st.integers(0, 999), scale=st.floats(1e-6, 1e6), n=st.integers(1, 5))
def test_i9_a_scaled_kernel_has_the_same_shape(seed: int, scale: float, n: int) -> None:
    J, R = jacobian(n, 2, 6, seed), residual(n, 2, seed)
    one = sp.summarise(kernel_of(J), R, parameters=6)
    two = sp.summarise(scale**2 * kernel_of(J), R, parameters=6)
    assert two.lambda_max == pytest.approx(scale**2 * one.lambda_max)
    assert two.by_trace() == pytest.approx(one.by_trace(), abs=1e-14)
    assert two.effective_rank == pytest.approx(one.effective_rank)
    assert two.effective_dimension == pytest.approx(one.effective_dimension)
    assert two.alignment_full == pytest.approx(one.alignment_full)


def test_float32_jacobians_raise_the_noise_floor() -> None:
    J = jacobian(6, 3, 9)
    exact = sp.summarise(kernel_of(J))
    rounded = kernel_of(J.float().double())
    rough = sp.summarise(rounded, precision=torch.float32)
    ratio = torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps
    assert rough.noise_floor == pytest.approx(exact.noise_floor * ratio, rel=1e-3)


def test_one_example_and_one_class_are_ordinary() -> None:
    s = sp.summarise(torch.full((1, 1, 1, 1), 4.0), torch.tensor([[0.5]]))
    assert (s.lambda_max, s.lambda_min, s.rank, s.effective_rank) == (4, 4, 1, 1)
    assert s.decay_exponent is None and s.alignment_full is None
    assert s.share_in_top(1) == 1


def test_a_spectrum_is_json_and_text() -> None:
    J, R = jacobian(6, 3, 9), residual(6, 3)
    s = sp.summarise(kernel_of(J), R, parameters=9)
    document = json.loads(json.dumps(s.to_dict(), allow_nan=False))
    assert document["rank"] == 9 and document["share_in_top"]["10"] <= 1
    assert len(s.to_dict(arrays=True)["eigenvalues"]) == 18
    text = str(s)
    assert "full kernel, 18 rows, 9 parameters, rank 9" in text
    assert "eigenvalue 9 (P)" in text and "noise floors" in text
    assert "(P)" not in str(sp.summarise(kernel_of(J), R, parameters=18))
    # 6 examples and 3 logits of 1 parameter: the trace kernel's rank is at most 3.
    few = jacobian(6, 3, 1)
    per_example = sp.summarise(torch.einsum("ikp,jkp->ij", few, few) / 3, parameters=1, logits=3)
    assert (per_example.parameters, per_example.rank_bound, per_example.rank) == (1, 3, 3)
    assert "eigenvalue 3 (K P)" in str(per_example)
    singular = sp.summarise(torch.diag(torch.tensor([1.0, 0.0])))
    assert singular.to_dict()["condition_number"] is None


def test_what_is_noise_is_printed_as_zero() -> None:
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sp.summarise(rows @ rows.T)
    lines = {line.strip().partition("  ")[0]: line for line in str(found).splitlines()}
    assert lines["smallest eigenvalue"].endswith("  0  (below the noise floor)")
    assert "-" not in lines["smallest eigenvalue"]
    assert found.condition_number == float("inf") and lines["condition number"].endswith("inf")
    assert found.to_dict()["condition_number"] is None


def test_the_effective_dimension_is_in_the_inverse() -> None:
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = rows @ rows.T
    found = sp.summarise(kernel)
    rho = 1e-4 * found.trace
    dimension = 8 - rho * float(sp.ridge_inverse(kernel, rho).trace())
    assert dimension == pytest.approx(found.effective_dimension[1e-4])


def test_broken_kernels_are_named() -> None:
    good, R = kernel_of(jacobian(3, 2, 9)), residual(3, 2)
    with pytest.raises(InputError, match="the kernel is zero"):
        sp.summarise(torch.zeros(3, 2, 3, 2))
    broken = good.clone()
    broken[0, 0, 1, 0] = math.nan
    with pytest.raises(InputError, match="NaN or infinity in 1 of 36"):
        sp.summarise(broken)
    with pytest.raises(InputError, match="square matrix"):
        sp.summarise(good[:2])
    with pytest.raises(InputError, match="symmetric"):
        sp.summarise(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(InputError, match="needs 8 rows"):
        sp.summarise(good, residual(4, 2))
    with pytest.raises(InputError, match=r"\(n1, k, n2, k\)"):
        sp.summarise(good[0])
    with pytest.raises(InputError, match="residual is zero"):
        sp.summarise(good, 0 * R)


def test_drift_of_a_kernel() -> None:
    one, other = kernel_of(jacobian(5, 2, 30)), kernel_of(jacobian(5, 2, 30, seed=3))
    assert sp.kernel_drift(one, one).to_dict() == pytest.approx({"relative": 0, "alignment": 1})
    doubled = sp.kernel_drift(one, 2 * one)
    assert doubled.relative == pytest.approx(1) and doubled.alignment == pytest.approx(1)
    C = np.kron(np.eye(5) - 0.2, np.eye(2))
    K, L = (C @ t.reshape(10, 10).numpy() @ C for t in (one, other))
    found = sp.kernel_drift(one, other)
    expected = (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L)
    assert found.alignment == pytest.approx(expected)
    flat = sp.centred_alignment(one.reshape(10, 10), other.reshape(10, 10), k=2)
    assert flat == pytest.approx(expected)
    with pytest.raises(InputError, match="same examples"):
        sp.kernel_drift(one, one[:4, :, :4])


def test_the_bound_holds_for_gradient_descent_on_the_linearised_model() -> None:
    n, k = 5, 2
    J, R = jacobian(n, k, 40), residual(n, k)
    theta = kernel_of(J)
    limit = n / sp.summarise(theta).lambda_max
    steps = [0, 1, 10, 100, 1000]
    losses = []
    for t in steps:
        change = reference.descend_mse(J, J, R, 0.9 * limit, t)
        losses.append(float((R - change).square().sum()) / (2 * n))
    c = sp.convergence(theta, R, 0.9 * limit, steps, losses)
    assert c.holds and c.step_limit == pytest.approx(limit) and c.measured_above == ()
    assert c.linearised == pytest.approx(losses)
    assert all(a <= b * (1 + 1e-12) for a, b in zip(c.linearised, c.bound, strict=True))
    assert c.bound[-1] < 0.99 * c.bound[0]
    assert not sp.convergence(theta, R, 1.1 * limit, steps).holds
    above = sp.convergence(theta, R, limit, steps, [loss + 9 for loss in losses])
    assert above.measured_above == tuple(steps)


def test_the_bound_says_nothing_of_a_singular_kernel() -> None:
    c = sp.convergence(kernel_of(jacobian(5, 2, 4)), residual(5, 2), 0.01, [0, 100])
    assert c.lambda_min == 0 and c.bound[0] == c.bound[1] > c.linearised[1]
