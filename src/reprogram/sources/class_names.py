"""Names for classes that come without any."""

from __future__ import annotations

__all__ = ["default_class_names", "imagenet_class_names"]


def imagenet_class_names() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet-1k, in torchvision's spelling and the usual order."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def default_class_names(num_classes: int) -> tuple[str, ...]:
    """ImageNet's names for 1,000 classes, else class_0, class_1, ...

    >>> default_class_names(2)
    ('class_0', 'class_1')
    """
    if num_classes == 1000:
        return imagenet_class_names()
    return tuple(f"class_{c}" for c in range(num_classes))
