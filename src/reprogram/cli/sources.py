"""train-source and evaluate-source."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from reprogram.cli.options import Common, Shared, Whole, bytes_of, open_source, open_target, set_up
from reprogram.cli.output import note, result
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.sources import Extractor

__all__ = ["evaluate_source", "train_source"]


def train_source(
    *,
    target: str,
    out: Path,
    architecture: Annotated[
        str, Parameter(name=("--architecture", "--network"))
    ] = "cifar_resnet20",
    width: Whole | None = None,
    extractor: str | None = None,
    epochs: Whole | None = None,
    batch_size: Whole = 128,
    lr: float | None = None,
    weight_decay: float | None = None,
    optimizer: Literal["sgd", "adam"] | None = None,
    schedule: Literal["one-cycle", "constant"] | None = None,
    loss: Literal["ce", "mse"] = "ce",
    val_share: float | None = None,
    patience: Whole | None = None,
    augment: Literal["crop-flip", "crop", "none"] | None = None,
    precision: Literal["float32", "bf16"] = "float32",
    seed: Whole = 0,
    image_size: Whole | None = None,
    train_pool: Whole | None = None,
    test_pool: Whole | None = None,
    half: bool = False,
    overwrite: bool = False,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Train a source from scratch on a target's images; --out becomes a --source for every verb.

    The same command resumes an unfinished training and returns a finished one. Settings that are
    left out are the architecture's own: SGD 0.1, one-cycle, 80 epochs, weight decay 5e-4 and
    crop-flip; for a depth network Adam 1e-3, constant, 150 epochs, weight decay 1e-3, 10% of the
    images to validate and a patience of 3 epochs.

    Args:
        target: What it learns to classify; as for fit.
        out: The source directory; OUT/seed-0, OUT/seed-1, ... are one source of several seeds.
        architecture: cifar_resnet20 to 56, a torchvision name, timm/NAME, or a depth network:
            dnn-1 to 9, cnn-, vgg-, resnet-.
        width: Of a depth network; 2048 (dnn), 512 (cnn), 32 (vgg, resnet).
        extractor: Frozen network whose last spatial map a depth network reads: a source, or
            open_clip/NAME@TAG (extra `clip`); its weights are copied into --out.
        epochs: Passes over the training images, at most.
        batch_size: Images a step.
        lr: Peak of the schedule.
        weight_decay: L2 penalty.
        optimizer: sgd (Nesterov momentum 0.9) or adam.
        schedule: one-cycle or constant.
        loss: ce or mse.
        val_share: Share of the images that validate; the epoch of the lowest loss on them is kept,
            with 0 the last one.
        patience: Epochs without a lower validation loss after which it stops.
        augment: crop-flip, crop or none.
        precision: float32, or bf16 autocast.
        seed: Initialisation, order, augmentation.
        image_size: Side of its images, pixels (32, or the extractor's).
        train_pool: Stratified number of training images, validation included; all by default.
        test_pool: Stratified number of test images that score it; all by default.
        half: Store weights in half precision.
        overwrite: Replace another source in --out.
    """
    from reprogram.distributed import world
    from reprogram.environment import resolve_device
    from reprogram.progress import bar
    from reprogram.source_training import recipe_for
    from reprogram.source_training import train_source as train

    set_up(common)
    if world() > 1:
        raise InputError("train-source runs in one process. Start it without torchrun.")
    if common.weights is not None and extractor is None:
        raise InputError("--weights belongs to --extractor: a source is trained from scratch.")
    recipe = recipe_for(
        architecture, epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay,
        augment=augment, precision=precision, seed=seed, optimizer=optimizer, schedule=schedule,
        loss=loss, val_share=val_share, patience=patience,
    )  # fmt: skip
    body = open_extractor(extractor, image_size, common)
    task = open_target(target, common)
    device = resolve_device(common.device)
    progress = bar(common.quiet, "epoch {task.fields[epoch]}", "loss {task.fields[loss]:.3f}")
    with progress:
        n = round((train_pool or len(task.train)) * (1 - recipe.val_share))
        step = progress.add_task(
            "train-source", total=recipe.epochs * n, epoch=0, loss=float("nan")
        )

        def on_maps(images: int, of: int) -> None:
            name = "maps" if images < of else "train-source"
            progress.update(step, description=f"{name} {images:,}/{of:,}")

        def on_batch(epoch: int, images: int, loss: float) -> None:
            progress.update(step, completed=epoch * n + images, epoch=epoch + 1, loss=loss)

        try:
            training = train(
                task, out, recipe, width=width, extractor=body, image_size=image_size,
                train_pool=train_pool, test_pool=test_pool, half=half, device=device, overwrite=overwrite,
                target=target, max_memory=bytes_of(common.max_memory), on_maps=on_maps,
                on_batch=on_batch, command=shlex.join(["reprogram", *sys.argv[1:]]),
            )  # fmt: skip
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped. Finished epochs are kept in {out}; the same command goes on."
            ) from None
    on = f" on the map of {extractor}" if extractor else ""
    text = (
        f"{architecture}{on} on {task.name}: {100 * training['test_accuracy']:.2f} % of "
        f"{training['num_test']:,} test images\n"
        f"source {out}   next: reprogram fit --source {out} --target YOUR_TARGET"
    )
    result(training | {"out": str(out)}, text, common.json)


def open_extractor(spec: str | None, image_size: int | None, common: Common) -> Extractor | None:
    """The frozen network that --extractor names."""
    from reprogram.sources import load_extractor

    if spec is None:
        return None
    return load_extractor(
        spec, weights=common.weights, image_size=image_size, download=common.download
    )


def evaluate_source(
    source: str,
    /,
    *,
    target: str | None = None,
    source_seed: Whole | None = None,
    split: Literal["test", "val", "train"] = "test",
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Top-1 accuracy of a source on images of its own classes.

    Args:
        source: As for fit.
        target: Images whose labels index the source's classes; by default what it was trained on.
        source_seed: Which of a source's trainings.
        split: test, val or train.
    """
    from reprogram.environment import resolve_device
    from reprogram.source_training import evaluate_source as score
    from reprogram.sources import embedded_directory, resolve_seeded, training_record
    from reprogram.statistics import share_text

    source = resolve_seeded(source, source_seed)
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
    text = f"{source}   accuracy {share_text(found['accuracy'], found['n'])} {split} images"
    result(found | {"source": source, "target": spec}, text, common.json)
