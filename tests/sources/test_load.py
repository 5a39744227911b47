"""load_source: every way of naming a source, and the one message when its weights are missing."""

from __future__ import annotations

import shutil
import urllib.error
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision.models
from safetensors.torch import save_file
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.sources import create_network, load_source, write_source_directory
from reprogram.sources.class_names import imagenet_class_names
from reprogram.sources.depth import depth_arguments
from reprogram.sources.networks import cifar_resnet20


class TinyNet(nn.Module):
    """A network of somebody else's, with `fc` on pooled features."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


OWN = {"mean": 0.5, "std": [0.2, 0.3, 0.4], "image_size": 16}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty torch and Hub caches, and no network."""

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


# --- your own network


def test_a_network_of_your_own_is_copied_and_frozen() -> None:
    network = TinyNet().train()
    source = load_source(network, **OWN, class_names=["a", "b", "c", "d"], head="fc")
    assert source.network is not network and network.training and network.fc.weight.requires_grad
    assert (source.name, source.num_features, source.class_names) == ("TinyNet", 5, tuple("abcd"))
    assert source.std.flatten().tolist() == torch.tensor([0.2, 0.3, 0.4]).tolist()
    assert load_source(network, **OWN).class_names == ("class_0", "class_1", "class_2", "class_3")


@pytest.mark.parametrize(
    "more, message",
    [
        ({"mean": None}, "needs mean"),
        ({"std": None, "image_size": None}, "needs std, image_size"),
        ({"head": "classifier"}, "'classifier' is no submodule.*last linear layers: fc"),
        ({"head": "bn"}, "number of classes cannot be read off head 'bn'"),
        ({"class_names": ["a", "b"]}, r"logits \(batch, 2\).*got \(1, 4\)"),
        ({"num_classes": 3}, r"logits \(batch, 3\).*got \(1, 4\)"),
        ({"image_size": 2}, r"fails on an input of shape \(1, 3, 2, 2\)"),
    ],
)
def test_what_a_network_of_your_own_lacks_is_named(more: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_source(TinyNet(), **OWN | more)


def test_a_network_in_another_precision_is_told_so() -> None:
    with pytest.raises(InputError, match=r"weights are torch.float16: pass network.float\(\)"):
        load_source(TinyNet().half(), **OWN)


def test_a_network_that_does_not_call_its_head() -> None:
    network = TinyNet()
    network.spare = nn.Linear(5, 4)
    with pytest.raises(InputError, match="head 'spare' .* was not called"):
        load_source(network, **OWN, head="spare")


def test_weights_go_into_a_network_of_your_own(tmp_path: Path) -> None:
    torch.save(TinyNet().state_dict(), tmp_path / "w.pth")
    network = TinyNet()
    source = load_source(network, **OWN, weights=tmp_path / "w.pth")
    assert not torch.equal(source.network.fc.weight, network.fc.weight)


# --- torchvision


def test_cached_torchvision_weights_with_their_preprocessing(hub: Path) -> None:
    network = torchvision.models.squeezenet1_1()
    entry = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    torch.save(network.state_dict(), hub / Path(entry.url).name)
    source = load_source("squeezenet1_1")
    assert torch.equal(source.network.features[0].weight, network.features[0].weight)
    assert (source.name, source.image_size, source.head) == ("squeezenet1_1", 224, "classifier")
    assert source.class_names == imagenet_class_names()
    assert source.mean.flatten().tolist() == torch.tensor(entry.transforms().mean).tolist()
    assert source.num_features == 512
    prefixed = load_source("torchvision/squeezenet1_1")
    assert prefixed.name == "squeezenet1_1" and prefixed.fingerprint == source.fingerprint
    with pytest.raises(InputError, match="class_names says 3 classes.*has 1000"):
        load_source("squeezenet1_1", class_names=["a", "b", "c"])
    with pytest.raises(InputError, match="num_classes=3 does not fit"):
        load_source("squeezenet1_1", num_classes=3)


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "mnasnet0_5"])
def test_published_files_in_older_names_load(hub: Path, name: str) -> None:
    """DenseNet's files say norm.1 for norm1; GoogLeNet's hold the auxiliary heads."""
    more = {"init_weights": False} if name == "googlenet" else {}
    network = torchvision.models.get_model(name, weights=None, **more)
    state = network.state_dict()
    if name == "densenet121":
        for key in [k for k in state if "denselayer" in k]:
            old = key
            for part in ("norm1", "norm2", "conv1", "conv2"):
                old = old.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
            state[old] = state.pop(key)
        assert "features.denseblock1.denselayer1.norm.1.weight" in state
    elif name == "googlenet":
        assert any(key.startswith("aux1.") for key in state)
    entry = next(iter(torchvision.models.get_model_weights(name)))
    torch.save(state, hub / Path(entry.url).name)
    loaded = load_source(name).network
    want = network.state_dict()
    assert all(torch.equal(v, want[k]) for k, v in loaded.state_dict().items())
    if name == "googlenet":  # as its published weights need it
        assert loaded.transform_input and not loaded.aux_logits


def test_the_first_published_weights_are_taken_unless_named(hub: Path) -> None:
    with pytest.raises(InputError, match="resnet50-0676ba61.pth"):
        load_source("resnet50")
    with pytest.raises(InputError, match="resnet50-11ad3fa6.pth"):
        load_source("resnet50@IMAGENET1K_V2")
    with pytest.raises(InputError, match="IMAGENET1K_V7.*Available: IMAGENET1K_V1"):
        load_source("resnet50@IMAGENET1K_V7")


@pytest.mark.parametrize("download", [False, True])
def test_missing_torchvision_weights_are_one_message(hub: Path, download: bool) -> None:
    with pytest.raises(InputError) as caught:
        load_source("resnet18", download=download)
    text = str(caught.value)
    assert "\n" not in text and "resnet18-f37072fd.pth" in text
    assert str(hub) in text and "--weights" in text
    assert ("--download (in Python: download=True)" in text) != download and (
        "no route" in text
    ) == download


def test_download_is_asked_for_the_cache_and_its_hash(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), made)
    asked = []

    def fetch(url: str, path: str, digest: str, progress: bool) -> None:
        asked.append((Path(url).name, Path(path).parent, digest))
        shutil.copy(made, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    load_source("squeezenet1_1", download=True)
    load_source("squeezenet1_1")
    assert asked == [("squeezenet1_1-b8a52dc0.pth", hub, "b8a52dc0")]


def test_weights_of_other_classes_tell_their_number(hub: Path, tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(num_classes=7).state_dict(), tmp_path / "w.pth")
    source = load_source("squeezenet1_1", weights=tmp_path / "w.pth")
    assert source.num_classes == 7 and source.class_names[0] == "class_0"
    with pytest.raises(InputError, match=r"'classifier.1.weight' has shape \(7, "):
        load_source("squeezenet1_1", weights=tmp_path / "w.pth", num_classes=8)


# --- timm


def put_in_hub_cache(cache: Path, repository: str, network: nn.Module) -> None:
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abc")
    (folder / "snapshots" / "0123abc").mkdir(parents=True)
    save_file(network.state_dict(), folder / "snapshots" / "0123abc" / "model.safetensors")


def test_cached_timm_weights_with_their_preprocessing(hub: Path, tmp_path: Path) -> None:
    network = create_network("timm/test_efficientnet", 1000)
    put_in_hub_cache(tmp_path / "hf", "timm/test_efficientnet.r160_in1k", network)
    source = load_source("timm/test_efficientnet")
    assert source.name == "timm/test_efficientnet"
    cfg = timm.get_pretrained_cfg("test_efficientnet")
    assert source.image_size == cfg.input_size[1] == 160
    assert source.std.flatten().tolist() == torch.tensor(cfg.std).tolist()
    assert source.class_names == imagenet_class_names()
    x = torch.rand(2, 3, 160, 160)
    assert torch.equal(source(x), network.eval()(source.normalise(x)))
    logits, features = source.logits_and_features(x)
    torch.testing.assert_close(network.classifier(features), logits)


def test_missing_timm_weights_are_one_message(hub: Path) -> None:
    with pytest.raises(
        InputError, match=r"model\.safetensors of the Hub's timm/resnet18\.a1_in1k"
    ) as caught:
        load_source("timm/resnet18")
    assert "--weights" in str(caught.value) and "--download" in str(caught.value)


def test_a_failed_timm_download_is_the_same_message(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, pretrained: bool, **__: object) -> None:
        assert pretrained
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match="could not be fetched .OSError no route.*--weights FILE"):
        load_source("timm/resnet18", download=True)


def test_local_weights_of_a_timm_name(hub: Path, tmp_path: Path) -> None:
    network = create_network("timm/test_vit", 5)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    source = load_source("timm/test_vit", weights=tmp_path / "w.safetensors")
    assert (source.num_classes, source.head, source.num_features) == (5, "head", 64)
    x = torch.rand(1, 3, source.image_size, source.image_size)
    logits, features = source.logits_and_features(x)
    torch.testing.assert_close(source.network.head(features), logits)


@pytest.mark.parametrize(
    "name, message",
    [
        ("timm/resnet18.nobody", "unknown timm source 'resnet18.nobody'.*resnet18.a1_in1k"),
        ("timm/vit_small_patch14_dinov2.lvd142m", "has no classifier"),
    ],
)
def test_timm_tags_that_cannot_be_sources(hub: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_source(name)


# --- the package's own, directories, and names that are none of these


def write(path: Path) -> Path:
    return write_source_directory(
        path,
        cifar_resnet20(3),
        architecture="cifar_resnet20",
        mean=0.5,
        std=0.25,
        image_size=32,
        class_names=["a", "b", "c"],
    )


def test_embedded_is_a_directory_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprogram.sources.load.embedded_directory", lambda: write(tmp_path))
    source = load_source("embedded")
    assert (source.name, source.class_names) == ("embedded", ("a", "b", "c"))


def test_cifar_networks_need_weights() -> None:
    with pytest.raises(InputError, match="train-source --architecture cifar_resnet20.*--weights"):
        load_source("cifar_resnet20")


def test_a_known_name_is_not_a_directory_of_that_name(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("resnet18"))
    with pytest.raises(InputError, match="weights of 'resnet18' are not on this machine"):
        load_source("resnet18")
    assert "./resnet18" in caplog.text
    assert load_source("./resnet18").num_classes == load_source(Path("resnet18")).num_classes == 3


def test_options_override_a_directory(tmp_path: Path) -> None:
    source = load_source(write(tmp_path), mean=0.1, image_size=48, class_names=["x", "y", "z"])
    assert (source.image_size, source.class_names) == (48, ("x", "y", "z"))
    assert source.mean.flatten().tolist() == [pytest.approx(0.1)] * 3
    with pytest.raises(InputError, match="num_classes says 9 classes"):
        load_source(tmp_path, num_classes=9)


def test_a_size_that_a_network_does_not_take_is_said_at_once(tmp_path: Path) -> None:
    arguments = depth_arguments("dnn-1", width=4, image_size=16)
    write_source_directory(
        tmp_path, create_network("dnn-1", 3, arguments), architecture="dnn-1", mean=0.5, std=0.5,
        image_size=16, class_names=["a", "b", "c"], model_args=arguments,
    )  # fmt: skip
    assert load_source(tmp_path, image_size=16).image_size == 16
    with pytest.raises(InputError, match=r"fails on an input of shape \(1, 3, 24, 24\)"):
        load_source(tmp_path, image_size=24)


def test_loading_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    write(tmp_path)
    torch.manual_seed(1)
    want = torch.rand(2)
    torch.manual_seed(1)
    load_source(tmp_path)
    assert torch.equal(torch.rand(2), want)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("resnet81", "unknown source 'resnet81'. Did you mean resnet18"),
        ("timm/resnet181", "Did you mean timm/resnet18"),
        ("embeded", "Did you mean embedded"),
        ("no/such/folder", "is no directory"),
        ("", "unknown source ''"),
    ],
)
def test_unknown_names_suggest_the_nearest(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_source(spec)


def test_a_file_is_not_a_source(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="is a file.*--weights"):
        load_source(str(file))
