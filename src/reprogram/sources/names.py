"""SOURCES: the table of sources that `reprogram list sources` prints."""

from __future__ import annotations

from dataclasses import dataclass

from reprogram.sources.architectures import network_names

__all__ = ["SOURCES", "SourceEntry", "source_names"]

HE = "He et al. 2016, Deep Residual Learning"


@dataclass(frozen=True)
class SourceEntry:
    """One row of the table; None where it depends on the network or the directory."""

    name: str
    what: str
    classes: int | None
    image_size: int | None
    parameters: int | None
    reference: str

    def row(self) -> dict[str, str | int | None]:
        return {
            "source": self.name,
            "what": self.what,
            "classes": self.classes,
            "pixels": self.image_size,
            "parameters": self.parameters,
            "reference": self.reference,
        }


SOURCES: dict[str, SourceEntry] = {
    "embedded": SourceEntry(
        "embedded", "ResNet-20, CIFAR-100, in the package", 100, 32, 275572, HE
    ),
    "cifar_resnet20": SourceEntry(
        "cifar_resnet20", "needs --weights or a directory", 10, 32, 269722, HE
    ),
    "cifar_resnet32": SourceEntry(
        "cifar_resnet32", "needs --weights or a directory", 10, 32, 464154, HE
    ),
    "cifar_resnet44": SourceEntry(
        "cifar_resnet44", "needs --weights or a directory", 10, 32, 658586, HE
    ),
    "cifar_resnet56": SourceEntry(
        "cifar_resnet56", "needs --weights or a directory", 10, 32, 853018, HE
    ),
    "resnet18": SourceEntry("resnet18", "torchvision, ImageNet-1k V1", 1000, 224, 11689512, HE),
    "resnet50": SourceEntry("resnet50", "torchvision, ImageNet-1k V1", 1000, 224, 25557032, HE),
    "squeezenet1_1": SourceEntry(
        "squeezenet1_1",
        "torchvision, ImageNet-1k V1",
        1000,
        224,
        1235496,
        "Iandola et al. 2016, SqueezeNet",
    ),
    "mobilenet_v2": SourceEntry(
        "mobilenet_v2",
        "torchvision, ImageNet-1k V1",
        1000,
        224,
        3504872,
        "Sandler et al. 2018, MobileNetV2",
    ),
    "vit_b_32": SourceEntry(
        "vit_b_32",
        "torchvision, ImageNet-1k V1",
        1000,
        224,
        88224232,
        "Dosovitskiy et al. 2021, ViT",
    ),
    "vit_b_16": SourceEntry(
        "vit_b_16",
        "torchvision, ImageNet-1k V1",
        1000,
        224,
        86567656,
        "Dosovitskiy et al. 2021, ViT",
    ),
    "KIND-LEVEL": SourceEntry(
        "KIND-LEVEL",
        "dnn-1 to 9, cnn-, vgg-, resnet-: a directory by train-source",
        None,
        None,
        None,
        "arXiv 2506.00620 (2025)",
    ),
    "NAME, NAME@WEIGHTS": SourceEntry(
        "NAME, NAME@WEIGHTS", "any other torchvision classifier", 1000, None, None, "torchvision"
    ),
    "timm/NAME": SourceEntry(
        "timm/NAME", "any timm classifier", None, None, None, "Wightman 2019, PyTorch Image Models"
    ),
    "DIRECTORY": SourceEntry(
        "DIRECTORY",
        "config.json and model.safetensors",
        None,
        None,
        None,
        "timm's layout; train-source",
    ),
}


def source_names() -> list[str]:
    """Every name that can be loaded, rows of families resolved; builds no network."""
    timm = (f"timm/{name}" for name in network_names("timm"))
    own = (*network_names("own"), *network_names("depth"))
    return ["embedded", *own, *network_names("torchvision"), *timm]
