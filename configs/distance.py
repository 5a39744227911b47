"""Distance: does it matter how far the target's images are from the source's?

What it answers: a ResNet-20 trained on one domain of PACS (32 px, seven classes) is fine-tuned, probed
and reprogrammed on each of the other three: 12 ordered pairs with the same classes; and one trained on
QuickDraw-8, whose classes PACS has none of, on all four. Beside target accuracy stand the distances
between the image sets and the source's accuracy on its own test images, and their effects are
separated: the experiment report confounds them. FID, which it uses, is the primary distance. Four
domains that change places allow no p below 1/24, so the six others cannot be resolved after Holm: their
effects are read by their intervals.

Every source is trained three times; trial n uses training n (source_seed), and one name stands for all.
Sources and cells are trained in bf16 autocast: 1.5 to 2.2 times as fast on this CPU.

Command (REPROGRAM_DATA names the folder of the .npz files; docs/benchmark.md lists them and what lies in
sources/, which is made once and not committed):
    for s in 0 1 2; do
      for d in pacs-photo pacs-art_painting pacs-cartoon pacs-sketch; do
        reprogram train-source --target $d.npz --epochs 60 --precision bf16 --seed $s \
          --out sources/$d/seed-$s
      done
      reprogram train-source --target quickdraw8.npz --train-pool 4000 --epochs 60 --precision bf16 \
        --seed $s --out sources/quickdraw8/seed-$s
    done
    reprogram bench tune configs/distance.py --out results/distance
    reprogram bench run configs/distance.py --out results/distance
    reprogram distance --results results/distance --replicates 20 \
      --features sources/squeezenet1_1-imagenet    # resizes to 224 px; goes on where it was stopped
    reprogram bench report results/distance

Hardware, wall time and result: results/README.md.
"""

from __future__ import annotations

from pathlib import Path

from reprogram.experiments import Cell, Rates, product

DOMAINS = ("pacs-photo", "pacs-art_painting", "pacs-cartoon", "pacs-sketch")
METHODS = ("none+ilm", "linear-probe", "head-finetune", "full-finetune", "reprogramming")
SEEDS = (0, 1, 2)
RATES = Rates(Path(__file__).parents[1] / "results" / "distance" / "rates.json")


def grid() -> list[Cell]:
    """Same classes across domains, then disjoint classes; trial by trial."""
    pairs = [(s, t) for s in DOMAINS for t in DOMAINS if s != t]
    pairs += [("quickdraw8", t) for t in DOMAINS]
    cells = []
    for source, target in pairs:
        cells += product(
            sources=(f"sources/{source}",), targets=(f"{target}.npz",), methods=METHODS,
            seeds=SEEDS, source_seeds=SEEDS, rates=RATES,
            settings={"epochs": 15, "batch_size": 64, "precision": "bf16"},
        )  # fmt: skip
    return sorted(cells, key=lambda cell: cell.seed)
