"""Rows of neural tangent kernels: `kernel_of` and `dual_of` against `torch.func`.

The peer is the way of the PyTorch documentation: `vmap(jacrev)` over examples in chunks, then the
Gram matrix of the rows. Both sides end with the kernel in float64, but for the dense layer, whose
naive Jacobian of 3 GB is multiplied in float32.

`python -m benchmarks.ntk SIDE CASE IMAGES` is the fresh process of a memory row.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from benchmarks.inputs import resnet18
from benchmarks.peak import peak_of, print_peak
from benchmarks.prompts import timed
from benchmarks.registry import Measured
from benchmarks.scale import FULL, Scale
from reprogram.analysis.ntk import dual_of, kernel_of
from reprogram.analysis.spectrum import ridge_dual
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, functional
from reprogram.sources import NetworkSource
from reprogram.sources.networks import cifar_resnet20

__all__ = [
    "best_chunk", "chunk_of_64", "dense_layer_memory", "dense_layer_time", "dual_memory",
    "dual_time", "prompt_memory", "resnet18_best_chunk", "resnet18_chunk_of_64",
]  # fmt: skip

IMAGES, DENSE_IMAGES, LARGE_IMAGES, ALL_IMAGES = 256, 8, 16, 50_000
CLASSES = 10
LIMIT = 4096.0  # MiB that the dual route may take


def chunk_of_64(scale: Scale) -> Measured:
    return against("full", images_of(IMAGES, scale), [64], scale)


def best_chunk(scale: Scale) -> Measured:
    return against("full", images_of(IMAGES, scale), [8, 16, 32], scale)


def dense_layer_time(scale: Scale) -> Measured:
    return against("fc", images_of(DENSE_IMAGES, scale), [1], scale)


def resnet18_chunk_of_64(scale: Scale) -> Measured:
    return against("resnet18", images_of(LARGE_IMAGES, scale), [64], scale)


def resnet18_best_chunk(scale: Scale) -> Measured:
    return against("resnet18", images_of(LARGE_IMAGES, scale), [1, 2, 4], scale)


def prompt_memory(scale: Scale) -> Measured:
    return memory("full", images_of(IMAGES, scale))


def dense_layer_memory(scale: Scale) -> Measured:
    return memory("fc", images_of(DENSE_IMAGES, scale))


def dual_memory(scale: Scale) -> Measured:
    """Spectrum and ridge regression of 50,000 images, against the memory that they may take."""
    n = images_of(ALL_IMAGES, scale)
    return Measured(LIMIT, peak_of("benchmarks.ntk", "ours", "dual", n), "MiB", 1)


def dual_time(scale: Scale) -> Measured:
    """The same against `vmap(jacrev)`, projected from the rows of 256 images."""
    n, few = images_of(ALL_IMAGES, scale), images_of(IMAGES, scale)
    model, x = case("full", few)
    peer, rows = timed(lambda: naive_rows(model, x, 16))
    own, run = timed(lambda: dual("full", n))
    rows()
    run()
    return Measured(peer[0] * n / few, own[0], "CPU s", 1)


def against(name: str, n: int, chunks: Sequence[int], scale: Scale) -> Measured:
    """CPU seconds of a kernel, the peer in its best chunk; interleaved."""
    model, x = case(name, n)
    sides = [timed(lambda c=chunk: naive(model, x, c)) for chunk in chunks]
    own, run = timed(lambda: kernel_of(model, x))
    for _ in range(scale.repetitions):
        run()
        for _, peer in sides:
            peer()
    return Measured(min(min(seconds) for seconds, _ in sides), min(own), "CPU s", len(own))


def naive(model: Reprogrammed, x: Tensor, chunk: int) -> Tensor:
    """The kernel by definition: all rows of J, then their products."""
    rows = naive_rows(model, x, chunk)
    if rows.numel() < 1 << 28:
        rows = rows.double()
    return (rows @ rows.T).double()


def naive_rows(model: Reprogrammed, x: Tensor, chunk: int) -> Tensor:
    """J, an output of an example a row."""
    f, params = functional(model)
    per_example = vmap(jacrev(lambda p, v: f(p, v[None])[0]), in_dims=(None, 0), chunk_size=chunk)
    by_name = per_example(params, x)
    return torch.cat([by_name[name].flatten(0, 1).flatten(1) for name in params], 1)


def dual(name: str, n: int) -> Tensor:
    """Eigenvalues and ridge regression of n images in the dual."""
    model, x = case(name, n)
    with torch.no_grad():
        residual = torch.cat([-model(part.float() / 255) for part in x.split(256)])
    residual[torch.arange(n), torch.arange(n) % CLASSES] += 1
    found = dual_of(model, x, residual)
    ridge_dual(found.matrix, found.moment, 1e-4 * float(found.matrix.trace()))
    return found.eigenvalues()


@cache
def case(name: str, n: int) -> tuple[Reprogrammed, Tensor]:
    """A prompt on a source with random weights, and random images; bytes where they are many."""
    source = resnet18() if name == "resnet18" else resnet20()
    method = get_method("fc+first" if name == "fc" else "full+first")
    settings = method.resolve(source, 32, n)
    names = tuple(f"class {t}" for t in range(CLASSES))
    generator = torch.Generator().manual_seed(0)
    model = method.build(source, names, settings, generator).eval()
    shape = (n, 3, source.image_size, source.image_size)
    x = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return model, x if n > 4096 else x.float() / 255


def resnet20() -> NetworkSource:
    """The CIFAR ResNet-20 with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = cifar_resnet20().eval()
    return NetworkSource(
        network, mean=0.5, std=0.25, image_size=32, name="resnet20", head="linear",
        class_names=[f"class {t}" for t in range(CLASSES)],
    )  # fmt: skip


def images_of(n: int, scale: Scale) -> int:
    """The documented number of images; a sixteenth of it for a first look."""
    return n if scale.batch >= FULL.batch else max(2, n // 16)


def memory(name: str, n: int) -> Measured:
    """Peak MiB of both sides."""
    peer, own = (peak_of("benchmarks.ntk", side, name, n) for side in ("peer", "ours"))
    return Measured(peer, own, "MiB", 1)


def run_side(side: str, name: str, n: int) -> None:
    """What the process of a memory row does."""
    if name == "dual":
        dual("full", n)
        return
    model, x = case(name, n)
    if side == "ours":
        kernel_of(model, x)
    else:
        naive(model, x, 1 if name == "fc" else 64)


if __name__ == "__main__":
    print_peak(lambda: run_side(sys.argv[1], sys.argv[2], int(sys.argv[3])))
