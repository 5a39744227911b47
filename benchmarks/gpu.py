"""Rows of a GPU: images a second in bf16, what the report's whole table would take, a large kernel.

The peer is the plain pass through the folded, channels_last source in bf16; of the kernel it is
`vmap(jacrev)` with the product of its rows. On a machine without
CUDA these rows do not exist; their functions compute on the CPU then, which is how they are tested.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import torch

from benchmarks import ntk, ours
from benchmarks.inputs import random_task, resnet18
from benchmarks.registry import Measured
from benchmarks.scale import Scale
from benchmarks.several import round_seconds
from benchmarks.timing import seconds_of
from reprogram.analysis.ntk import dual_of
from reprogram.engine import FeatureStore
from reprogram.sources import NetworkSource

__all__ = ["evaluation", "kernel", "several_prompts", "table_hours", "training"]

SIDE, WARM_UP = 32, 3
PROMPTS = 8
KERNEL_IMAGES, CHUNK = 10_000, 64
AIM_HOURS = 1.0  # the report's table on one H100

# The report's table: training and test images of CIFAR-10, CIFAR-100 and SVHN, five sizes, 50 epochs.
SETS = ((50_000, 10_000), (50_000, 10_000), (73_257, 26_032))
FRACTIONS, EPOCHS, VAL_SHARE = (0.2, 0.4, 0.6, 0.8, 1.0), 50, 0.1
METHODS = ("full-finetune", "reprogramming", "linear-probe", "head-finetune")


def evaluation(scale: Scale) -> Measured:
    peer, own = (eval_rate(trial(scale, "pad+rlm", engine)) for engine in ("folded", "auto"))
    return Measured(peer, own, "images/s", scale.repetitions)


def training(scale: Scale) -> Measured:
    peer, own = (train_rate(trial(scale, "pad+rlm", engine)) for engine in ("folded", "auto"))
    return Measured(peer, own, "images/s", scale.repetitions)


def several_prompts(scale: Scale) -> Measured:
    """The images of a batch, shared out among prompts that step alone or in one batch."""
    few = replace(scale, batch=max(scale.batch // PROMPTS, scale.classes))
    source = gpu_source(scale)
    alone, joint = (
        [trial(few, "pad+rlm", "folded", source=source) for _ in range(PROMPTS)] for _ in range(2)
    )
    images = PROMPTS * few.batch
    peer = images / sum(fastest(round_seconds([one], clock)) for one in alone)
    own = images / fastest(round_seconds(joint, clock))
    return Measured(peer, own, "images/s", scale.repetitions)


def table_hours(scale: Scale) -> Measured:
    """Every cell's training, mapping, validation and test images at the rates measured here."""
    store = FeatureStore()
    seconds = 0.0
    for method in METHODS:
        probe = trial(scale, method, "auto", store)
        seconds += method_seconds(probe, train_rate(probe), eval_rate(probe))
    body = eval_rate(trial(scale, "none+rlm", "folded"))  # the stores are filled once a set
    seconds += sum(n + n_test for n, n_test in SETS) / body
    return Measured(AIM_HOURS, seconds / 3600, "h", scale.repetitions)


def kernel(scale: Scale) -> Measured:
    """The exact spectrum of the full kernel of 10,000 images, K = 10, in the dual on both sides."""
    cached, images = ntk.case("full", ntk.images_of(KERNEL_IMAGES, scale))
    model = copy.deepcopy(cached).to(device())
    x = images.to(device())
    pixels = x.float() / 255 if x.dtype == torch.uint8 else x

    def peer() -> torch.Tensor:
        rows = ntk.naive_rows(model, pixels, CHUNK).double()
        return torch.linalg.eigvalsh(rows.T @ rows)

    def own() -> torch.Tensor:
        return dual_of(model, x).eigenvalues()

    seconds: list[list[float]] = [[], []]
    for _ in range(scale.repetitions):
        for side, work in zip(seconds, (peer, own), strict=True):
            side.append(seconds_of(work, clock))
    return Measured(min(seconds[0]), min(seconds[1]), "s", scale.repetitions)


def method_seconds(probe: ours.Trial, train: float, evaluate: float) -> float:
    """Seconds of a method's cells, from images a second in training and evaluation."""
    mapped = probe.model.mapping.refit == "epoch"
    seconds = 0.0
    for n, n_test in SETS:
        for fraction in FRACTIONS:
            trained = fraction * (1 - VAL_SHARE) * n
            looked_at = VAL_SHARE * n + (trained if mapped else 0)
            seconds += EPOCHS * (trained / train + looked_at / evaluate) + n_test / evaluate
    return seconds


def gpu_source(scale: Scale) -> NetworkSource:
    return resnet18(scale.canvas).to(device())


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def trial(
    scale: Scale, method: str, engine: str, store: FeatureStore | None = None,
    source: NetworkSource | None = None,
) -> ours.Trial:  # fmt: skip
    """A method in bf16 on the GPU; every epoch is one step."""
    source = gpu_source(scale) if source is None else source
    task = random_task(SIDE, scale.classes, scale.batch)
    size = {"size": SIDE} if method.startswith("pad") else {}
    return ours.prepare(
        source, task, method, device=device(), store=store, engine=engine, precision="bf16",
        batch_size=scale.batch, epochs=WARM_UP + scale.repetitions, **size,
    )  # fmt: skip


def train_rate(prepared: ours.Trial) -> float:
    """Images a second of the fastest step."""
    seconds = ours.step_seconds(prepared, lambda: None, clock)
    return prepared.plan.batch_size / fastest(seconds)


def eval_rate(prepared: ours.Trial) -> float:
    """Images a second of the fastest evaluation."""
    seconds = [evaluation_seconds(prepared) for _ in range(prepared.settings.epochs)]
    return prepared.plan.batch_size / fastest(seconds)


def fastest(seconds: list[float]) -> float:
    """Of the measurements after the warm-up."""
    return min(seconds[WARM_UP:])


def evaluation_seconds(prepared: ours.Trial) -> float:
    ours.change_prompt(prepared)
    return seconds_of(lambda: ours.logits(prepared), clock)


def clock() -> float:
    """Time once the GPU has finished what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
