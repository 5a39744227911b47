"""train-source and evaluate-source."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Literal

from reprogram.cli.options import Common, Shared, open_source, open_target, set_up
from reprogram.cli.output import note, result
from reprogram.errors import InputError

__all__ = ["evaluate_source", "train_source"]


def train_source(
    *,
    target: str,
    out: Path,
    architecture: str = "cifar_resnet20",
    epochs: int = 80,
    batch_size: int = 128,
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    augment: Literal["crop-flip", "crop", "none"] = "crop-flip",
    precision: Literal["float32", "bf16"] = "float32",
    seed: int = 0,
    image_size: int | None = None,
    train_pool: int | None = None,
    half: bool = False,
    overwrite: bool = False,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Train a source from scratch on a target's images; --out becomes a --source for every verb.

    The same command resumes an unfinished training and returns a finished one.

    Args:
        target: What it learns to classify; as for fit.
        out: The source directory.
        architecture: cifar_resnet20 to 56, a torchvision name, timm/NAME.
        epochs: Passes over the training images; the last one is kept.
        batch_size: Images a step.
        lr: Peak of the one-cycle schedule.
        weight_decay: L2 penalty.
        augment: crop-flip, crop or none.
        precision: float32, or bf16 autocast.
        seed: Initialisation, order, augmentation.
        image_size: Side of its images, pixels (32).
        train_pool: Stratified number of training images; all by default.
        half: Store weights in half precision.
        overwrite: Replace another source in --out.
    """
    from reprogram.distributed import world
    from reprogram.environment import resolve_device
    from reprogram.progress import bar
    from reprogram.train_source import Recipe
    from reprogram.train_source import train_source as train

    set_up(common)
    if world() > 1:
        raise InputError("train-source runs in one process. Start it without torchrun.")
    recipe = Recipe(architecture, epochs, batch_size, lr, weight_decay, augment, precision, seed)
    task = open_target(target, common)
    device = resolve_device(common.device)
    progress = bar(common.quiet, "epoch {task.fields[epoch]}", "loss {task.fields[loss]:.3f}")
    with progress:
        n = train_pool or len(task.train)
        step = progress.add_task("train-source", total=epochs * n, epoch=0, loss=float("nan"))

        def on_batch(epoch: int, images: int, loss: float) -> None:
            progress.update(step, completed=epoch * n + images, epoch=epoch + 1, loss=loss)

        try:
            training = train(
                task, out, recipe, image_size=image_size, train_pool=train_pool, half=half,
                device=device, overwrite=overwrite, target=target, on_batch=on_batch,
                command=shlex.join(["reprogram", *sys.argv[1:]]),
            )  # fmt: skip
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped. Finished epochs are kept in {out}; the same command goes on."
            ) from None
    text = (
        f"{architecture} on {task.name}: {100 * training['test_accuracy']:.2f} % of "
        f"{training['num_test']:,} test images\n"
        f"source {out}   next: reprogram fit --source {out} --target YOUR_TARGET"
    )
    result(training | {"out": str(out)}, text, common.json)


def evaluate_source(
    source: str,
    /,
    *,
    target: str | None = None,
    split: Literal["test", "val", "train"] = "test",
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Top-1 accuracy of a source on images of its own classes.

    Args:
        source: As for fit.
        target: Images whose labels index the source's classes; by default what it was trained on.
        split: test, val or train.
    """
    from reprogram.environment import resolve_device
    from reprogram.sources import embedded_directory, training_record
    from reprogram.train_source import evaluate_source as score

    body = open_source(source, common)
    spec = target
    directory = embedded_directory() if source == "embedded" else Path(source)
    if spec is None and directory.is_dir():
        spec = training_record(directory).get("target")
    if spec is None:
        raise InputError(f"source {source!r} does not say what it was trained on. Give --target.")
    images = open_target(spec, common).split(split)
    note(f"{source} on {len(images):,} {split} images of {spec}", common.quiet or common.json)
    found = score(body.to(resolve_device(common.device)), images)
    text = f"{source}   accuracy {100 * found['accuracy']:.2f} %   ({found['n']:,} {split} images)"
    result(found | {"source": source, "target": spec}, text, common.json)
