r"""Depth: the NTK paper's experiment (arXiv 2506.00620), at the size of two CPU cores.

What it answers: does a deeper source, and so a more accurate one, make a better reprogrammed model? And
does the smallest eigenvalue of the tangent kernel say which input transformation loses less?

Sources: CNN (width 32) and DNN (width 512) of level 1 to 6 on 10,000 images of CIFAR-10, three trainings
each; the CNN of level 1 to 6 on the last map of a frozen MobileNetV2 at 224 px, one training.
Input transformations: VP (`pad`, 28 px in 32, Adam 1e-1) and FC (`fc`, Adam 1e-3), mapping `first`, CE.
On the extractor VP alone: FC would have 2.3e10 parameters. Targets: USPS and GTSRB's first ten classes.

Other than in the paper: widths and images as above; 30 epochs with the best one chosen on validation
images instead of up to 150 with a patience of 3 on the test set; prompts see the normalisation that
their source was trained with.

Command (REPROGRAM_DATA names the folder of the .npz files, which docs/benchmark.md lists; MOBILENET is
a source directory or a name, such as timm/mobilenetv2_100.ra_in1k; open_clip/NAME@TAG takes CLIP;
sources/ is not committed):
    for l in 1 2 3 4 5 6; do
      for s in 0 1 2; do
        reprogram train-source --network cnn-$l --width 32 --target cifar10.npz --train-pool 10000 \
          --seed $s --out sources/cnn-$l/seed-$s
        reprogram train-source --network dnn-$l --width 512 --target cifar10.npz --train-pool 10000 \
          --seed $s --out sources/dnn-$l/seed-$s
      done
      reprogram train-source --network cnn-$l --width 32 --extractor MOBILENET --target cifar10.npz \
        --train-pool 2000 --test-pool 2000 --out sources/mobilenet-cnn-$l/seed-0
    done
    reprogram bench run configs/depth.py --out results/ntk/depth
    reprogram ntk-depth results/ntk/depth --out results/ntk/depth-report

Hardware, wall time and result: results/ntk/README.md.
"""

from __future__ import annotations

from typing import Any

from reprogram.experiments import Cell, product

LEVELS = range(1, 7)
KINDS = ("cnn", "dnn")
TARGETS = ("usps.npz", "gtsrb.npz[0-9]")
SEEDS = (0, 1, 2)
IMAGES = {"train_pool": 2000}
SETTINGS: dict[str, dict[str, Any]] = {
    # The paper's rates and batches; `pad` has those of the common published training by default.
    "pad+first": {"lr": 0.1, "batch_size": 128, "schedule": "constant"},
    "fc+first": {"lr": 1e-3, "batch_size": 128, "schedule": "constant"},
}


def grid() -> list[Cell]:
    """On pixels, seed after seed; then on the extractor."""
    cells = []
    for method, settings in SETTINGS.items():
        cells += product(
            sources=[f"sources/{kind}-{level}" for kind in KINDS for level in LEVELS],
            targets=TARGETS, methods=(method,), seeds=SEEDS, source_seeds=SEEDS,
            settings=settings | {"epochs": 30}, **IMAGES,
        )  # fmt: skip
    on_extractor = product(
        sources=[f"sources/mobilenet-cnn-{level}" for level in LEVELS], targets=("usps.npz",),
        methods=("pad+first",), source_seeds=(0,),
        settings=SETTINGS["pad+first"] | {"epochs": 15, "size": 196},  # as 28 in 32
        **IMAGES,
    )  # fmt: skip
    return sorted(cells, key=lambda cell: cell.seed) + on_extractor
