"""Training on stored features is the same training: same initialisation, same batches, same bits."""

from __future__ import annotations

import pytest
import torch
from cases import tiny_source, tiny_task

from reprogram.engine import FeatureStore
from reprogram.errors import InputError
from reprogram.experiments import Cell, run_cell
from reprogram.methods import get_method


def run(
    engine: str, method: str, store: FeatureStore | None = None, augment: str = "none", **options
):
    changes = {"epochs": 4, "batch_size": 16, "engine": engine, "augment": augment}
    settings = get_method(method).settings.updated(changes)
    cell = Cell("tiny", "tiny", method, settings=settings, **options)
    return run_cell(cell, source=tiny_source().double(), task=tiny_task(), store=store)


@pytest.mark.parametrize("augment", ["none", "flip"])
@pytest.mark.parametrize("method", ["linear-probe", "head-finetune", "none+blm+"])
def test_stored_training_equals_uncached_training(method: str, augment: str) -> None:
    plain, stored = run("plain", method, augment=augment), run("store", method, augment=augment)
    assert (plain.row["engine"], stored.row["engine"]) == ("plain", "store")
    for name, tensor in plain.model.own_tensors().items():
        assert torch.allclose(tensor, stored.model.own_tensors()[name], rtol=0, atol=1e-12), name
    for a, b in zip(plain.row["history"], stored.row["history"], strict=True):
        assert a["val"]["loss"] == pytest.approx(b["val"]["loss"], abs=1e-12)


def test_fractions_and_seeds_share_one_pass_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    from reprogram.engine.store import StoreEngine

    passes = []
    original = StoreEngine._compute
    monkeypatch.setattr(
        StoreEngine,
        "_compute",
        lambda self, *a, **k: (passes.append(a), original(self, *a, **k))[1],
    )
    store = FeatureStore()
    for fraction in (0.5, 1.0):
        for seed in (0, 1):
            run("auto", "linear-probe", store, data_fraction=fraction, seed=seed)
    assert len(passes) == 1


def test_auto_takes_the_store_only_where_nothing_before_the_mapping_changes() -> None:
    assert run("auto", "linear-probe").row["engine"] == "store"
    assert run("auto", "linear-probe", augment="crop-flip").row["engine"] == "folded"
    assert run("auto", "pad+linear").row["engine"] == "folded"
    with pytest.raises(InputError, match="frozen body"):
        run("store", "pad+ilm")


def test_a_small_limit_drops_the_least_recently_used_outputs() -> None:
    store = FeatureStore(limit=100)
    store.put(("a",), torch.zeros(10))
    store.put(("b",), torch.zeros(10))
    assert store.get(("a",)) is not None
    store.put(("c",), torch.zeros(10))
    assert store.get(("b",)) is None and store.get(("a",)) is not None
