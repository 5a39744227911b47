"""What every method promises, checked on a tiny task: a new line in METHODS is picked up here."""

from __future__ import annotations

import pytest
import torch
from cases import TARGET_CLASSES, tiny_source, tiny_task

from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import Batch, ResidentData
from reprogram.experiments import Cell, run_cell
from reprogram.methods import METHODS, get_method
from reprogram.model import Reprogrammed, trainable
from reprogram.training import make_optimizer

NAMES = [*METHODS, "pad+ilm@refit", "pad+flm@linearized", "full+linear@linearized"]
# What a row says about the machine and the moment, not about the result.
CIRCUMSTANCES = {"seconds", "test_seconds", "images_per_second"}


def trains_something(name: str) -> bool:
    """Without a prompt, a fitted or fixed mapping has nothing that a gradient could change."""
    return not name.startswith("none+") or name == "none+linear"


def built(name: str) -> tuple[Reprogrammed, torch.Tensor, torch.Tensor]:
    task, source = tiny_task(), tiny_source()
    method = get_method(name)
    settings = method.resolve(source, task.native_size, len(task.train))
    model = method.build(source, task.class_names, settings, torch.Generator().manual_seed(0))
    data = ResidentData({"train": task.train}, model.input_transform.image_size, Augmentation())
    x = data.render(Batch("train", torch.arange(24)))
    labels = data.labels["train"][:24]
    model.mapping.fit(model.eval().outputs(x).detach(), labels)
    return model, x, labels


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_one_column_a_class_and_the_input_is_left_alone(name: str) -> None:
    model, x, _ = built(name)
    before = x.clone()
    logits = model(x)
    assert logits.shape == (24, TARGET_CLASSES)
    assert torch.isfinite(logits).all()
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [n for n in NAMES if trains_something(n)])
def test_every_trainable_gets_a_gradient_within_two_steps(name: str) -> None:
    model, x, labels = built(name)
    params = trainable(model)
    assert params
    optimizer = make_optimizer(model, get_method(name).settings)
    moved = dict.fromkeys(params, False)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        for key, p in params.items():
            moved[key] |= p.grad is not None and bool((p.grad != 0).any())
    # A bias in front of a BatchNorm in train mode is subtracted again with the mean.
    exempt = {
        f"input_transform.mask.{i}.bias" for i, _ in enumerate(model.input_transform.modules())
    }
    assert [key for key, ok in moved.items() if not ok and key not in exempt] == []


@pytest.mark.parametrize("name", NAMES)
def test_fit_leaves_the_source_bitwise_and_repeats_itself(name: str) -> None:
    task, source = tiny_task(), tiny_source()
    before = {k: v.clone() for k, v in source.state_dict().items()}
    settings = get_method(name).settings.updated({"steps": 3, "batch_size": 16})
    cell = Cell("tiny", "tiny", name, settings=settings)
    rows = [run_cell(cell, source=source, task=task).row for _ in range(2)]
    after = source.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(not p.requires_grad for p in source.parameters())
    first, second = ({k: v for k, v in row.items() if k not in CIRCUMSTANCES} for row in rows)
    assert first == second


@pytest.mark.parametrize("name", ["pad+ilm", "pad-raw+flm", "fc-pad+ilm"])
def test_padding_learns_on_the_border_only(name: str) -> None:
    model, x, labels = built(name)
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    (delta,) = (p for k, p in trainable(model).items() if k.endswith("delta"))
    size = model.input_transform.image_size
    top = (model.source.image_size - size + 1) // 2
    inside = delta.grad[:, top : top + size, top : top + size]
    assert (inside == 0).all()
    assert delta.grad[:, 0].ne(0).any()
