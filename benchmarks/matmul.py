"""Rows of the roofline: how much of the machine's matrix product rate the window engine reaches.

Counted are the floating-point operations that convolutions and matrix products of a step really
execute (PyTorch's counter, two a multiply-add; zero padding counts as executed), so what the
windows do not compute is no credit. The rate is the best that any matrix product of this machine
reaches on one thread.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ours
from benchmarks.inputs import resnet18
from benchmarks.prompts import padding_trial
from benchmarks.registry import Measured
from benchmarks.scale import Scale
from benchmarks.timing import cpu_seconds

__all__ = ["evaluation_share", "sgemm_rate", "training_share"]

# (m, k, n): square ones, and those that ResNet-18's 3 x 3 convolutions come down to.
SHAPES = (
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (25088, 576, 64),
    (6272, 1152, 128),
    (6272, 2304, 256),
    (1568, 4608, 512),
)
IMAGE_SIZE = 32


def training_share(scale: Scale) -> Measured:
    trial = padding_trial(resnet18(scale.canvas), IMAGE_SIZE, scale)
    rates: list[float] = []
    seconds = min(ours.step_seconds(trial, lambda: rates.append(sgemm_rate())))
    with FlopCounterMode(display=False) as counter:
        (flops, *_) = ours.step_seconds(trial, lambda: None, counter.get_total_flops)
    return Measured(max(rates), flops / seconds / 1e9, "GFLOP/s", scale.repetitions)


def evaluation_share(scale: Scale) -> Measured:
    trial = padding_trial(resnet18(scale.canvas), IMAGE_SIZE, scale)
    with FlopCounterMode(display=False) as counter:
        ours.logits(trial)
    rates, seconds = [], []
    for _ in range(scale.repetitions):
        rates.append(sgemm_rate())
        ours.change_prompt(trial)
        seconds.append(cpu_seconds(lambda: ours.logits(trial)))
    own = counter.get_total_flops() / min(seconds) / 1e9
    return Measured(max(rates), own, "GFLOP/s", scale.repetitions)


def sgemm_rate() -> float:
    """GFLOP/s of the fastest float32 matrix product: any shape, any library that PyTorch brings."""
    return max(rate for shape in SHAPES for rate in rates_of(*shape).values())


@torch.no_grad()
def rates_of(m: int, k: int, n: int) -> dict[str, float]:
    """GFLOP/s of an (m, k) by (k, n) product, the better of two runs, by library.

    torch.mm calls PyTorch's BLAS, numpy its own; a product of oneDNN tensors calls oneDNN, whose
    convolutions the engine runs on and which can be twice as fast as both.
    """
    a, b = torch.rand(m, k), torch.rand(n, k)
    out, right = torch.empty(m, n), b.T.contiguous()
    products: dict[str, Callable[[], object]] = {
        "torch": lambda: torch.mm(a, right, out=out),
        "numpy": lambda: a.numpy().dot(right.numpy()),
    }
    if torch.backends.mkldnn.is_available():
        left, weight = a.to_mkldnn(), b.to_mkldnn()
        products["onednn"] = lambda: F.linear(left, weight)
    rates = {}
    with threadpool_limits(1):
        for library, product in products.items():
            product()
            seconds = min(cpu_seconds(product) for _ in range(2))
            rates[library] = 2 * m * k * n / max(seconds, 1e-9) / 1e9
    return rates
