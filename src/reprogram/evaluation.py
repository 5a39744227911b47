"""Score a reprogrammed model on a split, and predict single images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL.Image import Image
from torch import Tensor

from reprogram.data import Split, TargetTask, open_rgb, square_pixels
from reprogram.data.images import to_rgb
from reprogram.engine import for_inference
from reprogram.errors import InputError
from reprogram.model import Reprogrammed
from reprogram.sources import Source
from reprogram.statistics import share_text
from reprogram.training import score

__all__ = [
    "Evaluation",
    "check_classes",
    "evaluate",
    "first_names",
    "in_batches",
    "predict",
    "source_outputs",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy in [0, 1] and mean cross-entropy in nats over n images of a split."""

    accuracy: float
    loss: float
    n: int
    split: str
    class_accuracy: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"accuracy {share_text(self.accuracy, self.n)} {self.split} images   loss {self.loss:.4f}"


@torch.no_grad()
def in_batches(
    network: Callable[[Tensor], Tensor],
    pixels: UInt8[Tensor, "n 3 s s"],
    source: Source,
    batch_size: int = 256,
) -> Float[Tensor, "n *outputs"]:
    """What a network makes of stored images, in order, on the CPU; it computes where `source` is."""
    mean = source.mean
    parts = pixels.split(batch_size)
    return torch.cat([network(p.float().div(255).to(mean.device, mean.dtype)).cpu() for p in parts])


def source_outputs(
    source: Source,
    pixels: UInt8[Tensor, "n 3 s s"],
    transform: Callable[[Tensor], Tensor] = lambda x: x,
) -> tuple[Float[Tensor, "n source"], Float[Tensor, "n d"] | None]:
    """Logits and features of stored images by one pass through the folded source.

    The features are None for a source that has none.
    """
    body = for_inference(source)

    def both(x: Tensor) -> Tensor:
        return torch.cat(body.logits_and_features(transform(x)), 1)

    try:
        outputs = in_batches(both, pixels, source)
    except InputError:
        return in_batches(lambda x: body(transform(x)), pixels, source), None
    logits, features = outputs.tensor_split([source.num_classes], 1)
    return logits, features


def check_classes(model: Reprogrammed, split: Split) -> None:
    """Refuse a split whose classes are not the model's, in its order; warn of other names.

    Raises:
        InputError: Another number of classes, or the model's in another order.
    """
    ours, theirs = model.class_names, split.class_names
    if len(theirs) != len(ours):
        raise InputError(
            f"the {split.name} split has {len(theirs)} classes, the model {len(ours)}. "
            "Evaluate it on the target that it was fitted to, or select classes with NAME[0-9]."
        )
    if theirs == ours:
        return
    names = f"{first_names(theirs)}; the model: {first_names(ours)}"
    if sorted(theirs) == sorted(ours):
        raise InputError(
            f"classes are in another order ({names}). Give them in the model's order: NAME[dog,cat]."
        )
    logger.warning("classes have other names (%s) and are matched by their order", names)


def first_names(names: tuple[str, ...], count: int = 4) -> str:
    """The first of many names, for messages."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def evaluate(model: Reprogrammed, split: Split | TargetTask, batch_size: int = 256) -> Evaluation:
    """Accuracy on a split; the classes are matched by their order.

    Raises:
        InputError: The split is empty, has other classes than the model, or is a whole task.
    """
    if not isinstance(split, Split):
        raise InputError("evaluate takes a split: task.test, task.train or task.val.")
    check_classes(model, split)
    if not len(split):
        raise InputError(f"the {split.name} split has no images, so there is nothing to evaluate.")
    model.eval()
    pixels = split.images(model.input_transform.image_size)
    logits = in_batches(model, pixels, model.source, batch_size)
    labels = torch.from_numpy(split.labels)
    total = score(logits, labels)
    hits = logits.argmax(1) == labels
    by_class = {
        name: float(hits[labels == t].float().mean()) if (labels == t).any() else None
        for t, name in enumerate(_distinct(model.class_names))
    }
    return Evaluation(total.accuracy, total.loss, total.n, split.name, by_class)


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, those that come again with a number: a dict would keep one of them.

    >>> _distinct(["crane", "owl", "crane"])
    ['crane', 'owl', 'crane (2)']
    """
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def predict(
    model: Reprogrammed, images: Image | str | Path | Iterable[Image | str | Path]
) -> Float[Tensor, "n target"]:
    """Class probabilities of images, each resized as the training images were.

    Args:
        model: A fitted model.
        images: PIL images or image files; of a single one n is 1.

    Raises:
        InputError: No image, or a file that is no readable one.
    """
    model.eval()
    side = model.input_transform.image_size
    several = [images] if isinstance(images, Image | str | Path) else images
    pixels = [square_pixels(_rgb(image), side) for image in several]
    if not pixels:
        raise InputError("predict takes one image or more, got none.")
    return in_batches(model, torch.stack(pixels), model.source).softmax(1)


def _rgb(image: Image | str | Path) -> Image:
    return to_rgb(image) if isinstance(image, Image) else open_rgb(Path(image))
