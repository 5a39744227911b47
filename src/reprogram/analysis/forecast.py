"""Accuracy predicted before training, from the tangent kernel at the untrained prompt.

A few hundred training images give the kernel, and ridge regression on it says how each of them would
be classified by a model trained on the others. The mapping was fitted on other images than those:
else its own optimism would be counted as the prompt's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from reprogram.analysis.ntk import Kernel, kernel_of
from reprogram.analysis.ntk.memory import DEFAULT_MAX_MEMORY
from reprogram.analysis.spectrum import (
    Spectrum,
    leave_one_out,
    leave_one_out_accuracy,
    scaled_residual,
    summarise,
)
from reprogram.analysis.transferability import linear_probe
from reprogram.data import TargetTask, stratified_subset
from reprogram.engine import for_inference
from reprogram.errors import InputError
from reprogram.evaluation import in_batches
from reprogram.experiments import trial_images
from reprogram.methods import MAPPINGS, PROMPTS, get_method
from reprogram.model import Reprogrammed
from reprogram.seeds import generator_for, seed_for
from reprogram.settings import Settings
from reprogram.sources import Source

__all__ = ["RIDGE", "Calibration", "Forecast", "forecast"]

RIDGE = 1e-4  # of the kernel's trace; fixed in advance, since choosing it for each pair did worse
LARGEST_FULL = 4096  # rows; beyond it the kernel of every logit alike, which is k^2 smaller
FOLDS = 5
PARTS = ("unprompted", "gain", "probe")
BATCH = 256


@dataclass(frozen=True, eq=False)
class Forecast:
    """What the images say before any training; accuracies are shares in [0, 1].

    Attributes:
        method: Name of the method.
        accuracy: Leave-one-out accuracy of ridge regression on the kernel.
        start: Accuracy of the untrained prompt with its mapping, on the same images.
        unprompted: That of the plain resized image, with a mapping of the same kind.
        probe: Cross-validated accuracy of a linear probe on the source's logits.
        images: n, on which all of these are.
        mapping_images: Other images, which the mappings were fitted on.
        kernel: The kernel and how it was made.
        residual: Labels on the scale of the logits minus the logits, (n, k).
        precision: In which the gradients were computed.
        seconds: Wall time of everything but the spectrum, images included.
    """

    method: str
    accuracy: float
    start: float
    unprompted: float
    probe: float
    images: int
    mapping_images: int
    kernel: Kernel
    residual: Float[Tensor, "n k"]
    precision: torch.dtype
    seconds: float

    @cached_property
    def spectrum(self) -> Spectrum:
        """The kernel's spectrum against the residual; an eigenproblem, solved where it is asked for."""
        logits = (
            1 if self.kernel.kind == "full" else self.kernel.outputs
        )  # a small kernel sums them
        return summarise(
            self.kernel.values.cpu(), self.residual, parameters=logits * self.kernel.parameters,
            precision=self.precision,
        )  # fmt: skip

    @property
    def gain(self) -> float:
        """What training is predicted to gain over the unprompted mapping."""
        return self.accuracy - self.unprompted

    @property
    def sampling_error(self) -> float:
        """Half a 95 % interval of `accuracy` from the number of images alone."""
        return 1.96 * math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    def parts(self) -> dict[str, float]:
        """What a calibration reads."""
        return {name: getattr(self, name) for name in PARTS}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        own = ("method", "accuracy", "start", "images", "mapping_images", "seconds")
        made = ("kind", "rows", "route", "parameters", "outputs", "bytes", "note")
        return {
            **{name: getattr(self, name) for name in own},
            **self.parts(),
            "ridge_by_trace": RIDGE,
            "sampling_error": self.sampling_error,
            "spectrum": self.spectrum.to_dict(),
            "kernel": {name: getattr(self.kernel, name) for name in made},
        }


@dataclass(frozen=True)
class Calibration:
    """A linear fit of trained accuracies on a forecast's parts, made on other targets.

    Attributes:
        intercept: Accuracy where every part is 0.
        unprompted, gain, probe: Weights of the parts.
        error: Half the width of a 95 % prediction interval, as a share.
        pairs: Number of (source, target) pairs behind the fit.
    """

    intercept: float
    unprompted: float
    gain: float
    probe: float
    error: float
    pairs: int

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """A calibration from a JSON file with these six numbers.

        Raises:
            InputError: No such file, or not these numbers.
        """
        names = list(cls.__dataclass_fields__)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            numbers = {name: float(values[name]) for name in names}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"calibration {str(path)!r} cannot be read ({type(error).__name__}). It must be a "
                f"JSON object with the numbers {', '.join(names)}."
            ) from error
        if not all(map(math.isfinite, numbers.values())):
            raise InputError(f"calibration {str(path)!r} holds a number that is not finite.")
        pairs = int(numbers.pop("pairs"))
        return cls(pairs=pairs, **numbers)

    def accuracy(self, parts: Mapping[str, float]) -> float:
        """The calibrated accuracy, in [0, 1]."""
        value = self.intercept + sum(getattr(self, name) * parts[name] for name in PARTS)
        return min(1.0, max(0.0, value))


def forecast(
    source: Source,
    task: TargetTask,
    method: str,
    *,
    settings: Settings | None = None,
    images: int = 256,
    mapping_images: int = 1024,
    seed: int = 0,
    train_pool: int | None = None,
    val_share: float = 0.1,
    kind: str = "auto",
    max_memory: int = DEFAULT_MAX_MEMORY,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Forecast:
    """Predict a method's accuracy from its tangent kernel before training.

    Args:
        source: Where it lies is where it computes.
        task: The training split alone is looked at, of it what the trial would train on.
        method: A name in METHODS.
        settings: None takes the method's published ones.
        images: n of the kernel, stratified; at most half of the trial's training images.
        mapping_images: Other images, at most, that the mappings are fitted on.
        seed: Of the trial.
        train_pool: As in a Cell.
        val_share: As in a Cell.
        kind: "full", "trace" or "pseudo"; "auto" is full up to 4,096 rows and trace beyond.
        max_memory: Bytes for the kernel and for a prompt.
        on_progress: Called with images done and in all while the kernel is made.

    Raises:
        InputError: As in `Method.build` and `kernel_of`.
    """
    began = time.perf_counter()
    here, others = _images(task, images, mapping_images, seed, train_pool, val_share)
    labels = torch.from_numpy(task.train.labels)
    y = labels[torch.as_tensor(here)]
    chosen = get_method(method)
    resolved = chosen.resolve(source, task.native_size, train_pool or len(task.train), settings)
    init = generator_for("init", task.name, chosen.name, seed)
    model = chosen.build(source, task.class_names, resolved, init, max_memory)
    model.eval()
    plain = _unprompted(source, task, method, seed)
    plain_look = _look(plain, task, here, others)
    logits = _fitted(model, task, others, _look(model, task, here, others, like=plain_look))
    k = task.num_classes
    if kind == "auto":
        kind = "full" if len(here) * k <= LARGEST_FULL else "trace"
    x = task.train.subset(here).images(model.input_transform.image_size)
    kernel = kernel_of(model, x, kind=kind, max_memory=max_memory, on_progress=on_progress)
    residual = scaled_residual(logits.double(), F.one_hot(y, k).double())
    theta = kernel.values.cpu()
    trace = float(kernel.matrix.trace())
    change = leave_one_out(theta, residual, RIDGE * trace)
    return Forecast(
        method=method,
        accuracy=leave_one_out_accuracy(change, logits, y),
        start=accuracy(logits, y),
        unprompted=accuracy(_fitted(plain, task, others, plain_look), y),
        probe=linear_probe(plain_look.outputs[: len(here)], y, folds=min(FOLDS, len(y))),
        images=len(here),
        mapping_images=len(others),
        kernel=kernel,
        residual=residual,
        precision=source.mean.dtype,
        seconds=time.perf_counter() - began,
    )


def accuracy(logits: Float[Tensor, "n target"], labels: Int[Tensor, " n"]) -> float:
    """Share of arg-max hits."""
    return float((logits.argmax(1) == labels).double().mean())


def _images(
    task: TargetTask,
    images: int,
    mapping_images: int,
    seed: int,
    train_pool: int | None,
    val_share: float,
) -> tuple[Int[ndarray, " n"], Int[ndarray, " m"]]:
    """Positions of the kernel's images, and of those that the mappings are fitted on."""
    if images < 1 or mapping_images < 1:
        raise InputError(
            f"a forecast needs at least one image and one mapping image, got {images} and "
            f"{mapping_images}."
        )
    train, _, _ = trial_images(task, 1.0, seed, val_share, train_pool)
    if len(train) < 2:
        raise InputError(
            f"target {task.name!r} has {len(train)} training image(s); a forecast needs two, one "
            "to leave out and one to fit the mapping on."
        )
    labels = task.train.labels

    def some(of: ndarray, n: int, role: str) -> ndarray:
        chosen = stratified_subset(labels[of], n, seed=seed_for(role, task.name, seed))
        return of[chosen]

    here = some(train, min(images, len(train) // 2), "forecast")
    rest = np.setdiff1d(train, here)
    return here, some(rest, min(mapping_images, len(rest)), "forecast-mapping")


@dataclass(frozen=True, eq=False)
class _Look:
    """What a model's mapping reads of the kernel's images, then of the mapping's."""

    model: Reprogrammed
    outputs: Float[Tensor, "n source"]


def _look(
    model: Reprogrammed, task: TargetTask, here: ndarray, others: ndarray, like: _Look | None = None
) -> _Look:
    """One pass through the folded source; none for images that are those of another look.

    A prompt that starts as the plain image, such as `full`, costs no second pass.
    """
    transform, source, reads = model.input_transform, model.source, model.mapping.reads
    body = for_inference(source)
    if like and not (
        like.model.source is source
        and like.model.mapping.reads == reads
        and like.model.input_transform.image_size == transform.image_size
    ):
        like = None
    known = iter(() if like is None else like.outputs.split(BATCH))

    def outputs(x: Float[Tensor, "batch 3 s s"]) -> Float[Tensor, "batch source"]:
        z, seen = transform(x), next(known, None)
        if like and seen is not None and torch.equal(z, like.model.input_transform(x)):
            return seen
        return body.features(z) if reads == "features" else body(z)

    pixels = task.train.subset(np.concatenate([here, others])).images(transform.image_size)
    return _Look(model, in_batches(outputs, pixels, source, BATCH))


def _fitted(
    model: Reprogrammed, task: TargetTask, others: ndarray, look: _Look
) -> Float[Tensor, "n target"]:
    """Fit the model's mapping on the other images; its logits on the kernel's."""
    mapping, mean = model.mapping, model.source.mean
    outputs = look.outputs.to(mean)
    n = len(outputs) - len(others)
    if mapping.refit != "never":
        mapping.fit(outputs[n:], torch.from_numpy(task.train.labels[others]).to(mean.device))
    with torch.no_grad():
        return mapping(outputs[:n]).cpu()


def _unprompted(source: Source, task: TargetTask, method: str, seed: int) -> Reprogrammed:
    """The plain resized image, with a mapping of the method's kind that needs no training."""
    prompt, _, mapping = method.partition("@")[0].partition("+")
    if prompt not in PROMPTS or mapping not in MAPPINGS or mapping == "linear":
        # A trained mapping has nothing to say before training.
        mapping = "flm" if task.num_classes <= source.num_classes else "blm"
    plain = get_method(f"none+{mapping}")
    settings = plain.resolve(source, task.native_size, len(task.train))
    init = generator_for("init", task.name, plain.name, seed)
    return plain.build(source, task.class_names, settings, init).eval()
