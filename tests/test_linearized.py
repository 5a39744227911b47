"""The first-order model: what it computes, how it trains, how it is kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from cases import CANVAS, SOURCE_CLASSES, tiny_source, tiny_task
from torch import Tensor

import reprogram as rp
from reprogram.analysis import spectrum as sp
from reprogram.analysis.ntk import kernel_of
from reprogram.analysis.ntk.factor import explicit
from reprogram.analysis.ntk.jacobian import jacobian_of
from reprogram.errors import InputError
from reprogram.linearized import Linearized, move_to
from reprogram.model import Reprogrammed, trainable
from reprogram.sources import NetworkSource

NAMES = ["pad+flm", "smm+linear", "lowrank+many", "patch+ilm", "head-finetune", "full-finetune"]


def built(name: str, source: NetworkSource | None = None) -> tuple[Reprogrammed, Tensor]:
    """A model in float64 with a fitted mapping, and inputs."""
    task, source = tiny_task(), source or tiny_source().double()
    method = rp.get_method(name)
    settings = method.resolve(source, task.native_size, len(task.train))
    generator = torch.Generator().manual_seed(0)
    model = method.build(source, task.class_names, settings, generator).eval()
    x = torch.rand(6, 3, *[model.input_transform.image_size] * 2, dtype=torch.float64)
    model.mapping.fit(model.outputs(x).detach(), torch.arange(6) % 3)
    return model, x


def shifted(model: Reprogrammed, size: float) -> dict[str, Tensor]:
    """A move of every trained parameter, the same for a model and its linearisation."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for name, p in trainable(model).items()
    }


@torch.no_grad()
def move(model: Reprogrammed, change: dict[str, Tensor]) -> None:
    for name, p in trainable(model).items():
        p += change[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_start_plus_the_jacobian_times_the_move(name: str) -> None:
    model, x = built(name)
    linear, _ = built(f"{name}@linearized")
    assert isinstance(linear, Linearized) and trainable(linear).keys() == trainable(model).keys()
    torch.testing.assert_close(linear(x), model(x))
    change = shifted(model, 0.3)
    f, params = rp.functional(model)
    _, expected = torch.func.jvp(lambda p: f(p, x), (params,), (change,))
    start = model(x)
    move(linear, change)
    torch.testing.assert_close(linear(x), start + expected)
    assert (linear(x) - start).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["pad+flm", "smm+linear"])
def test_what_it_leaves_out_is_of_second_order(name: str) -> None:
    errors = []
    for size in (1e-3, 5e-4):
        model, x = built(name)
        linear, _ = built(f"{name}@linearized")
        for m in (model, linear):
            move(m, shifted(m, size))
        errors.append(float((model(x) - linear(x)).detach().abs().max()))
    assert 0 < errors[1] < 0.4 * errors[0]  # a quarter; kinks of ReLU passed on the way aside


def test_its_kernel_is_that_of_the_start_wherever_it_moves() -> None:
    model, x = built("pad+linear")
    linear, _ = built("pad+linear@linearized")
    f, params = rp.functional(model)
    expected = torch.func.jacrev(f)(params, x)
    move(linear, shifted(linear, 1.0))
    f_linear, moved = rp.functional(linear)
    found = torch.func.jacrev(f_linear)(moved, x)
    for name, J in expected.items():
        torch.testing.assert_close(found[name], J)


@pytest.mark.parametrize("time", [0.5, math.inf])
def test_i13_its_closed_form_is_where_gradient_descent_leads(time: float) -> None:
    linear, x = built("pad+flm@linearized")
    f, params = rp.functional(linear)
    (J,) = (j.flatten(2) for j in torch.func.jacrev(f)(params, x).values())  # (n, k, P)
    start, targets = linear(x).detach(), torch.eye(3).double()[torch.arange(6) % 3]
    flat, R = J.flatten(0, 1), targets - start
    theta = torch.einsum("ikp,jlp->ikjl", J, J)
    change = sp.gradient_flow_dual(flat.T @ flat, flat.T @ R.flatten(), time, len(x))
    move_to(linear, change)
    torch.testing.assert_close(linear(x), start + sp.gradient_flow(theta, R, time))
    if time == math.inf:
        return
    move_to(linear, torch.zeros_like(change))
    steps = 50
    optimizer = torch.optim.SGD(trainable(linear).values(), lr=time / steps)
    for _ in range(steps):
        optimizer.zero_grad()
        ((linear(x) - targets).square().sum() / (2 * len(x))).backward()
        optimizer.step()
    torch.testing.assert_close(
        linear(x).detach(), start + sp.gradient_flow(theta, R, time), rtol=0, atol=1e-2
    )


@pytest.mark.parametrize("name", ["fc+flm", "fc-pad+flm"])
def test_a_dual_s_solution_goes_into_the_model_by_name(name: str) -> None:
    linear, x = built(f"{name}@linearized")
    jacobian = jacobian_of(linear, x)  # in the order of a dual, weight and bias of a row together
    J = explicit(jacobian.factors(x)).flatten(0, 1)
    moment = J.T @ torch.randn(len(J), dtype=J.dtype, generator=torch.Generator().manual_seed(0))
    start = linear(x).detach()
    move_to(linear, jacobian.unravel(moment))
    torch.testing.assert_close(linear(x), start + (J @ moment).view_as(start))


def test_its_kernel_stays_that_of_the_start() -> None:
    linear, x = built("pad+flm@linearized")
    before = kernel_of(linear, x)
    move(linear, shifted(linear, 1.0))
    after = kernel_of(linear, x)
    assert (before.rows, after.rows) == ("sensitivities", "jacobian")
    torch.testing.assert_close(after.values, before.values)


def test_a_closed_form_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="the change must be one of input_transform.delta; got a"):
        move_to(built("pad+flm@linearized")[0], {"a": torch.zeros(3)})
    with pytest.raises(InputError, match="without trained parameters"):
        move_to(built("pad+linear@linearized")[0], torch.zeros(3))
    with pytest.raises(InputError, match="must hold 768 values"):
        move_to(built("pad+flm@linearized")[0], torch.zeros(3))


def test_no_batchnorm_moves_and_no_patch_wanders() -> None:
    linear, x = built("smm+flm@linearized")
    before = {k: v.clone() for k, v in linear.state_dict().items()}
    linear.train()
    torch.testing.assert_close(linear(x[:2]), linear(x)[:2])
    assert all(torch.equal(before[k], v) for k, v in linear.state_dict().items())


def test_attention_has_a_first_order() -> None:
    from timm.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        img_size=CANVAS, patch_size=8, embed_dim=12, depth=1, num_heads=2,
        num_classes=SOURCE_CLASSES,
    ).double()  # fmt: skip
    names = [f"source_{i}" for i in range(SOURCE_CLASSES)]
    source = NetworkSource(
        network, mean=0.5, std=0.5, image_size=CANVAS, class_names=names, name="vit", head="head"
    ).double()
    linear, x = built("full+flm@linearized", source)
    start = linear(x).detach()
    move(linear, shifted(linear, 1.0))
    linear(x).sum().backward()
    assert (linear(x) != start).any() and linear.input_transform.delta.grad.any()


def test_it_trains_in_the_ordinary_loop(tmp_path: Path) -> None:
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.05, "progress": False, "val_share": 0.0}
    model = rp.fit(tiny_source(), tiny_task(), "pad+flm@linearized", **settings)
    history = model.record["history"]
    assert isinstance(model, Linearized) and model.record["engine"] == "plain"
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    change = model.input_transform.delta - model.start()["input_transform.delta"]
    assert change.any()


@pytest.mark.parametrize("name", ["smm+linear", "lowrank+flm", "head-finetune"])
def test_it_starts_where_its_method_starts(name: str) -> None:
    settings = {"epochs": 0, "batch_size": 16, "progress": False}
    plain, first = (
        rp.fit(tiny_source(), tiny_task(), method, **settings)
        for method in (name, f"{name}@linearized")
    )
    own = dict(first.named_parameters())
    assert trainable(plain)
    for parameter, value in trainable(plain).items():
        assert torch.equal(own[parameter], value)


@pytest.mark.parametrize("name", ["pad+ilm", "smm+linear", "full-finetune"])
def test_it_comes_back_bitwise_and_small(name: str, tmp_path: Path) -> None:
    model = rp.fit(
        tiny_source(), tiny_task(), f"{name}@linearized", epochs=1, batch_size=16, lr=0.1,
        val_share=0.0, progress=False,
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    again = rp.Reprogrammed.from_pretrained(tmp_path, tiny_source())
    x = torch.rand(4, 3, *[model.input_transform.image_size] * 2)
    assert isinstance(again, Linearized) and torch.equal(model(x), again(x))
    stored = model.own_tensors()
    assert not any(key.startswith("start.source.") for key in stored)
    assert ("start.input_transform.delta" in stored) == (name != "full-finetune")


def test_an_artefact_without_its_start_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = rp.fit(
        tiny_source(), tiny_task(), "pad+ilm@linearized", epochs=0, batch_size=16, progress=False
    )
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(weights).items() if not k.startswith("start.")}
    save_file(kept, weights)
    with pytest.raises(InputError, match="does not fit its config"):
        rp.Reprogrammed.from_pretrained(tmp_path, tiny_source())


@pytest.mark.parametrize(("option", "value"), [("engine", "folded"), ("precision", "bf16")])
def test_what_would_pass_by_the_first_order_is_refused(option: str, value: str) -> None:
    method, source = rp.get_method("pad+flm@linearized"), tiny_source()
    settings = method.settings.updated({option: value})
    with pytest.raises(InputError, match=f"{option}={value} cannot serve pad"):
        method.resolve(source, 8, 60, settings)
    assert method.resolve(source, 8, 60).engine == "plain"


def test_with_nothing_to_train_it_is_the_model() -> None:
    model, x = built("none+flm")
    linear, _ = built("none+flm@linearized")
    assert torch.equal(model(x), linear(x)) and not trainable(linear)


def test_export_refuses_what_has_no_graph(tmp_path: Path) -> None:
    from reprogram.export import export

    with pytest.raises(InputError, match="no graph to export"):
        export(built("pad+flm@linearized")[0], tmp_path / "x.pt2", "pt2")
