"""Prediction before training: the trainings that forecasts are measured against.

What it answers: how well the tangent kernel of a few hundred images, the scores of the literature and
the first steps of training itself predict the accuracy of a whole training, on pairs of source and
target that none of them was calibrated on.

Method: `full+ilm`. Its prompt starts at zero, so that the untrained model is the plain image and the gain
of training is a difference of like with like; its kernel is that of the gradients of all pixels, of
which every other additive prompt is a part; and the first measurements of this question used it. The
training is the common published one (Adam 1e-2, crops and flips) cut to 15 epochs of 2,000 images (all of
a PACS domain that has fewer), batch 64, the state chosen on validation. `none+ilm` is the same mapping on
the plain image: what the gain is counted from.

27 pairs at 32 px, 3 seeds: CIFAR ResNets, the embedded source, and networks trained on one domain of PACS
or on QuickDraw-8; a one-to-one mapping needs a source class for each target class, so a source of seven
classes is asked for seven. 6 pairs at 224 px, one seed, 2,000 test images; otherwise all of them.

Command (REPROGRAM_DATA names the folder of the .npz files; sources/ holds the four directories below and
the trainings of configs/distance.py, and is not committed; docs/benchmark.md lists both):
    reprogram bench run configs/prediction.py --out results/ntk/prediction
    reprogram ntk-study results/ntk/prediction --out results/ntk/study

Hardware, wall time and result: results/ntk/README.md.
"""

from __future__ import annotations

from reprogram.experiments import Cell, product

RESNET20, RESNET56 = "sources/resnet20-cifar10", "sources/resnet56-cifar10"
SQUEEZENET, MOBILENET = "sources/squeezenet1_1-imagenet", "sources/mobilenetv2_100-imagenet"
PHOTO, SKETCH, DRAWINGS = "sources/pacs-photo", "sources/pacs-sketch", "sources/quickdraw8"
SEEDED = (PHOTO, SKETCH, DRAWINGS)  # trial n uses training n

FAR = ("usps", "quickdraw8", "gtsrb[0-9]")
SMALL: dict[str, tuple[str, ...]] = {
    RESNET20: (*FAR, "pacs-photo", "pacs-cartoon", "pacs-sketch"),
    RESNET56: (*FAR, "pacs-photo", "pacs-sketch"),
    "embedded": (*FAR, "cifar10", "pacs-photo", "pacs-cartoon", "pacs-sketch"),
    PHOTO: ("usps[0-6]", "pacs-cartoon", "pacs-sketch"),
    SKETCH: ("quickdraw8[0-6]", "pacs-photo", "pacs-cartoon"),
    DRAWINGS: ("gtsrb[0-6]", "pacs-photo", "pacs-sketch"),
}
LARGE = {network: ("usps", "cifar10", "pacs-sketch") for network in (SQUEEZENET, MOBILENET)}
FEWER = ("pacs-photo", "pacs-cartoon")  # than 2,000 training images: all are used
METHODS = ("none+ilm", "full+ilm")
SEEDS = (0, 1, 2)


def grid() -> list[Cell]:
    """At 32 px seed after seed, then at 224 px."""
    small = [c for s, targets in SMALL.items() for t in targets for c in cells(s, t, SEEDS)]
    large = [c for s, targets in LARGE.items() for t in targets for c in cells(s, t, (0,), 2000)]
    return sorted(small, key=lambda cell: cell.seed) + large


def cells(
    source: str, target: str, seeds: tuple[int, ...], test_pool: int | None = None
) -> list[Cell]:
    """The unprompted mapping and the training of a pair."""
    name, bracket, classes = target.partition("[")
    return product(
        sources=(source,), targets=(f"{name}.npz{bracket}{classes}",), methods=METHODS, seeds=seeds,
        source_seeds=seeds if source in SEEDED else (None,),
        # Stored outputs would be those of the whole set, for one mapping of 2,000 images.
        settings={"epochs": 15, "batch_size": 64, "engine": "folded"},
        train_pool=None if target in FEWER else 2000,
        test_pool=None if target.startswith("pacs") else test_pool,  # which have fewer
    )  # fmt: skip
