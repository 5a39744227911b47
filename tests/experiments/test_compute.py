"""Training compute: counted, the same everywhere, and each row charged for itself."""

from __future__ import annotations

import pytest
from cases import CANVAS, tiny_source, tiny_task
from experiments.conftest import Small
from torch import nn

from reprogram.data.batches import ResidentData
from reprogram.engine import StoreEngine
from reprogram.experiments import Cell
from reprogram.experiments.compute import image_cost, training_flops, with_compute
from reprogram.experiments.grid import settings_with
from reprogram.experiments.jobs import Context
from reprogram.experiments.run import augmentation_of, resolved_settings
from reprogram.methods import get_method
from reprogram.seeds import generator_for

N, N_VAL, BATCH, EPOCHS = 50, 10, 16, 2
STEPS = 8  # two passes over 50 images in batches of 16


def row_of(method: str) -> dict:
    settings = get_method(method).resolve(tiny_source(), 8, N).to_dict()
    return {
        "method": method, "num_classes": 3, "n_train": N, "n_val": N_VAL, "steps": STEPS,
        "settings": settings | {"batch_size": BATCH, "epochs": EPOCHS},
    }  # fmt: skip


def convolution_flops() -> int:
    """Of one image through the tiny network, from its shapes: two a multiplication."""
    found = 0

    def add(module: nn.Conv2d, _: tuple, out: object) -> None:
        nonlocal found
        side = out.shape[-1]
        found += 2 * side * side * module.weight.numel()

    source = tiny_source()
    hooks = [m.register_forward_hook(add) for m in source.modules() if isinstance(m, nn.Conv2d)]
    import torch

    source(torch.zeros(1, 3, CANVAS, CANVAS))
    for hook in hooks:
        hook.remove()
    return found


def test_a_probe_pays_one_pass_of_the_frozen_network():
    cost = image_cost(tiny_source(), row_of("linear-probe"))
    body = cost.look - cost.mapping_look
    assert convolution_flops() <= body <= 1.02 * convolution_flops()  # and the last layer
    assert cost.views == 1 and cost.mapping_look == 2 * 12 * 3
    steps = 2 * (2 * 12 * 3) * EPOCHS * N  # forward, and the gradient of the weights
    looks = 2 * 12 * 3 * (EPOCHS + 1) * N_VAL
    assert training_flops(row_of("linear-probe"), cost) == body * (N + N_VAL) + steps + looks


def test_a_flipped_probe_pays_two_views_of_its_training_images():
    plain, row = row_of("linear-probe"), row_of("linear-probe")
    row["settings"] |= {"augment": "flip"}
    cost = image_cost(tiny_source(), row)
    body = cost.look - cost.mapping_look
    assert cost.views == 2
    more = training_flops(row, cost) - training_flops(plain, image_cost(tiny_source(), plain))
    assert more == body * N


def test_what_is_charged_as_stored_is_what_the_store_serves():
    for method in ("linear-probe", "head-finetune", "none+ilm", "pad+ilm", "full-finetune"):
        for augment in ("none", "flip", "crop-flip"):
            cell = Cell("s", "t", method, settings=settings_with(method, {"augment": augment}))
            settings = resolved_settings(cell, tiny_source(), tiny_task())
            row = row_of(method) | {"settings": settings.to_dict()}
            model = get_method(method).build(
                tiny_source(), tuple("abc"), settings, generator_for("x")
            )
            size = model.input_transform.image_size
            data = ResidentData({"train": tiny_task().train}, size, augmentation_of(settings))
            cost = image_cost(tiny_source(), row)
            assert bool(cost.views) == StoreEngine.serves(model, data), (method, augment)


def test_a_prompt_pays_for_every_step_state_and_mapping():
    row = row_of("pad+ilm")
    cost = image_cost(tiny_source(), row)
    assert not cost.views and cost.refit == "epoch"
    assert 1.7 * cost.look < cost.step < 2.1 * cost.look  # backward to the prompt, not the weights
    looks = (EPOCHS + 1) * N_VAL + EPOCHS * N
    assert training_flops(row, cost) == round(cost.step * EPOCHS * N + cost.look * looks)
    full = image_cost(tiny_source(), row_of("full-finetune"))
    assert 2.7 * full.look < full.step < 3.1 * full.look


def test_the_steps_of_a_last_short_pass_are_counted():
    row = row_of("pad+ilm")
    cost = image_cost(tiny_source(), row)
    longer = training_flops(row | {"steps": STEPS + 1}, cost) - training_flops(row, cost)
    assert longer == pytest.approx(cost.step * BATCH + cost.look * (N_VAL + N))


def test_rows_get_it_and_stay_as_they_are(small: Small):
    store, _ = small.run(small.cells(methods=["linear-probe", "pad+ilm"], seeds=[0, 1]))
    rows, entries = store.rows(), store.entries()
    counted, why = with_compute(entries, rows, Context())
    assert not why and all("training_flops" not in row for row in rows)
    by_method: dict[str, set[int]] = {}
    for row in counted:
        by_method.setdefault(row["method"], set()).add(row["training_flops"])
    assert all(len(found) == 1 for found in by_method.values())  # whoever came first pays no more
    assert max(by_method["linear-probe"]) < min(by_method["pad+ilm"])


def test_a_source_that_is_gone_leaves_the_budget_out(small: Small):
    from dataclasses import replace

    store, _ = small.run(small.cells(methods=["none+ilm"]))
    rows = store.rows()
    gone = [replace(e, cell=replace(e.cell, source="no/such/place")) for e in store.entries()]
    counted, why = with_compute(gone, rows, Context())
    assert counted == rows
    assert why.startswith("No budget of training compute: no/such/place cannot be opened here")
