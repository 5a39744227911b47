"""Noise on training and test images: the third axis of the experiment report.

What it answers: accuracy of the experiment report's four methods, and of two more, when training,
validation and test images all carry its noises (Gaussian, blur, salt-and-pepper) at severities 1, 3
and 5.

Source: embedded (ResNet-20, CIFAR-100 at 32 px). Targets: CIFAR-10 (near) and QuickDraw-8 (far). Pool
of 2,000, 15 epochs, batch 64, 3 seeds, the rates of configs/data_size.py, the whole test set.

Command (REPROGRAM_DATA names the folder of the .npz files, which docs/benchmark.md lists):
    reprogram bench run configs/noise_train.py --out results/noise_train \
      --fits results/data_size    # which has trained the clean cells
    reprogram bench report results/noise_train --fits results/data_size

Hardware, wall time and result: results/README.md.
"""

from __future__ import annotations

from pathlib import Path

from reprogram.data.noise import CLEAN, Noise
from reprogram.experiments import Cell, Rates, product

METHODS = (
    "none+ilm", "linear-probe", "head-finetune", "full-finetune", "reprogramming", "smm+linear"
)  # fmt: skip
KINDS = ("gaussian", "blur", "salt-and-pepper")
RATES = Rates(Path(__file__).parents[1] / "results" / "data_size" / "rates.json")


def grid() -> list[Cell]:
    """Clean, then each noise on both sides; seed after seed."""
    cells = product(
        sources=("embedded",), targets=("cifar10.npz", "quickdraw8.npz"), methods=METHODS,
        seeds=(0, 1, 2), train_pool=2_000, rates=RATES,
        noises=[CLEAN, *(Noise(kind, severity, "both") for severity in (3, 1, 5) for kind in KINDS)],
        settings={"epochs": 15, "batch_size": 64},
    )  # fmt: skip
    return sorted(cells, key=lambda cell: cell.seed)
