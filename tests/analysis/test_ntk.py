"""Kernels against their definition and the identities I1 to I11 of the design, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import reference_ntk
import torch
from ntk_models import METHODS, built, images
from torch import Tensor, nn

from reprogram.analysis.ntk import closed_forms as forms
from reprogram.analysis.ntk import (
    dual_of,
    eigenvalues_of,
    empirical_ntk,
    kernel_of,
    pseudo_ntk,
    sensitivities_of,
    trace_kernel,
)
from reprogram.analysis.ntk.factor import Factor, explicit, kernel
from reprogram.analysis.spectrum import summarise
from reprogram.model import Reprogrammed, functional, trainable
from reprogram.sources import NetworkSource

TIGHT = 1e-10


def close(found: Tensor, expected: Tensor, tolerance: float = TIGHT) -> bool:
    return bool((found - expected).norm() <= tolerance * expected.norm())


def matrix(theta: Tensor) -> Tensor:
    return theta.flatten(2).flatten(0, 1)


def reference_of(model: Reprogrammed, x: Tensor, x2: Tensor | None = None) -> Tensor:
    f, params = functional(model)
    j = reference_ntk.jacobian(f, params, x)
    return reference_ntk.kernel(j, j if x2 is None else reference_ntk.jacobian(f, params, x2))


def eigenvalues(theta: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(theta).flip(0)


@pytest.mark.parametrize("name", METHODS)
def test_sensitivities_give_the_kernel_of_every_method(name: str) -> None:
    model = built(name)
    x = images(model, 3)
    found = kernel_of(model, x)
    assert found.rows == "sensitivities"
    assert close(found.values, reference_of(model, x))
    assert found.values.dtype == torch.float64


@pytest.mark.parametrize("name", ["pad+flm", "fc+flm", "linear-probe", "full-finetune"])
def test_contraction_gives_the_same_between_two_sets(name: str) -> None:
    model = built(name)
    x, x2 = images(model, 3), images(model, 2, seed=1)
    expected = reference_of(model, x, x2)
    assert expected.shape == (3, 3, 2, 3)
    assert close(kernel_of(model, x, x2).values, expected)
    found = kernel_of(model, x, x2, rows="jacobian")
    assert found.rows == "jacobian"
    assert close(found.values, expected)
    assert close(empirical_ntk(*functional(model), x, x2), expected)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("full+flm", {"clamp": True}),
        ("lowrank+linear", {"clamp": True}),
        ("patch+flm", {"position": "random"}),
        ("smm+flm", {"mask": "vit"}),
    ],
)
def test_options_of_prompts(name: str, changes: dict[str, Any]) -> None:
    model = built(name, **changes)
    x = images(model, 3)
    assert close(kernel_of(model, x).values, reference_of(model, x))


def test_more_target_classes_than_source_outputs_take_a_pass_an_output() -> None:
    model = built("pad+linear", num_targets=15)
    x = images(model, 2)
    assert close(kernel_of(model, x).values, reference_of(model, x))


@pytest.mark.parametrize("name", ["full+linear", "fc+flm", "full-finetune"])
def test_trace_and_pseudo_kernels(name: str) -> None:
    model = built(name)
    x = images(model, 3)
    theta = kernel_of(model, x).values
    trace = torch.einsum("ncmc->nm", theta) / 3
    pseudo = theta.sum((1, 3)) / 3  # (sum_c J_c) (sum_e J_e)^T / k
    assert close(kernel_of(model, x, kind="trace").matrix, trace)
    assert close(kernel_of(model, x, kind="pseudo").matrix, pseudo)
    assert close(trace_kernel(*functional(model), x), trace)
    assert close(pseudo_ntk(*functional(model), x), pseudo)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_any_callable_agrees_with_jacrev() -> None:
    f, params = functional(Mlp())
    x, x2 = torch.randn(6, 5).double(), torch.randn(4, 5).double()

    def rows(x: Tensor) -> Tensor:
        by_name = torch.func.jacrev(f)(params, x)
        return torch.cat([by_name[name].flatten(2) for name in params], 2)

    expected = torch.einsum("ncp,mep->ncme", rows(x), rows(x2))
    assert close(empirical_ntk(f, params, x, x2), expected)


def test_float32_rows_are_multiplied_in_float64() -> None:
    torch.manual_seed(0)
    rows = torch.randn(6, 5, 64)
    rows[3:] = rows[:3] + 1e-5 * torch.randn(3, 5, 64)
    exact = rows.double().flatten(0, 1)
    f = lambda p, x: rows[x[:, 0].long()] @ p["w"]  # noqa: E731
    x = torch.arange(6.0)[:, None]
    theta = empirical_ntk(f, {"w": torch.zeros(64)}, x).flatten(2).flatten(0, 1)
    torch.testing.assert_close(theta, exact @ exact.T, rtol=1e-13, atol=1e-13)
    # float32 products have eigenvalues of -1e-6 here.
    smallest = float(torch.linalg.eigvalsh(theta)[0])
    assert smallest == pytest.approx(float(torch.linalg.eigvalsh(exact @ exact.T)[0]), rel=1e-3)


def test_one_example_of_one_class() -> None:
    f, params = functional(nn.Linear(3, 1).double())
    x = torch.tensor([[1.0, 2.0, 2.0]]).double()
    for theta in (empirical_ntk, trace_kernel, pseudo_ntk):
        assert theta(f, params, x).flatten().tolist() == [10.0]


@pytest.mark.parametrize("bias", [True, False])
def test_i1_linear_model(bias: bool) -> None:
    x = torch.randn(5, 4).double()
    f, params = functional(nn.Linear(4, 3, bias=bias).double())
    expected = torch.kron(x @ x.T + bias, torch.eye(3).double())
    assert close(matrix(empirical_ntk(f, params, x)), expected)


def masked(model: Reprogrammed, x: Tensor, mask: Tensor) -> Tensor:
    """The kernel of an additive prompt on the pixels of a mask, at the base point of `full`."""
    s = sensitivities_of(model, x)
    assert s.gradients is not None
    factor = forms.additive(s.gradients, model.input_transform.std * mask)
    return matrix(kernel([factor], [factor]))


def test_i2_masks_at_one_base_point_add_and_lower_no_eigenvalue() -> None:
    model = built("full+flm")
    x = images(model, 4)
    mask = torch.zeros(16, 16).double()
    mask[:5] = 1
    full = kernel_of(model, x).matrix
    parts = [masked(model, x, m) for m in (mask, 1 - mask)]
    assert close(parts[0] + parts[1], full)
    larger = mask.clone()
    larger[:, :9] = 1
    slack = TIGHT * eigenvalues(full)[0]
    grown = eigenvalues(masked(model, x, larger))
    assert (grown >= eigenvalues(parts[0]) - slack).all()
    assert (eigenvalues(full) >= grown - slack).all()


def test_i3_one_to_one_label_maps_interlace() -> None:
    model = built("full+first", num_targets=12)
    x = images(model, 3)
    model.mapping.weight.copy_(torch.eye(12))
    source = kernel_of(model, x).values
    choice = torch.zeros(12, 3).double()
    choice[[7, 0, 4], [0, 1, 2]] = 1
    model.mapping.weight = choice
    model.mapping.num_target_classes = 3
    target = kernel_of(model, x).matrix
    assert close(matrix(forms.mapped(source, choice)), target)
    outer, inner = eigenvalues(matrix(source)), eigenvalues(target)
    slack = TIGHT * outer[0]
    assert (inner <= outer[: len(inner)] + slack).all()
    assert (inner >= outer[-len(inner) :] - slack).all()


def test_i4_softmax_outputs_give_b_theta_b() -> None:
    model = built("full+flm")
    x = images(model, 4)
    f, params = functional(model)
    theta = kernel_of(model, x).matrix
    p = f(params, x).softmax(1)
    b = torch.block_diag(*(torch.diag(q) - torch.outer(q, q) for q in p))
    found = matrix(empirical_ntk(lambda params, x: f(params, x).softmax(1), params, x))
    assert close(found, b @ theta @ b.T)
    assert (eigenvalues(found)[-4:] <= TIGHT * eigenvalues(found)[0]).all()


@pytest.mark.parametrize("name", ["full+flm", "fc+flm"])
def test_i6_a_duplicate_adds_one_null_vector_an_output(name: str) -> None:
    model = built(name)
    x = images(model, 3)
    twice = torch.cat([x, x[:1]])
    for kind, added in (("full", 3), ("trace", 1)):
        rank = [
            int(torch.linalg.matrix_rank(kernel_of(model, v, kind=kind).matrix, rtol=TIGHT))
            for v in (x, twice)
        ]
        assert rank == [3 * added, 3 * added]  # of 3 and 4 examples


@pytest.mark.parametrize("name", ["pad+flm", "smm+linear", "fc-pad+flm"])
def test_i7_trace_is_the_sum_of_squared_gradient_norms(name: str) -> None:
    model = built(name)
    x = images(model, 3)
    total = torch.zeros(()).double()
    for example in x:
        for logit in model(example[None])[0]:
            grads = torch.autograd.grad(
                logit, list(trainable(model).values()), retain_graph=True, allow_unused=True
            )
            total += sum(g.square().sum() for g in grads if g is not None)
    assert close(kernel_of(model, x).matrix.trace(), total)


@pytest.mark.parametrize("name", ["pad+linear", "full-finetune"])
def test_i8_symmetric_positive_and_permuted_with_its_examples(name: str) -> None:
    model = built(name)
    x = images(model, 4)
    kernel = kernel_of(model, x)
    assert close(kernel.matrix, kernel.matrix.T)
    assert eigenvalues(kernel.matrix)[-1] >= -TIGHT * eigenvalues(kernel.matrix)[0]
    order = torch.tensor([2, 0, 3, 1])
    permuted = kernel_of(model, x[order]).values
    assert close(permuted, kernel.values[order][:, :, order])


def test_parameters_that_reach_nothing_are_not_counted() -> None:
    model = built("pad+flm")
    x = images(model, 6)
    ways = {rows: kernel_of(model, x, rows=rows) for rows in ("sensitivities", "jacobian")}
    assert {found.parameters for found in ways.values()} == {180}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) > 180
    mapped = built("none+linear")
    found = kernel_of(mapped, images(mapped, 40))  # fewer parameters than its 120 rows
    summary = summarise(found.values, parameters=found.parameters)
    assert summary.lambda_min == 0 < summary.smallest_nonzero


def test_i9_scale_shift_and_frozen_parameters() -> None:
    model = built("pad+linear")
    x = images(model, 3)
    f, params = functional(model)
    theta = empirical_ntk(f, params, x)
    assert close(empirical_ntk(lambda p, x: 3 * f(p, x), params, x), 9 * theta)
    assert close(empirical_ntk(lambda p, x: f(p, x) + 7, params, x), theta)
    model.mapping.linear.weight.requires_grad_(False)
    before = kernel_of(model, x)
    assert before.parameters == 180 + 3  # the border, and the bias of the mapping
    assert close(before.values, reference_of(model, x))
    model.mapping.linear.bias.requires_grad_(False)
    only_border = kernel_of(model, x).matrix
    eye = torch.eye(3).double()
    assert close(before.matrix, only_border + torch.kron(torch.ones(3, 3).double(), eye))


def test_i10_parameter_groups_add() -> None:
    model = built("smm+linear")
    x = images(model, 3)
    f, params = functional(model)
    total = torch.zeros(3, 3, 3, 3).double()
    for prefix in ("input_transform.delta", "input_transform.mask", "mapping"):
        group = {name: p for name, p in params.items() if name.startswith(prefix)}
        total += empirical_ntk(lambda p, x: f({**params, **p}, x), group, x)
    assert close(kernel_of(model, x).values, total)


def sensitivities(f: Any, z: Tensor) -> Tensor:
    """S by the definition: every logit's gradient by every pixel."""
    return torch.stack([torch.func.jacrev(lambda v: f(v[None])[0])(v) for v in z])


def test_i11_additive_fc_and_mix_in_closed_form() -> None:
    for name in ("pad+flm", "full+flm", "fc+flm", "fc-pad+flm"):
        model, transform = built(name), built(name).input_transform
        x = images(model, 3)
        z = model.input_transform(x).detach()
        s = sensitivities(lambda z, m=model: m.mapping(m.source(z)), z).flatten(2)
        inner = x.flatten(1) @ x.flatten(1).T + 1
        sigmoid = torch.sigmoid
        if name == "full+flm":
            expected = s.flatten(0, 1) * transform.std.expand(3, 16, 16).flatten()
            expected = expected @ expected.T
        elif name == "pad+flm":
            d = sigmoid(transform.delta)
            slope = (transform.border * d * (1 - d)).flatten()
            expected = (s * slope).flatten(0, 1) @ (s * slope).flatten(0, 1).T
        elif name == "fc+flm":
            expected = s.flatten(0, 1) @ s.flatten(0, 1).T * torch.kron(inner, torch.ones(3, 3))
        else:
            d, border = sigmoid(transform.padding.delta), transform.padding.border
            slope = (border * d * (1 - d)).flatten()
            window = s * (~border).expand(3, 16, 16).flatten()
            expected = (s * slope).flatten(0, 1) @ (s * slope).flatten(0, 1).T
            expected = expected + window.flatten(0, 1) @ window.flatten(0, 1).T * torch.kron(
                inner, torch.ones(3, 3)
            )
            factors = forms.mix(s.view(3, 3, 3, 16, 16), x, slope.view(3, 16, 16), border)
            assert close(matrix(kernel(factors, factors)), expected.detach())
        assert close(kernel_of(model, x).matrix, expected.detach()), name


def test_i11_low_rank_layer_against_autograd() -> None:
    model = built("none+first", num_targets=12)
    x = images(model, 3).flatten(1)
    generator = torch.Generator().manual_seed(3)
    params = {
        "A": torch.randn(2, 768, generator=generator).double() / 30,
        "B": torch.randn(768, 2, generator=generator).double() / 30,
    }

    def transformed(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return x + x @ p["A"].T @ p["B"].T

    def f(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return model(transformed(p, x).view(-1, 3, 16, 16))

    s = sensitivities(lambda z: model(z.view(-1, 3, 16, 16)), transformed(params, x))
    factors = forms.low_rank_fc(s, x, params["A"], params["B"])
    assert close(kernel(factors, factors), empirical_ntk(f, params, x))


def test_i11_mapping_term_and_linear_source() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    source = NetworkSource(
        linear, mean=0.5, std=0.25, image_size=16, class_names="abcd", name="linear", head="1"
    ).double()
    model = built("full+linear")
    model = Reprogrammed(
        model.input_transform, source, built("none+first", 4).mapping, tuple("abcd")
    )
    model.mapping.weight = torch.eye(4).double()
    x = images(model, 3)
    theta = kernel_of(model.eval(), x)
    blocks = theta.values.permute(0, 2, 1, 3).flatten(0, 1)
    assert all(close(block, blocks[0]) for block in blocks)  # the same for every pair
    assert torch.linalg.matrix_rank(theta.matrix, rtol=TIGHT) <= 4
    outputs = torch.randn(3, 4).double()
    factor = forms.linear_mapping(outputs, 2)
    expected = torch.kron(outputs @ outputs.T + 1, torch.eye(2).double())
    assert close(matrix(kernel([factor], [factor])), expected)


def test_schur_bound_of_the_dense_map() -> None:
    model = built("fc+flm")
    x = images(model, 3)
    s = sensitivities_of(model, x).gradients
    assert s is not None
    additive = matrix(kernel([Factor(s.flatten(2))], [Factor(s.flatten(2))]))
    bound = eigenvalues(additive)[-1] * (x.flatten(1).square().sum(1).min() + 1)
    assert bound > 0
    assert eigenvalues(kernel_of(model, x).matrix)[-1] >= bound


def test_factors_spelled_out_are_the_jacobian_in_the_order_of_unravel() -> None:
    from reprogram.analysis.ntk.jacobian import SensitivityJacobian

    for name in ("fc-pad+linear", "lowrank+linear", "scale+flm"):
        model = built(name)
        x = images(model, 2)
        jacobian = SensitivityJacobian(model)
        f, params = functional(model)
        move = torch.randn(jacobian.parameters).double()
        named = jacobian.unravel(move)
        flat = torch.cat([named[n].flatten() for n in params])
        expected = reference_ntk.jacobian(f, params, x) @ flat
        assert close(explicit(jacobian.factors(x)) @ move, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_same_kernel() -> None:
    model = built("smm+linear")
    x = images(model, 3)
    expected = kernel_of(model, x).values
    found = kernel_of(model.cuda(), x)
    assert found.values.device.type == "cuda"
    assert close(found.values.cpu(), expected)
    top = eigenvalues(expected.flatten(2).flatten(0, 1))[:2]
    for route in ("lanczos", "matrix-free"):
        assert close(eigenvalues_of(model, x, route=route, count=2).values, top)
    model = built("pad+flm")
    x = images(model, 3)
    top = eigenvalues(kernel_of(model, x).matrix)
    assert close(dual_of(model.cuda(), x).eigenvalues().cpu(), top)
