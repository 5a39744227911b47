"""The one module: its parts in order, its own tensors, and its functional form."""

from __future__ import annotations

import pytest
import torch
from cases import tiny_source, tiny_task

import reprogram as rp
from reprogram.model import Reprogrammed, count_parameters


def built(name: str, seed: int = 0) -> Reprogrammed:
    task, source, method = tiny_task(), tiny_source(), rp.get_method(name)
    settings = method.resolve(source, task.native_size, len(task.train))
    return method.build(source, task.class_names, settings, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["pad+linear", "head-finetune", "full-finetune"])
def test_forward_is_the_mapping_of_the_source_of_the_transform(name: str) -> None:
    model = built(name).eval()
    x = torch.rand(4, 3, *[model.input_transform.image_size] * 2)
    z = model.input_transform(x)
    read = model.source.features(z) if model.mapping.reads == "features" else model.source(z)
    assert torch.equal(model(x), model.mapping(read))


@pytest.mark.parametrize("name", ["pad+linear", "smm+first", "head-finetune"])
def test_functional_is_the_model_and_has_its_gradients(name: str) -> None:
    model = built(name).train()
    f, params = rp.functional(model)
    x = torch.rand(4, 3, *[model.input_transform.image_size] * 2)
    assert params.keys() == rp.trainable(model).keys()
    assert torch.equal(f(params, x), model.eval()(x)) and f(params, x).shape == (4, 3)
    model(x).sum().backward()
    gradients = torch.func.grad(lambda p: f(p, x).sum())(params)
    for key, p in rp.trainable(model).items():
        torch.testing.assert_close(gradients[key], p.grad)


def test_own_tensors_come_back() -> None:
    model, other = built("smm+blm+", seed=0), built("smm+blm+", seed=1)
    other.load_own_tensors(model.own_tensors())
    for key, tensor in model.own_tensors().items():
        assert torch.equal(tensor, other.own_tensors()[key]), key
    assert not any(key.startswith("source.") for key in model.own_tensors())


def test_a_padding_prompt_counts_its_border_only() -> None:
    model = built("pad+ilm")
    assert model.input_transform.image_size == 14
    assert count_parameters(model) == 3 * (16**2 - 14**2)
    assert count_parameters(built("smm+ilm")) == 3 * 16**2 + 26_499


def test_the_public_names_exist() -> None:
    for name in rp.__all__:
        assert getattr(rp, name) is not None
    assert set(rp.__all__) <= set(dir(rp))
    with pytest.raises(AttributeError, match="frobnicate"):
        rp.frobnicate  # noqa: B018
