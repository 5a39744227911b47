"""Every exact route gives one answer, an estimate lies within its error, and bad input is named."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import tiny_source
from ntk_models import built, images
from torch import Tensor, nn

from reprogram.analysis.ntk import (
    FunctionOperator,
    KernelOperator,
    costs,
    dual_of,
    eigenvalues_of,
    empirical_ntk,
    hutchpp,
    kernel_of,
    lanczos,
    linearised,
    rows_of,
)
from reprogram.analysis.ntk.jacobian import jacobian_of
from reprogram.analysis.ntk.operators import TableOperator
from reprogram.analysis.ntk.table import FactorTable
from reprogram.analysis.spectrum import ridge_dual
from reprogram.errors import InputError
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, functional

TIGHT = 1e-10


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= TIGHT * expected.norm())


@pytest.mark.parametrize("name", ["pad+flm", "full+linear", "fc-pad+linear", "full-finetune"])
def test_exact_routes_agree(name: str) -> None:
    model = built(name)
    x = images(model, 4)
    theta = kernel_of(model, x).matrix
    expected = torch.linalg.eigvalsh(theta).flip(0)
    routes = ["auto", "gram"] if name in ("fc-pad+linear", "full-finetune") else ["gram", "dual"]
    for route in routes:
        found = eigenvalues_of(model, x, route=route)
        assert found.errors is None
        assert close(found.values, expected)
        assert found.trace.error == 0
        assert abs(found.trace.value - theta.trace()) <= TIGHT * theta.trace()


def test_i5_dual_and_primal_ridge_agree_and_predict_the_same() -> None:
    model = built("pad+linear")
    x, new = images(model, 12), images(model, 5, seed=1)
    f, params = functional(model)
    residual = torch.eye(3).double().repeat(4, 1) - f(params, x)
    rho = 1e-3 * float(kernel_of(model, x).matrix.trace())
    primal = torch.linalg.solve(
        kernel_of(model, x).matrix + rho * torch.eye(36).double(), residual.flatten()
    )
    expected = (kernel_of(model, new, x).matrix @ primal).view(5, 3)
    dual = dual_of(model, x, residual)
    weights = ridge_dual(dual.matrix, dual.moment, rho)
    assert close(rows_of(model, new) @ weights, expected)
    f0, change = linearised(f, params, dual.unravel(weights), new, batch_size=2)
    assert close(change, expected)
    assert close(f0, f(params, new))
    assert dual.square == pytest.approx(float(residual.square().sum()), rel=TIGHT)
    assert close(dual.jacobian_mean, rows_of(model, x).mean(0))


def test_dual_matrix_is_streamed_and_holds_smaller_masks() -> None:
    model = built("full+flm")
    x = images(model, 9)
    j = rows_of(model, x).flatten(0, 1)
    seen: list[tuple[int, int]] = []
    found = dual_of(model, x, batch_size=2, on_progress=lambda done, n: seen.append((done, n)))
    assert close(found.matrix, j.T @ j)
    assert seen == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    kept = torch.arange(0, 768, 5)
    block = found.matrix[kept][:, kept]
    assert close(block, j[:, kept].T @ j[:, kept])


def test_bytes_are_images() -> None:
    model = built("pad+flm")
    x = images(model, 3).mul(255).to(torch.uint8)
    assert close(kernel_of(model, x).matrix, kernel_of(model, x.double() / 255).matrix)
    assert close(dual_of(model, x).matrix, dual_of(model, x.double() / 255).matrix)


@pytest.mark.parametrize(
    "name, route",
    [
        ("full+flm", "lanczos"),
        ("fc-pad+linear", "lanczos"),
        ("full-finetune", "lanczos"),
        ("full-finetune", "matrix-free"),
        ("smm+linear", "matrix-free"),
    ],
)
def test_i15_lanczos_against_dense(name: str, route: str) -> None:
    model = built(name)
    x = images(model, 4)
    exact = torch.linalg.eigvalsh(kernel_of(model, x).matrix).flip(0)
    found = eigenvalues_of(model, x, route=route, count=3)
    assert found.route == route
    assert found.errors is not None
    assert ((found.values - exact[:3]).abs() <= found.errors).all()
    assert (found.errors <= TIGHT * exact[0]).all()


class Matrix(KernelOperator):
    """A kernel that is at hand, as an operator."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.size = matrix, len(matrix)

    def __matmul__(self, u: Tensor) -> Tensor:
        return self.matrix @ u

    def trace(self) -> None:
        return None


@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
def test_stochastic_trace_lies_within_its_error(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(300, 300, generator=generator).double())
    values = torch.arange(1, 301).double() ** -decay
    theta = basis * values @ basis.T
    for seed in range(20):
        found = hutchpp(Matrix(theta), 60, seed=seed)
        assert 0 < abs(found.value - float(values.sum())) <= found.error < 0.2 * values.sum()


def test_stochastic_trace_is_exact_where_products_suffice() -> None:
    theta = torch.diag(torch.arange(10).double())
    assert hutchpp(Matrix(theta), 30) == (45.0, 0.0)


def test_products_by_differentiation_are_those_of_the_kernel() -> None:
    f, params = functional(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double())
    x, u = torch.randn(7, 4).double(), torch.randn(14, 3).double()
    theta = empirical_ntk(f, params, x).flatten(2).flatten(0, 1)
    assert close(FunctionOperator(f, params, x, batch_size=3) @ u, theta @ u)


def test_auto_takes_the_cheapest_route_that_fits() -> None:
    model = built("pad+flm")  # P = 180
    few, many = images(model, 4), images(model, 80)
    assert eigenvalues_of(model, few).route == "gram"
    assert eigenvalues_of(model, many).route == "dual"
    small = eigenvalues_of(model, many, max_memory=200_000, count=3)
    assert small.route == "lanczos"
    assert ((small.values - eigenvalues_of(model, many).values[:3]).abs() <= small.errors).all()
    assert eigenvalues_of(built("fc+flm"), images(built("fc+flm"), 3)).route == "hadamard"
    table = costs(10_000, 10, 9_440_256, 3_072)
    assert table["gram"].bytes < table["dual"].bytes


def test_a_jacobian_above_max_memory_lies_in_files() -> None:
    model = built("smm+flm")
    x = images(model, 4)
    expected = kernel_of(model, x)
    assert expected.bytes > 1_000_000
    assert close(kernel_of(model, x, max_memory=1_000_000).matrix, expected.matrix)


def test_an_interrupted_jacobian_is_resumed(tmp_path: Path) -> None:
    model = built("fc-pad+linear")
    x = images(model, 7)
    expected = kernel_of(model, x)

    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kernel_of(model, x, store=tmp_path, batch_size=2, on_progress=stop)
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 4
    seen: list[int] = []
    found = kernel_of(
        model, x, store=tmp_path, batch_size=2, on_progress=lambda done, _: seen.append(done)
    )
    assert seen == [4, 6, 7]
    assert close(found.matrix, expected.matrix)
    eigenvalues_of(model, x, route="lanczos", count=2, store=tmp_path)  # reuses the same rows
    with pytest.raises(InputError, match="another model or of other inputs"):
        kernel_of(model, x.flip(0), store=tmp_path)
    # What the mapping reads of x is not known when its rows are taken up, and x2's is not it.
    assert kernel_of(model, x, x.flip(0), store=tmp_path).reads is None
    with torch.no_grad():
        model.input_transform.padding.delta += 1
    with pytest.raises(InputError, match="another model or of other inputs"):
        kernel_of(model, x, store=tmp_path)


def test_a_full_kernel_of_many_classes_recommends_a_small_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = built("pad+linear", num_targets=44)
    with caplog.at_level(logging.WARNING):
        found = kernel_of(model, images(model, 1))
    assert "kind=trace" in found.note and found.note in caplog.text
    assert kernel_of(model, images(model, 1), kind="trace").note == ""


def refused(message: str, model: Reprogrammed, x: Tensor, **options: object) -> None:
    with pytest.raises(InputError, match=message):
        kernel_of(model, x, **options)


def test_train_mode_is_refused() -> None:
    model = built("smm+flm")
    x = images(model, 2)
    refused(r"input_transform.mask.1 \(BatchNorm2d\) is in train mode", model.train(), x)
    model = built("patch+flm", position="random")
    refused(r"Patch\) is in train mode", model.train(), images(model, 2))
    model = built("pad+flm")  # nothing of it differs between the modes
    x = images(model, 2)
    assert close(kernel_of(model.train(), x).matrix, kernel_of(model.eval(), x).matrix)


@pytest.mark.parametrize(
    "layer, message", [(nn.BatchNorm1d(4), "BatchNorm"), (nn.Dropout(), "random")]
)
def test_train_mode_of_any_callable_is_refused(layer: nn.Module, message: str) -> None:
    f, params = functional(network := nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2)))
    network.train()
    with pytest.raises(InputError, match=message):
        empirical_ntk(f, params, torch.randn(5, 3))


def test_nothing_trained_is_refused() -> None:
    model = built("none+flm")
    refused("no trainable parameters", model, images(model, 2))
    with pytest.raises(InputError, match="no trainable parameters"):
        empirical_ntk(lambda p, x: x, {}, torch.ones(1, 2))


def test_a_border_that_is_not_trained_is_left_out() -> None:
    model = built("fc-pad+flm")
    model.input_transform.padding.delta.requires_grad_(False)
    x = images(model, 3)
    assert close(kernel_of(model, x).matrix, kernel_of(model, x, rows="jacobian").matrix)


def test_lanczos_of_one_row_and_of_zeros() -> None:
    model = built("pad+flm", num_targets=1)
    x = images(model, 1)
    found = eigenvalues_of(model, x, route="lanczos")
    assert close(found.values, kernel_of(model, x).matrix.flatten())
    values, errors = lanczos(Matrix(torch.zeros(4, 4).double()), 2)
    assert not values.any() and not errors.any()


def test_products_of_a_wide_layer_take_few_columns_at_a_time() -> None:
    model = built("fc+flm")
    table = FactorTable(4)
    jacobian = jacobian_of(model, images(model, 4))
    table.append(jacobian.factors(images(model, 4)))
    operator = TableOperator(table, torch.device("cpu"))
    assert operator.columns == (64 << 20) // (8 * 590_592)
    u = torch.eye(12).double()
    expected = operator @ u
    operator.columns = 5
    assert close(operator @ u, expected)


def test_a_store_that_its_disk_does_not_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = built("pad+flm")
    x = images(model, 4)
    free = SimpleNamespace(free=(64 << 20) + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(InputError, match="whose disk has 0.0 MiB to spare"):
        kernel_of(model, x, store=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    kernel_of(model, x, store=tmp_path / "new")
    free.free = 0
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    kernel_of(model, x, store=tmp_path / "new")  # whole: nothing is written


def test_half_precision_is_kept_in_files_as_it_is(tmp_path: Path) -> None:
    model = built("pad+flm").to(torch.bfloat16)
    x = images(model, 3)
    stored = kernel_of(model, x, store=tmp_path).values
    assert torch.equal(stored, kernel_of(model, x).values)
    assert torch.equal(stored, kernel_of(model, x, store=tmp_path).values)


def test_rows_of_a_batch_stay_within_memory() -> None:
    model = built("pad+blm", num_targets=200)
    jacobian = jacobian_of(model, images(model, 1))
    row = 8 * 200 * (3 * 16**2 + jacobian.parameters)
    assert jacobian.batch_size(images(model, 64), 4 << 30) == 128
    assert jacobian.batch_size(images(model, 64), 40 * row) == 10
    assert jacobian.batch_size(images(model, 64), 1) == 1


def test_gradients_that_are_not_finite_are_refused() -> None:
    model = built("full+flm")
    x = images(model, 3)
    x[1, 0, 0, 0] = torch.nan
    refused("1 of 3 examples .the first is 1", model, x)
    with pytest.raises(InputError, match="NaN or infinity"):
        empirical_ntk(lambda p, x: (p["w"] * x).sqrt(), {"w": torch.zeros(2)}, torch.ones(1, 2))


def test_sizes_above_max_memory_are_told() -> None:
    model = built("fc+flm")
    x = images(model, 2)
    with pytest.raises(InputError, match="dual matrix of 590,592 parameters takes 7,796.3 GiB"):
        dual_of(model, x)
    refused(
        "one example, 590,592 parameters, takes 13.5 MiB",
        model,
        x,
        rows="jacobian",
        max_memory=10**7,
    )
    refused("full kernel of 2 x 2 examples, k = 3, takes", model, x, max_memory=200)
    with pytest.raises(InputError, match="Jacobian of 2 examples and 590,592"):
        rows_of(model, x, max_memory=10**7)
    with pytest.raises(InputError, match="eigenproblem of 6 rows"):
        eigenvalues_of(model, x, route="gram", max_memory=500)


def test_a_kernel_of_zeros_predicts_nothing() -> None:
    source = tiny_source().double()
    method = get_method("full+flm")
    settings = method.resolve(source, 16, 100)
    model = method.build(source, ("a", "b"), settings, torch.Generator()).eval()  # W = 0
    x = images(model, 2)
    assert not kernel_of(model, x).matrix.any()
    dual = dual_of(model, x, torch.ones(2, 2).double())
    with pytest.raises(InputError, match="zero"):
        ridge_dual(dual.matrix, dual.moment, 1.0)


def test_names_and_shapes_that_do_not_fit() -> None:
    model = built("full-finetune")
    x = images(model, 2)
    refused("unknown kind", model, x, kind="traces")
    refused("unknown rows", model, x, rows="sensitivity")
    refused("frozen differentiable source", model, x, rows="sensitivities")
    refused("at least one example", model, x[:0])
    with pytest.raises(InputError, match="unknown route"):
        eigenvalues_of(model, x, route="duel")
    with pytest.raises(InputError, match="residual must be"):
        dual_of(built("pad+flm"), images(built("pad+flm"), 2), torch.ones(2, 4))
    with pytest.raises(InputError, match="must return .n, k."):
        empirical_ntk(lambda p, x: (p["w"] * x).sum(1), {"w": torch.ones(2)}, torch.ones(1, 2))
    with pytest.raises(InputError, match="count must be in 1 to 2"):
        lanczos(Matrix(torch.eye(3).double()), 3)
    with pytest.raises(InputError, match="products must be at least 9"):
        hutchpp(Matrix(torch.eye(30).double()), 3)
