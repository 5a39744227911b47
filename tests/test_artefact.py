"""Artefacts: small, complete, bitwise the same after reload, never put on another source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases import tiny_source, tiny_task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reprogram as rp
from reprogram import artefact as artefact_module
from reprogram.artefact import read_config
from reprogram.errors import InputError

METHODS = [
    "pad+ilm", "pad-raw+rlm", "smm+blm+", "full+many", "lowrank+flm", "fourier+ilm", "scale+ilm",
    "patch+ilm", "fc-pad+linear", "none+ilm", "linear-probe", "head-finetune", "full-finetune",
]  # fmt: skip


def fitted(method: str = "pad+ilm", **changes) -> rp.Reprogrammed:
    return rp.fit(
        tiny_source(), tiny_task(), method, progress=False, epochs=1, batch_size=16, **changes
    )


@pytest.mark.parametrize("method", METHODS)
def test_predictions_after_reload_are_bitwise_the_same(method: str, tmp_path: Path) -> None:
    model = fitted(method)
    model.save_pretrained(tmp_path)
    again = rp.Reprogrammed.from_pretrained(tmp_path, tiny_source())
    x = torch.rand(5, 3, *[model.input_transform.image_size] * 2)
    assert torch.equal(model(x), again(x))
    assert again.class_names == model.class_names
    assert again.record["accuracy"] == model.record["accuracy"]
    assert rp.evaluate(again, tiny_task().test).accuracy == model.record["accuracy"]


@pytest.mark.parametrize("method", METHODS)
def test_only_what_differs_from_the_source_is_stored(method: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = fitted(method, val_share=0.0)  # the last epoch: state 0 would be the source itself
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    original = {f"source.{k}": v for k, v in tiny_source().state_dict().items()}
    for name, tensor in stored.items():
        if name.startswith("source."):
            twin = original.get(name, original.get(name.replace("source.", "source.network.", 1)))
            assert method == "full-finetune" and not torch.equal(tensor, twin)
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    if method == "full-finetune":
        assert len(stored) > 20  # the body, its BatchNorm statistics and the new head
    else:
        assert not any(k.startswith("source.") for k in stored)
        assert trained <= set(stored)


def test_another_source_body_is_refused(tmp_path: Path) -> None:
    fitted().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="fingerprint"):
        rp.Reprogrammed.from_pretrained(tmp_path, tiny_source(seed=1))


def test_the_same_weights_with_other_preprocessing_are_refused(tmp_path: Path) -> None:
    fitted().save_pretrained(tmp_path)
    other = tiny_source()
    other.mean.zero_()
    with pytest.raises(InputError, match="mean"):
        rp.Reprogrammed.from_pretrained(tmp_path, other)


def test_a_model_put_together_by_hand_says_why_it_cannot_be_stored(tmp_path: Path) -> None:
    from reprogram.input_transforms import Identity
    from reprogram.output_mappings import FirstMapping

    model = rp.Reprogrammed(Identity(16), tiny_source(), FirstMapping(12, 3), ("a", "b", "c"))
    with pytest.raises(InputError, match="made by reprogram.fit"):
        model.save_pretrained(tmp_path)


def test_an_artefact_without_its_end_is_not_read(tmp_path: Path) -> None:
    fitted().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        rp.Reprogrammed.from_pretrained(tmp_path, tiny_source())
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="no finished artefact"):
        rp.Reprogrammed.from_pretrained(tmp_path, tiny_source())


def test_an_artefact_that_is_written_over_is_never_half_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fitted(), fitted()
    first.save_pretrained(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artefact_module, "card", killed)  # written after the tensors
    with pytest.raises(KeyboardInterrupt):
        second.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no finished artefact"):
        rp.Reprogrammed.from_pretrained(tmp_path, tiny_source())


def test_a_source_that_has_no_name_to_load_it_by_is_asked_for(artefact: Path) -> None:
    with pytest.raises(InputError, match="its source 'tiny' cannot be loaded .* --source PATH"):
        rp.Reprogrammed.from_pretrained(artefact)


def test_the_card_says_how_to_use_it_in_the_readers_words(artefact: Path) -> None:
    text = (artefact / "README.md").read_text(encoding="utf-8")
    assert "reprogram predict THIS_DIRECTORY IMAGE" in text and "[reprogram]" not in text
    assert "over all epochs, 0 (untrained) included" in text


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    fitted().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 99}))
    with pytest.raises(InputError, match="Upgrade"):
        read_config(tmp_path)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("artefact")
    fitted().save_pretrained(directory)
    return directory


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just(float("1e9")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = [
    "schema",
    "method",
    "source",
    "target",
    "class_names",
    "settings",
    "training",
    "preprocessing",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), value=JSON, where=st.sampled_from(["top", "settings", "source"]))
def test_any_config_either_loads_or_says_what_is_wrong(
    artefact: Path, tmp_path_factory: pytest.TempPathFactory, key: str, value: object, where: str
) -> None:
    config = json.loads((artefact / "config.json").read_text())
    if where == "top":
        config[key] = value
    else:
        config[where][next(iter(config[where]))] = value
    broken = tmp_path_factory.mktemp("broken")
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "model.safetensors").write_bytes((artefact / "model.safetensors").read_bytes())
    try:
        model = rp.Reprogrammed.from_pretrained(broken, tiny_source())
    except InputError as error:
        assert "\n" not in str(error) and str(error)
    else:
        assert isinstance(model, rp.Reprogrammed)


def test_a_tensor_under_two_names_is_stored(tmp_path: Path) -> None:
    class Shared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Conv2d(3, 4, 16)
            self.alias = self.body
            self.fc = torch.nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.alias(x).flatten(1))

    own = {"mean": 0.5, "std": 0.2, "image_size": 16, "class_names": list("abcde")}
    model = rp.fit(
        rp.load_source(Shared(), **own), tiny_task(), "full-finetune", progress=False, epochs=1,
        val_share=0.0,
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    assert (tmp_path / "config.json").exists()


def test_another_head_is_another_source(tmp_path: Path) -> None:
    class TwoLayers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Conv2d(3, 5, 16)
            self.a, self.fc = torch.nn.Linear(5, 5), torch.nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.a(self.body(x).flatten(1)))

    network = TwoLayers()
    own = {"mean": 0.5, "std": 0.2, "image_size": 16, "class_names": list("abcde")}
    last, first = (rp.load_source(network, **own, head=head) for head in ("fc", "a"))
    fit = {"progress": False, "epochs": 1, "out": tmp_path}
    rp.fit(last, tiny_task(), "head-finetune", **fit)
    with pytest.raises(InputError, match="other images or weights"):
        rp.fit(first, tiny_task(), "head-finetune", **fit)
    with pytest.raises(InputError, match="head fc.* got one with .*head a"):
        rp.Reprogrammed.from_pretrained(tmp_path, first)


def test_a_source_in_bf16_is_an_ordinary_source() -> None:
    source = rp.load_source("embedded").to(torch.bfloat16)
    model = rp.fit(source, tiny_task(), "linear-probe", progress=False, epochs=1)
    assert 0 <= model.record["accuracy"] <= 1
