"""Predictions from a kernel: ridge, gradient flow, cross-entropy, leave-one-out. Identities of ntk.md."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference_spectrum as reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reprogram.analysis import spectrum as sp
from reprogram.analysis.spectrum.cross_entropy import hessian_times
from reprogram.analysis.spectrum.regression import flow_filter, ridge_filter
from reprogram.errors import InputError

N, K, M = 6, 3, 4
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
SHAPES = [5, 40]  # P below and above n K


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(p: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """J and J* of a model, both kernels, and the residual."""
    J, J_test = draw(N, K, p, seed=seed), draw(M, K, p, seed=seed + 100)
    theta, cross = (torch.einsum("ikp,jlp->ikjl", a, J) for a in (J, J_test))
    return J, J_test, theta, cross, draw(N, K, seed=seed + 200)


def test_the_oracle_s_kernel_is_the_product_of_jacobians() -> None:
    J, J_test, _, cross, _ = problem(5)
    torch.testing.assert_close(reference.kernel_of(J_test, J), cross)


@pytest.mark.parametrize("p", SHAPES)
@pytest.mark.parametrize("rho", [1e-3, 1.0])
def test_i5_primal_and_dual_ridge_agree(p: int, rho: float) -> None:
    J, J_test, theta, cross, R = problem(p)
    primal = sp.kernel_ridge(theta, R, rho, cross)
    flat = J.flatten(0, 1)
    move = sp.ridge_dual(flat.T @ flat, flat.T @ R.flatten(), rho)
    torch.testing.assert_close(J_test @ move, primal, rtol=1e-9, atol=1e-9)
    alpha = torch.linalg.solve(
        theta.reshape(N * K, -1) + rho * torch.eye(N * K), R.flatten()
    )  # written out
    torch.testing.assert_close(primal.flatten(), cross.reshape(M * K, -1) @ alpha)
    on_train = sp.kernel_ridge(sp.decompose(theta), R, rho)
    torch.testing.assert_close(on_train.flatten(), theta.reshape(N * K, -1) @ alpha)


@pytest.mark.parametrize("p", SHAPES)
@pytest.mark.parametrize("time", [0.0, 0.5, 30.0, math.inf])
def test_i5_primal_and_dual_gradient_flow_agree(p: int, time: float) -> None:
    J, J_test, theta, cross, R = problem(p)
    flat = J.flatten(0, 1)
    move = sp.gradient_flow_dual(flat.T @ flat, flat.T @ R.flatten(), time, N)
    primal = sp.gradient_flow(theta, R, time, cross)
    torch.testing.assert_close(J_test @ move, primal, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("p", SHAPES)
def test_i12_time_zero_changes_nothing_and_infinity_is_the_pseudo_inverse(p: int) -> None:
    J, J_test, theta, cross, R = problem(p)
    assert (sp.gradient_flow(theta, R, 0.0, cross) == 0).all()
    limit = J_test @ (torch.linalg.pinv(J.flatten(0, 1)) @ R.flatten())
    torch.testing.assert_close(sp.gradient_flow(theta, R, math.inf, cross), limit)
    torch.testing.assert_close(sp.gradient_flow(theta, R, 1e4, cross), limit)
    torch.testing.assert_close(sp.kernel_ridge(theta, R, 0.0, cross), limit)
    if p > N * K:
        torch.testing.assert_close(sp.gradient_flow(theta, R, math.inf), R)


@pytest.mark.parametrize("p", SHAPES)
@pytest.mark.parametrize("time", [0.2, 3.0])
def test_i13_gradient_descent_follows_the_closed_form(p: int, time: float) -> None:
    J, J_test, theta, cross, R = problem(p)
    steps = 20_000
    walked = reference.descend_mse(J, J_test, R, time / steps, steps)
    predicted = sp.gradient_flow(theta, R, time, cross)
    torch.testing.assert_close(predicted, walked, rtol=2e-3, atol=2e-3)


def test_i13_mse_loss_of_pytorch_needs_its_own_time() -> None:
    J, J_test, theta, cross, R = problem(40)
    rate, steps = 1e-3, 2000
    params = torch.zeros(40, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(J @ params, R)
        (gradient,) = torch.autograd.grad(loss, params)
        params = (params - rate * gradient).detach().requires_grad_()
    predicted = sp.gradient_flow(theta, R, sp.mse_time(rate, steps, K), cross)
    torch.testing.assert_close(predicted, (J_test @ params).detach(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("p", SHAPES)
def test_i13_cross_entropy_descent_follows_the_integrated_equation(p: int) -> None:
    J, J_test, theta, cross, f0 = problem(p)
    times = [0.0, 0.5, 4.0]
    found = sp.cross_entropy_flow(theta, f0, LABELS, times, cross)
    assert found.shape == (3, M, K) and (found[0] == 0).all()
    for time, predicted in zip(times[1:], found[1:], strict=True):
        walked = reference.descend_cross_entropy(J, J_test, f0, LABELS, time / 2000, 2000)
        torch.testing.assert_close(predicted, walked, rtol=5e-3, atol=5e-3)
    on_train = sp.cross_entropy_flow(theta, f0, LABELS, [4.0])[0]
    walked = reference.descend_cross_entropy(J, J, f0, LABELS, 4.0 / 2000, 2000)
    torch.testing.assert_close(on_train, walked, rtol=5e-3, atol=5e-3)


def test_stopping_on_the_way_changes_nothing() -> None:
    _, _, theta, cross, f0 = problem(5)
    one = sp.cross_entropy_flow(theta, f0, LABELS, [2.0], cross)[0]
    two = sp.cross_entropy_flow(theta, f0, LABELS, [0.3, 0.3, 2.0], cross)
    torch.testing.assert_close(one, two[2], rtol=1e-5, atol=1e-6)
    assert torch.equal(two[0], two[1])


@pytest.mark.parametrize("p", SHAPES)
def test_gauss_newton_is_its_formula(p: int) -> None:
    J, J_test, theta, cross, f0 = problem(p)
    matrix, probabilities = theta.reshape(N * K, -1).numpy(), f0.softmax(1).numpy()
    H = reference.hessian_blocks(probabilities)
    torch.testing.assert_close(
        hessian_times(f0.softmax(1), torch.from_numpy(matrix)), torch.from_numpy(H @ matrix)
    )
    b = (probabilities - np.eye(K)[LABELS]).flatten()
    for time in (0.5, 20.0):
        expected = reference.gauss_newton_integral(matrix, H, b, time / N)
        move = sp.gauss_newton_flow(J, f0, LABELS, time)
        np.testing.assert_allclose((J @ move).flatten(), expected, rtol=1e-8, atol=1e-10)
    rho = 0.1
    expected = -matrix @ np.linalg.solve(H @ matrix + rho * np.eye(N * K), b)
    move = sp.gauss_newton_ridge(J, f0, LABELS, rho)
    np.testing.assert_allclose((J @ move).flatten(), expected, rtol=1e-8, atol=1e-10)
    # The same from the kernel alone, on other examples too.
    features, test_features = sp.kernel_features(theta, K, cross)
    by_kernel = sp.gauss_newton_ridge(features, f0, LABELS, rho)
    torch.testing.assert_close(test_features @ by_kernel, J_test @ move, rtol=1e-7, atol=1e-9)


def test_gauss_newton_is_right_for_small_moves() -> None:
    J, _, theta, _, f0 = problem(40)
    time = 1e-3
    exact = sp.cross_entropy_flow(theta, f0, LABELS, [time])[0]
    short = J @ sp.gauss_newton_flow(J, f0, LABELS, time)
    torch.testing.assert_close(short, exact, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("p", SHAPES)
def test_i14_leave_one_out_is_leaving_one_out(p: int) -> None:
    J, _, theta, _, R = problem(p)
    expected = reference.left_out(theta, R, 0.3)
    torch.testing.assert_close(sp.leave_one_out(theta, R, 0.3), expected)
    torch.testing.assert_close(sp.leave_one_out(sp.decompose(theta), R, 0.3), expected)
    torch.testing.assert_close(sp.leave_one_out_dual(J, R, 0.3), expected)
    flat = J.flatten(0, 1)
    gram, moment = flat.T @ flat, flat.T @ R.flatten()
    some = sp.leave_one_out_dual(J[1:4], R[1:4], 0.3, gram, moment)
    torch.testing.assert_close(some, expected[1:4])
    with pytest.raises(InputError, match="give both, or neither"):
        sp.leave_one_out_dual(J, R, 0.3, gram)


def test_i14_holds_for_a_kernel_of_examples() -> None:
    J, _, _, _, R = problem(40)
    trace = torch.einsum("ikp,jkp->ij", J, J) / K
    full = torch.einsum("ij,kl->ikjl", trace, torch.eye(K).double())
    torch.testing.assert_close(
        sp.leave_one_out(trace, R, 0.3), reference.left_out(full, R, 0.3)
    )  # Theta = trace kernel (x) I_K
    torch.testing.assert_close(sp.kernel_ridge(trace, R, 0.3), sp.kernel_ridge(full, R, 0.3))


def test_leave_one_out_accuracy_counts_arg_max_hits() -> None:
    change = torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert sp.leave_one_out_accuracy(change, logits, torch.tensor([1, 1, 0])) == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize("p", SHAPES)
def test_a_duplicated_example_is_fitted_as_one(p: int) -> None:
    J, J_test, _, _, R = problem(p)
    J, R = torch.cat([J, J[:1]]), torch.cat([R, R[:1]])
    theta, cross = (torch.einsum("ikp,jlp->ikjl", a, J) for a in (J, J_test))
    limit = J_test @ (torch.linalg.pinv(J.flatten(0, 1)) @ R.flatten())
    torch.testing.assert_close(sp.gradient_flow(theta, R, math.inf, cross), limit)


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_filters_lie_between_zero_and_their_limits(value: float, time: float) -> None:
    values = torch.tensor([value, 0.0], dtype=torch.float64)
    found = flow_filter(values, time, n=5)
    assert found[1] == pytest.approx(time / 5)
    assert 0 <= found[0] <= time / 5 * (1 + 1e-12)
    assert found[0] * value <= 1 + 1e-12
    assert (ridge_filter(values, time) >= 0).all()


def test_scaled_residual_is_the_difference_of_centred_logits() -> None:
    logits, one_hot = draw(4, 3), torch.eye(3).double()[[0, 1, 2, 0]]
    R = sp.scaled_residual(logits, one_hot, scale=2.0)
    assert R.sum(1).abs().max() < 1e-12
    fitted = logits + R
    assert (fitted.argmax(1) == one_hot.argmax(1)).all()
    torch.testing.assert_close(fitted[0, 0] - fitted[0, 1], torch.tensor(2.0).double())
    assert sp.scaled_residual(logits, one_hot).std() > 0


def test_what_cannot_be_predicted_is_said() -> None:
    J, _, theta, cross, R = problem(5)
    with pytest.raises(InputError, match="rho must be at least 0"):
        sp.kernel_ridge(theta, R, -1.0)
    with pytest.raises(InputError, match="time must be at least 0"):
        sp.gradient_flow(theta, R, math.nan)
    with pytest.raises(InputError, match="rho must be above 0"):
        sp.leave_one_out(theta, R, 0.0)
    with pytest.raises(InputError, match="lost in the rounding errors"):
        sp.leave_one_out(1e9 * torch.ones(9, 1, 9, 1), draw(9, 1), 1e-12)
    with pytest.raises(InputError, match="one column for each"):
        sp.kernel_ridge(theta, R, 1.0, cross[:, :, :2])
    with pytest.raises(InputError, match="ascending"):
        sp.cross_entropy_flow(theta, R, LABELS, [1.0, 0.5])
    with pytest.raises(InputError, match="Use the full kernel"):
        sp.cross_entropy_flow(torch.eye(N), R, LABELS, [1.0])
    with pytest.raises(InputError, match="the kernel is zero"):
        sp.kernel_ridge(0 * theta, R, 1.0)
    with pytest.raises(InputError, match="the residual must be finite"):
        sp.kernel_ridge(theta, R / 0, 1.0)
    with pytest.raises(InputError, match="the Jacobian must be finite"):
        sp.leave_one_out_dual(J / 0, R, 1.0)
