"""Accuracy predicted before training, from the tangent kernel at the untrained prompt.

A few hundred training images give the kernel, and ridge regression on it says how each of them would
be classified by a model trained on the others. The mapping was fitted on other images than those:
else its own optimism would be counted as the prompt's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from reprogram.analysis.calibration import PARTS
from reprogram.analysis.ntk import Kernel, kernel_of
from reprogram.analysis.ntk.memory import DEFAULT_MAX_MEMORY, require_memory
from reprogram.analysis.spectrum import (
    Spectrum,
    leave_one_out_accuracy,
    left_out,
    ridge_inverse,
    scaled_residual,
    summarise,
    trace_alignment,
)
from reprogram.analysis.transferability import linear_probe, nearest_centroid
from reprogram.data import TargetTask, stratified_subset
from reprogram.engine import for_inference
from reprogram.errors import InputError
from reprogram.evaluation import in_batches, source_outputs
from reprogram.experiments import trial_images
from reprogram.methods import MAPPINGS, PROMPTS, get_method
from reprogram.model import Reprogrammed
from reprogram.seeds import generator_for, seed_for
from reprogram.settings import Settings
from reprogram.sources import Source
from reprogram.statistics import binomial_interval

__all__ = ["RIDGE", "Forecast", "forecast"]

RIDGE = 1e-4  # of the kernel's trace; fixed in advance, since choosing it for each pair did worse
LARGEST_FULL = 4096  # rows; beyond it the kernel of every logit alike, which is k^2 smaller
PEAK = 7  # kernels of memory that the regression, and the spectrum, take at their height
FOLDS = 5
BATCH = 256


@dataclass(frozen=True, eq=False)
class Forecast:
    """What the images say before any training; accuracies are shares in [0, 1].

    Attributes:
        method: Name of the method.
        accuracy: Leave-one-out accuracy of ridge regression on the kernel.
        start: Accuracy of the untrained prompt with its mapping, on the same images.
        unprompted: That of the plain resized image, with a mapping of the same kind.
        probe: Cross-validated accuracy of a linear probe on the source's logits; chance for one
            image, which leaves none to fit on.
        centroid: Accuracy of the nearest class mean, each image left out, in the source's features
            (its logits, where it has none) of the plain mapping images.
        effective_dimension: sum lambda / (lambda + rho) at the ridge, over all outputs.
        images: n, on which all of these but the centroid are.
        mapping_images: Other images, which the mappings were fitted on.
        kernel: The kernel and how it was made.
        residual: Labels on the scale of the logits minus the logits, (n, k).
        precision: In which the gradients were computed.
        laps: Wall time of the pass and fit behind a mapping, of a pass over the kernel's own images
            (by that pace, since the kernel makes it anyway), of the kernel with its regression, of
            the probe and of the centroid; images included, the spectrum not.
    """

    method: str
    accuracy: float
    start: float
    unprompted: float
    probe: float
    centroid: float
    effective_dimension: float
    images: int
    mapping_images: int
    kernel: Kernel
    residual: Float[Tensor, "n k"]
    precision: torch.dtype
    laps: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Wall time of everything but the spectrum."""
        return sum(self.laps.values())

    def alignment(self) -> float | None:
        """Of the trace kernel with the residual, centred; None where one is constant."""
        return trace_alignment(self.kernel.values.cpu(), self.residual)

    @cached_property
    def spectrum(self) -> Spectrum:
        """The kernel's spectrum against the residual; an eigenproblem, solved where it is asked for."""
        logits = 1 if self.kernel.kind == "full" else self.kernel.outputs  # that an entry sums
        return summarise(
            self.kernel.values.cpu(), self.residual, parameters=self.kernel.parameters,
            logits=logits, precision=self.precision,
        )  # fmt: skip

    @property
    def gain(self) -> float:
        """What training is predicted to gain over the unprompted mapping."""
        return self.accuracy - self.unprompted

    @property
    def sampling_error(self) -> float:
        """Half an exact 95 % interval of `accuracy` from the number of images alone."""
        low, high = binomial_interval(round(self.accuracy * self.images), self.images)
        return (high - low) / 2

    def parts(self) -> dict[str, float]:
        """What a calibration reads."""
        return {name: getattr(self, name) for name in PARTS}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        own = (
            "method",
            "accuracy",
            "start",
            "effective_dimension",
            "images",
            "mapping_images",
            "seconds",
        )
        made = ("kind", "rows", "route", "parameters", "outputs", "bytes", "note")
        return {
            **{name: getattr(self, name) for name in own},
            **self.parts(),
            "ridge_by_trace": RIDGE,
            "sampling_error": self.sampling_error,
            "spectrum": self.spectrum.to_dict(),
            "kernel": {name: getattr(self.kernel, name) for name in made},
        }


def forecast(
    source: Source,
    task: TargetTask,
    method: str,
    *,
    settings: Settings | None = None,
    images: int = 200,
    mapping_images: int = 512,
    seed: int = 0,
    train_pool: int | None = None,
    val_share: float = 0.1,
    kind: str = "auto",
    rows: str = "auto",
    store: Path | None = None,
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
        kind: "full", "trace" or "pseudo"; "auto" is full up to 4,096 rows and where its regression
            fits `max_memory`, else trace.
        rows: As in `kernel_of`.
        store: As in `kernel_of`.
        max_memory: Bytes for the kernel with its regression, and for a prompt.
        on_progress: Called with images done and in all while the kernel is made.

    Raises:
        InputError: As in `Method.build` and `kernel_of`, or the regression does not fit.
    """
    watch = _Watch()
    here, others = _images(task, images, mapping_images, seed, train_pool, val_share)
    labels = torch.from_numpy(task.train.labels)
    y = labels[torch.as_tensor(here)]
    chosen = get_method(method)
    if chosen.first_order:  # at its start it is the model itself
        chosen = get_method(chosen.drawn_as)
    resolved = chosen.resolve(source, task.native_size, train_pool or len(task.train), settings)
    init = generator_for("init", task.name, chosen.drawn_as, seed)
    model = chosen.build(source, task.class_names, resolved, init, max_memory)
    model.eval()
    k = task.num_classes
    kind = _kind(kind, len(here), k, max_memory)
    plain = _unprompted(source, task, method, seed)
    mapped, features = _plain_look(plain, task, others)
    _fit(plain, task, others, mapped)
    mapping_seconds = watch.lap()
    centroid = nearest_centroid(features, labels[torch.as_tensor(others)])
    centroid_seconds = watch.lap()
    if model.mapping.refit != "never":
        _fit(model, task, others, _look(model, task, others, like=mapped))
    x = task.train.subset(here).images(model.input_transform.image_size)
    kernel = kernel_of(
        model, x, kind=kind, rows=rows, max_memory=max_memory, store=store, on_progress=on_progress
    )
    seen = _look(model, task, here) if kernel.reads is None else _Look(model, kernel.reads)
    plain_seen = _look(plain, task, here, like=seen)
    logits = _logits(model, seen)
    residual = scaled_residual(logits.double(), F.one_hot(y, k).double())
    outputs = 1 if kernel.kind == "full" else k  # that a small kernel stands for, each alike
    rho = RIDGE * outputs * float(kernel.matrix.trace())
    inverse = ridge_inverse(kernel.values.cpu(), rho)
    change = left_out(inverse, residual)
    kernel_seconds = watch.lap()
    probe = _probe(plain_seen.outputs, y, k)
    pass_seconds = min(mapping_seconds * len(here) / len(others), kernel_seconds)
    return Forecast(
        method=method,
        accuracy=leave_one_out_accuracy(change, logits, y),
        start=accuracy(logits, y),
        unprompted=accuracy(_logits(plain, plain_seen), y),
        probe=probe,
        centroid=centroid,
        effective_dimension=outputs * (len(inverse) - rho * float(inverse.trace())),
        images=len(here),
        mapping_images=len(others),
        kernel=kernel,
        residual=residual,
        precision=source.mean.dtype,
        laps={
            "mapping": mapping_seconds, "pass": pass_seconds,
            "kernel": kernel_seconds - pass_seconds, "probe": watch.lap(),
            "centroid": centroid_seconds,
        },
    )  # fmt: skip


@dataclass
class _Watch:
    """Seconds since the last lap."""

    last: float = field(default_factory=time.perf_counter)

    def lap(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


def _kind(kind: str, n: int, k: int, max_memory: int) -> str:
    """The kind that "auto" stands for.

    Raises:
        InputError: Ridge regression on the kernel does not fit.
    """

    def size(kind: str) -> int:
        return PEAK * 8 * (n * k if kind == "full" else n) ** 2

    if kind == "auto":
        kind = "full" if n * k <= LARGEST_FULL and size("full") <= max_memory else "trace"
    require_memory(
        size(kind), max_memory, f"ridge regression on the {kind} kernel of {n:,} images, k = {k},",
        "Take fewer images" + (", or kind=trace." if kind == "full" else "."),
    )  # fmt: skip
    return kind


def _probe(outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"], classes: int) -> float:
    if len(labels) == 1:
        return 1 / classes
    return linear_probe(outputs, labels, folds=min(FOLDS, len(labels)))


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
    """What a model's mapping reads of some images."""

    model: Reprogrammed
    outputs: Float[Tensor, "n source"]


def _look(
    model: Reprogrammed, task: TargetTask, index: ndarray, like: _Look | None = None
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

    pixels = task.train.subset(index).images(transform.image_size)
    return _Look(model, in_batches(outputs, pixels, source, BATCH))


def _plain_look(
    model: Reprogrammed, task: TargetTask, index: ndarray
) -> tuple[_Look, Float[Tensor, "n d"]]:
    """The logits of plain images and, from the same pass, their features, or logits for none."""
    transform = model.input_transform
    pixels = task.train.subset(index).images(transform.image_size)
    logits, features = source_outputs(model.source, pixels, transform)
    return _Look(model, logits), logits if features is None else features


def _fit(model: Reprogrammed, task: TargetTask, index: ndarray, look: _Look) -> None:
    """Fit the model's mapping on these images, if it is fitted at all."""
    if model.mapping.refit != "never":
        mean = model.source.mean
        labels = torch.from_numpy(task.train.labels[index]).to(mean.device)
        model.mapping.fit(look.outputs.to(mean), labels)


@torch.no_grad()
def _logits(model: Reprogrammed, look: _Look) -> Float[Tensor, "n target"]:
    return model.mapping(look.outputs.to(model.source.mean)).cpu()


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
