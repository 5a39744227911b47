"""Local weights files: every form that training scripts write, and nothing that runs code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reprogram.errors import InputError
from reprogram.sources import load_source
from reprogram.sources.networks import cifar_resnet20
from reprogram.sources.weights import load_strictly, read_weights


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_every_form_gives_the_same_source(tmp_path: Path) -> None:
    state = cifar_resnet20(7).state_dict()
    parallel = {f"module.{k}": v for k, v in state.items()}
    save_file(state, tmp_path / "a.safetensors")
    save_file(
        {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
        tmp_path / "b.safetensors",
    )
    files = [
        tmp_path / "a.safetensors",
        tmp_path / "b.safetensors",
        write(tmp_path / "c.pth", state),
        write(tmp_path / "d.pth", {"state_dict": parallel, "epoch": 3}),
        write(tmp_path / "e.pt", {"model": state, "optimizer": {"lr": 0.1}}),
    ]
    sources = [load_source("cifar_resnet20", weights=file) for file in files]
    assert len({source.fingerprint for source in sources}) == 1
    assert {source.num_classes for source in sources} == {7}


def test_half_precision_is_the_rounded_float(tmp_path: Path) -> None:
    state = cifar_resnet20().state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    rounded = write(tmp_path / "float.pth", {k: v.to(state[k].dtype) for k, v in half.items()})
    first = load_source("cifar_resnet20", weights=tmp_path / "half.safetensors")
    assert first.network.conv1.weight.dtype == torch.float32
    assert first.fingerprint == load_source("cifar_resnet20", weights=rounded).fingerprint


class Payload:
    """Pickles to a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "plain"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    proof, file = tmp_path / "was_run", tmp_path / "weights.pth"
    content = {"state_dict": cifar_resnet20().state_dict(), "extra": Payload(proof)}
    if form == "zip":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="refused, not run"):
        load_source("cifar_resnet20", weights=file)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists()  # the payload does what this test says


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02", b"\xff" * 64])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"damaged{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_weights(file)


@pytest.mark.parametrize("content", [[1, 2], {}, {"conv1.weight": 3}, torch.zeros(2)])
def test_files_without_named_tensors_are_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="no named tensors|not a tensor"):
        read_weights(write(tmp_path / "odd.pth", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.pth' does not exist"):
        read_weights(tmp_path / "nowhere.pth")


def test_misfits_are_named() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = network.state_dict()
    counted = {k: v for k, v in state.items() if "num_batches" not in k}
    load_strictly(network, counted, "file")
    for weights, message in (
        ({k: v for k, v in state.items() if k != "0.bias"}, "missing 0.bias"),
        ({**state, "head.weight": torch.zeros(1)}, "unexpected head.weight"),
        ({**state, "0.weight": torch.zeros(4, 2)}, r"'0.weight' has shape \(4, 2\).*\(3, 2\)"),
        ({**state, "0.bias": torch.zeros(3, dtype=torch.int8)}, "'0.bias' is torch.int8"),
    ):
        with pytest.raises(InputError, match=message):
            load_strictly(network, weights, "file")
