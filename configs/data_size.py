"""Data size: when does reprogramming work, and how much does it want?

What it answers: accuracy of the experiment report's four methods, and of three more, at 20 to 100 % of
a pool of 2,000 training images; how many points each gains from 20 % to 100 %; and whether that is the images
or the steps: five times fewer images are five times fewer steps at the same number of epochs, so a
control trains with every smaller size for as many steps as 100 % takes (`@steps`), 20 % first.

Source: embedded (ResNet-20, CIFAR-100 at 32 px, 67.9 %). Targets: CIFAR-10 (near), GTSRB, QuickDraw-8
(far). 15 epochs, batch 64, 3 seeds; the learning rate of each pair and method is chosen on
validation (rates.json). The whole test set is scored, once.

Command (REPROGRAM_DATA names the folder of the .npz files, which docs/benchmark.md lists):
    reprogram bench tune configs/data_size.py --out results/data_size
    reprogram bench run configs/data_size.py --out results/data_size
    reprogram bench report results/data_size

Hardware, wall time and result: results/README.md.
"""

from __future__ import annotations

import math
from pathlib import Path

from reprogram.experiments import Cell, Rates, product

TARGETS = ("cifar10.npz", "gtsrb.npz", "quickdraw8.npz")
METHODS = (
    "none+ilm",
    "linear-probe",
    "head-finetune",
    "full-finetune",
    "reprogramming",
    "pad+ilm",
    "smm+linear",
)
TRAINED = METHODS[1:]
POOL, EPOCHS, BATCH = 2_000, 15, 64
# Training images at 100 %, after validation; GTSRB's tracks are not cut apart.
IMAGES = {"cifar10.npz": 1_800, "gtsrb.npz": 1_774, "quickdraw8.npz": 1_800}
RATES = Rates(Path(__file__).parents[1] / "results" / "data_size" / "rates.json")


def grid() -> list[Cell]:
    """Five sizes at equal epochs, then the smaller ones at equal steps, the smallest first."""
    common = {"sources": ("embedded",), "seeds": (0, 1, 2), "rates": RATES, "train_pool": POOL}
    cells = product(
        targets=TARGETS, methods=METHODS, fractions=(0.2, 0.4, 0.6, 0.8, 1.0),
        settings={"epochs": EPOCHS, "batch_size": BATCH}, **common,
    )  # fmt: skip
    controls = tuple(f"{method}@steps" for method in TRAINED)
    for fraction in (0.2, 0.4, 0.6, 0.8):
        for target, images in IMAGES.items():
            steps = EPOCHS * math.ceil(images / BATCH)
            cells += product(
                targets=(target,), methods=controls, fractions=(fraction,),
                settings={"steps": steps, "batch_size": BATCH}, **common,
            )  # fmt: skip
    return cells
