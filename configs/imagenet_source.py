"""The experiment report's own setting: an ImageNet source at 224 px, CIFAR-10 as the target.

What it answers: where pad+ilm, SMM, full fine-tuning, the linear probe and head fine-tuning stand on a
real ImageNet network (SqueezeNet 1.1; the experiment report's ResNet-18 has no weights here), with the
pool of configs/data_size.py; and the probes, which stored features make cheap, on the complete set too.

Source: a SqueezeNet 1.1 directory at sources/squeezenet1_1-imagenet. 15 epochs, batch 64, 3 seeds,
the whole test set; rates chosen on validation where rates.json is there, else the published ones.

Command (REPROGRAM_DATA names the folder of the .npz files, which docs/benchmark.md lists):
    reprogram bench run configs/imagenet_source.py --out results/imagenet_source
    reprogram bench report results/imagenet_source

Hardware, wall time and result: results/README.md.
"""

from __future__ import annotations

from pathlib import Path

from reprogram.experiments import Cell, Rates, product

SOURCE, TARGET = "sources/squeezenet1_1-imagenet", "cifar10.npz"
RATES = Rates(Path(__file__).parents[1] / "results" / "imagenet_source" / "rates.json")


def grid() -> list[Cell]:
    """The cheap methods first, then what the time allows, then the probes on all images."""
    common = {"sources": (SOURCE,), "targets": (TARGET,), "seeds": (0, 1, 2), "rates": RATES}
    pool = common | {"train_pool": 2_000, "settings": {"epochs": 15, "batch_size": 64}}
    return [
        *product(methods=("none+ilm", "linear-probe", "head-finetune"), **pool),
        *product(methods=("linear-probe", "head-finetune"), settings={"epochs": 15}, **common),
        *product(methods=("pad+ilm",), **pool),
        *product(methods=("smm+ilm", "full-finetune"), **pool),
    ]
