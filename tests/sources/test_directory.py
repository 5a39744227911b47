"""Source directories: written whole or not at all, read by this package and by timm."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from reprogram.errors import InputError
from reprogram.sources import (
    create_network,
    load_source,
    training_record,
    write_source_directory,
)
from reprogram.sources.networks import cifar_resnet20

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIX = tuple(f"name {i}" for i in range(6))


def write(path: Path, network: nn.Module | None = None, **more: Any) -> Path:
    arguments = {
        "architecture": "cifar_resnet20",
        "mean": MEAN,
        "std": STD,
        "image_size": 32,
        "class_names": SIX,
    }
    return write_source_directory(path, network or cifar_resnet20(6), **arguments | more)


def test_round_trip(tmp_path: Path) -> None:
    network = cifar_resnet20(6)
    path = write(tmp_path / "new" / "dir", network, card="# Card", training={"target": "usps"})
    source = load_source(str(path))
    assert (source.name, source.image_size, source.class_names) == (str(path), 32, SIX)
    assert source.mean.flatten().tolist() == torch.tensor(MEAN).tolist()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(source(x), network.eval()(source.normalise(x)))
    assert sorted(p.name for p in path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((path / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == MEAN  # not 0.48500001430511475
    assert training_record(path) == {"target": "usps"}
    # Written again from the source itself, everything but the architecture is its own.
    again = write_source_directory(tmp_path / "again", source, architecture="cifar_resnet20")
    second = load_source(again)
    assert second.fingerprint == source.fingerprint and second.class_names == SIX
    assert torch.equal(second.mean, source.mean) and torch.equal(second.std, source.std)
    assert training_record(again) == {}


def test_half_precision_keeps_batchnorm_statistics(tmp_path: Path) -> None:
    network = cifar_resnet20(6)
    network.bn1.running_var.fill_(1 / 3)
    path = write(tmp_path, network, half=True)
    stored = load_file(path / "model.safetensors")
    assert stored["conv1.weight"].dtype == torch.float16
    assert stored["bn1.running_var"].dtype == torch.float32
    source = load_source(path)
    assert torch.equal(source.network.bn1.running_var, network.bn1.running_var)
    assert torch.equal(source.network.conv1.weight, network.conv1.weight.half().float())
    assert write_source_directory(tmp_path / "b", source, architecture="cifar_resnet20", half=True)
    assert load_source(tmp_path / "b").fingerprint == source.fingerprint


@pytest.mark.parametrize("name", ["test_resnet", "timm/test_vit"])
def test_timm_reads_what_was_written_for_its_networks(tmp_path: Path, name: str) -> None:
    network = create_network(name, 6).eval()
    write(tmp_path, network, architecture=name, image_size=160)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=6).eval()
    source = load_source(tmp_path)
    x = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(theirs(source.normalise(x)), source(x))
    assert theirs.pretrained_cfg["mean"] == MEAN


def test_bare_names_in_a_directory_are_timms(tmp_path: Path) -> None:
    for name, written, module in (
        ("resnet18", "torchvision/resnet18", "torchvision.models"),
        ("timm/resnet18", "resnet18", "timm.models"),
    ):
        write(tmp_path / module, create_network(name, 6), architecture=name, image_size=64)
        config = json.loads((tmp_path / module / "config.json").read_text())
        assert config["architecture"] == written
        assert type(load_source(tmp_path / module).network).__module__.startswith(module)


def test_model_args_come_back(tmp_path: Path) -> None:
    arguments = {"pad_type": "same"}
    network = create_network("test_efficientnet", 6, arguments)
    write(tmp_path, network, architecture="test_efficientnet", model_args=arguments)
    assert type(load_source(tmp_path).network.conv_stem).__name__ == "Conv2dSame"


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("before", [False, True])
def test_killed_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, before: bool
) -> None:
    """No state in between loads as something that nobody wrote."""
    if before:
        write(tmp_path, class_names=[f"old {i}" for i in range(6)], card="old")
    calls, replace = [], os.replace

    def killed(source: Any, target: Any) -> None:
        if len(calls) == at:
            raise KeyboardInterrupt
        calls.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, card="new")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    with pytest.raises(InputError, match="config.json is missing"):
        load_source(tmp_path)
    write(tmp_path, card="new")
    assert load_source(tmp_path).class_names == SIX


def test_a_plain_network_needs_its_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs mean, std, image_size and class_names"):
        write(tmp_path, mean=None)
    assert not list(tmp_path.iterdir())


def test_without_names_classes_are_numbered_or_imagenets(tmp_path: Path) -> None:
    for classes, first in ((6, "class_0"), (1000, "tench")):
        path = write(tmp_path / str(classes), cifar_resnet20(classes), class_names=["c"] * classes)
        config = json.loads((path / "config.json").read_text())
        del config["label_names"]
        (path / "config.json").write_text(json.dumps(config))
        source = load_source(path)
        assert source.class_names[0] == first and source.num_classes == classes


def changed(config: dict, key: str, value: object) -> dict:
    *parents, last = key.split(".")
    inner = config
    for parent in parents:
        inner = inner[parent]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return config


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("architecture", ..., "architecture is missing"),
        ("architecture", 3, "architecture must be of type str, got 3"),
        ("architecture", "resnet2000", "unknown architecture"),
        ("num_classes", ..., "num_classes is missing"),
        ("num_classes", True, "num_classes must be of type int"),
        ("num_classes", 5, "label_names holds 6 names, num_classes is 5"),
        ("model_args", [], "model_args must be of type dict"),
        ("model_args", {"checkpoint_path": "x"}, "may not hold 'checkpoint_path'"),
        ("pretrained_cfg", ..., "pretrained_cfg is missing"),
        ("pretrained_cfg", [1], "pretrained_cfg must be of type dict"),
        ("pretrained_cfg.mean", ..., "pretrained_cfg.mean is missing"),
        ("pretrained_cfg.mean", [0.5, 0.5], "mean must be three numbers"),
        ("pretrained_cfg.mean", [float("nan")] * 3, "mean must be three numbers"),
        ("pretrained_cfg.std", [0.5, 0.5, 0], "std must be three numbers above 0"),
        ("pretrained_cfg.input_size", [3, 32, 48], "input_size must be .*square"),
        ("pretrained_cfg.input_size", [1, 32, 32], "input_size must be .*three channels"),
        ("pretrained_cfg.input_size", 32, "input_size must be of type list"),
        ("label_names", SIX[:5], "label_names holds 5 names, num_classes is 6"),
        ("label_names", [1] * 6, "label_names must be a list of strings"),
    ],
)
def test_a_bad_config_says_what_is_wrong(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    path = write(tmp_path) / "config.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), key, value)))
    with pytest.raises(InputError, match=message) as caught:
        load_source(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": "\udcff"}', "[" * 100_000])
def test_a_config_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    path = write(tmp_path) / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="config.json") as caught:
        load_source(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_the_config(tmp_path: Path) -> None:
    path = write(tmp_path) / "config.json"
    config = changed(json.loads(path.read_text()), "architecture", "cifar_resnet32")
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="model.safetensors does not fit.*missing layer1.3"):
        load_source(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors' does not exist"):
        load_source(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
KEYS = [
    "architecture",
    "num_classes",
    "model_args",
    "label_names",
    "pretrained_cfg",
    "pretrained_cfg.mean",
    "pretrained_cfg.std",
    "pretrained_cfg.input_size",
]
LIKELY = st.sampled_from(
    ["cifar_resnet20", "timm/test_resnet", "squeezenet1_1", 6, 10, [0.5] * 3, [3, 16, 16], [*SIX]]
    + [{"drop_rate": 0.1}, {"global_pool": "max"}]
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written"))


@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON | LIKELY, min_size=1, max_size=3))
def test_any_config_loads_or_is_an_input_error(written: Path, changes: dict[str, Any]) -> None:
    config = {
        "architecture": "cifar_resnet20",
        "num_classes": 6,
        "model_args": {},
        "pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [3, 32, 32]},
    }
    for key in sorted(changes, reverse=True):
        config = changed(config, key, changes[key]) if config else config
    (written / "config.json").write_text(json.dumps(config))
    try:
        source = load_source(written)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert source.num_classes == len(source.class_names) == 6
        assert source(torch.rand(1, 3, 32, 32)).isfinite().all()
