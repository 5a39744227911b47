"""Noise on the test images: what survives that nobody trained for?

What it answers: accuracy and robustness (noisy over clean, of the same fit) of seven methods under the
experiment report's three noises and the 19 corruptions of ImageNet-C at severities 1, 3 and 5. Nothing is
trained: cells share the fits of configs/data_size.py at 100 %, so run that one first; a fit that is
gone is made again, to the same bits.

2,000 test images, stratified and the same for every method and seed: on two cores the whole test sets
would take hours. Only clean accuracy uses them all (configs/data_size.py); here clean is scored on the
same 2,000, so that robustness is a ratio of like with like.

Command (REPROGRAM_DATA names the folder of the .npz files, which docs/benchmark.md lists; the extra
`corruptions` is needed):
    reprogram bench run configs/noise_test.py --out results/noise_test --fits results/data_size
    reprogram bench report results/noise_test

Hardware, wall time and result: results/README.md.
"""

from __future__ import annotations

from pathlib import Path

from reprogram.data.noise import CLEAN, NOISES, ImageNoise, Noise
from reprogram.experiments import Cell, Rates, product

TARGETS = ("cifar10.npz", "gtsrb.npz", "quickdraw8.npz")
METHODS = (
    "none+ilm", "linear-probe", "head-finetune", "full-finetune", "reprogramming", "pad+ilm",
    "smm+linear",
)  # fmt: skip
RATES = Rates(Path(__file__).parents[1] / "results" / "data_size" / "rates.json")
KINDS = [name for name, kind in NOISES.items() if isinstance(kind, ImageNoise)]


def grid() -> list[Cell]:
    """Clean, then every kind at three severities."""
    noises = [CLEAN, *(Noise(kind, severity, "test") for severity in (3, 1, 5) for kind in KINDS)]
    return product(
        sources=("embedded",), targets=TARGETS, methods=METHODS,
        seeds=(0, 1, 2), noises=noises, rates=RATES, train_pool=2_000,
        test_pool=2_000, settings={"epochs": 15, "batch_size": 64},
    )  # fmt: skip
