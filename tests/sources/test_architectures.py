"""Networks by name, what may be passed to them, and where each has its head."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision.models
from torch import nn

from reprogram.errors import InputError
from reprogram.sources import SOURCES, create_network, find_head, source_names
from reprogram.sources.architectures import MODEL_ARGS, find_architecture
from reprogram.sources.networks import NETWORKS, CifarResNet


@pytest.mark.parametrize("depth, blocks", [(20, 3), (32, 5), (44, 7), (56, 9)])
def test_cifar_resnets_have_their_depth(depth: int, blocks: int) -> None:
    network = create_network(f"cifar_resnet{depth}", 10, {})
    assert isinstance(network, CifarResNet) and len(network.layer2) == blocks
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth


@pytest.mark.parametrize(
    "name, family",
    [
        ("resnet18", "torchvision"),
        ("torchvision/resnet18", "torchvision"),
        ("timm/resnet18", "timm"),
        ("timm/resnet18.a1_in1k", "timm"),
        ("mobilenetv2_100", "timm"),
        ("cifar_resnet20", "own"),
    ],
)
def test_families(name: str, family: str) -> None:
    assert find_architecture(name)[0] == family


@pytest.mark.parametrize(
    "name, near",
    [
        ("resnet81", "resnet18"),
        ("timm/test_vitt", "timm/test_vit"),
        ("torchvision/vgg61", "torchvision/vgg16"),
        ("", ""),
        ("cifar_resnet21", "cifar_resnet20"),
    ],
)
def test_unknown_names_suggest_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"unknown architecture '{name}'.*{near}"):
        create_network(name, 10)


@pytest.mark.parametrize(
    "architecture, key",
    [
        ("timm/test_resnet", "pretrained"),
        ("timm/test_resnet", "checkpoint_path"),
        ("timm/test_resnet", "pretrained_cfg"),
        ("timm/test_resnet", "pretrained_cfg_overlay"),
        ("timm/test_resnet", "cache_dir"),
        ("timm/test_resnet", "features_only"),
        ("timm/test_resnet", "num_classes"),
        ("torchvision/squeezenet1_1", "weights"),
        ("torchvision/squeezenet1_1", "progress"),
        ("cifar_resnet20", "depth"),
    ],
)
def test_arguments_that_are_not_listed_are_refused(architecture: str, key: str) -> None:
    with pytest.raises(InputError, match=f"may not hold '{key}'. Allowed: "):
        create_network(architecture, 10, {key: True})


def test_listed_arguments_reach_the_network() -> None:
    network = create_network("timm/test_efficientnet", 5, {"pad_type": "same", "drop_rate": 0.3})
    assert type(network.conv_stem).__name__ == "Conv2dSame" and network.drop_rate == 0.3
    assert create_network("squeezenet1_1", 5, {"dropout": 0.2}).classifier[0].p == 0.2
    assert not {"pretrained", "checkpoint_path", "weights"} & {
        k for a in MODEL_ARGS.values() for k in a
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"in_chans": 1}, "in_chans=1 .* must be 3"),
        ({"act_layer": {"a": 1}}, "must be a plain value"),
        ({"img_size": "large"}, "cannot be built"),
    ],
)
def test_values_that_do_not_work_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_network("timm/test_vit", 10, arguments)


@pytest.mark.parametrize("num_classes", [0, -1, 10**9, True])
def test_numbers_of_classes_that_do_not_work_are_refused(num_classes: int) -> None:
    with pytest.raises(InputError, match="num_classes"):
        create_network("cifar_resnet20", num_classes)


def test_the_same_seed_makes_the_same_network() -> None:
    torch.manual_seed(3)
    first = create_network("cifar_resnet20", 4).state_dict()
    torch.manual_seed(3)
    second = create_network("cifar_resnet20", 4).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


HEADS = {
    "alexnet": ("classifier.6", 4096),
    "convnext_tiny": ("classifier.2", 768),
    "densenet121": ("classifier", 1024),
    "efficientnet_b0": ("classifier.1", 1280),
    "googlenet": ("fc", 1024),
    "inception_v3": ("fc", 2048),
    "maxvit_t": ("classifier.5", 512),
    "mnasnet0_5": ("classifier.1", 1280),
    "mobilenet_v2": ("classifier.1", 1280),
    "mobilenet_v3_small": ("classifier.3", 1024),
    "resnet18": ("fc", 512),
    "resnet50": ("fc", 2048),
    "shufflenet_v2_x0_5": ("fc", 1024),
    "swin_t": ("head", 768),
    "vgg11": ("classifier.6", 4096),
    "vit_b_32": ("heads.head", 768),
}


@pytest.mark.parametrize("name", HEADS)
def test_torchvision_heads_are_the_last_linear_layer(name: str) -> None:
    with torch.device("meta"):
        network = create_network(f"torchvision/{name}", 1000)
    head = find_head(network)
    assert (head, network.get_submodule(head).in_features) == HEADS[name]
    if name in SOURCES:  # what `list sources` says of it
        entry = SOURCES[name]
        assert entry.parameters == sum(p.numel() for p in network.parameters())


def test_squeezenet_head_is_its_whole_classifier() -> None:
    assert find_head(create_network("squeezenet1_1", 10)) == "classifier"


@pytest.mark.parametrize(
    "name, head",
    [
        ("test_resnet", "fc"),
        ("test_vit", "head"),
        ("test_convnext", "head.fc"),
        ("test_efficientnet", "classifier"),
        ("resnetv2_50x1_bit", "head.fc"),
        ("deit_tiny_distilled_patch16_224", None),
    ],
)
def test_timm_heads(name: str, head: str | None) -> None:
    with torch.device("meta"):
        network = create_network(f"timm/{name}", 10)
    assert find_head(network) == head


def test_the_table_says_what_the_networks_are() -> None:
    for name in NETWORKS:
        network = create_network(name, 10)
        assert SOURCES[name].parameters == sum(p.numel() for p in network.parameters())
    embedded = create_network("cifar_resnet20", 100)
    assert SOURCES["embedded"].parameters == sum(p.numel() for p in embedded.parameters())
    for name, entry in SOURCES.items():
        assert entry.name == name == entry.row()["source"]
        if entry.what.startswith("torchvision, ImageNet"):
            weights = next(iter(torchvision.models.get_model_weights(name)))
            assert weights.meta["num_params"] == entry.parameters
            assert weights.transforms().crop_size == [entry.image_size]
            assert len(weights.meta["categories"]) == entry.classes


def test_listing_builds_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(nn.Module, "__init__", refuse)
    names = source_names()
    assert {"embedded", "resnet18", "cifar_resnet20", "timm/resnet18"} <= set(names)
    assert len(names) == len(set(names)) > len(timm.list_models())
