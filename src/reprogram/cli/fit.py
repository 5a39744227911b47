"""fit, evaluate, predict, show."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from reprogram.cli.options import (
    Common,
    Shared,
    Whole,
    bytes_of,
    chosen_settings,
    open_source,
    open_store,
    open_target,
    set_up,
)
from reprogram.cli.output import note, result
from reprogram.errors import InputError

if TYPE_CHECKING:
    from reprogram.data import Split, TargetTask
    from reprogram.model import Reprogrammed

__all__ = ["evaluate", "fit", "predict", "show"]

# Settings that the optimiser alone reads.
OF_TRAINING = {
    *("epochs", "steps", "optimizer", "lr", "weight_decay"), *("schedule", "milestones", "gamma"),
}  # fmt: skip


def fit(
    *,
    target: str,
    source: str = "embedded",
    method: str = "pad+ilm",
    fraction: float = 1.0,
    epochs: Whole | None = None,
    batch_size: Whole | None = None,
    lr: float | None = None,
    seed: Whole = 0,
    source_seed: Whole | None = None,
    val_share: float = 0.1,
    train_pool: Whole | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    track_test: bool = False,
    precision: Literal["float32", "bf16"] | None = None,
    deterministic: bool = False,
    feature_cache: Path | None = None,
    feature_cache_size: str = "20GiB",
    track: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Reprogram a source on a target, and keep prompt, mapping and model card.

    The same command resumes an unfinished run and returns a finished one.

    Args:
        target: digits, a torchvision name, an image folder, a .npz file, hf/NAME; NAME[0-9] takes
            these classes only.
        source: embedded, a torchvision name, timm/NAME, or a source directory.
        method: A baseline or PROMPT+MAPPING; `reprogram list methods` shows them.
        fraction: Share of every class's training images, in (0, 1].
        epochs: Passes over the training images. By default the method's own: 50 for the four
            baselines, 200 for most PROMPT+MAPPING.
        batch_size: Images a step. By default the method's own, mostly 64 below 10,000 training
            images, else 256.
        lr: Learning rate of the prompt; of the head or body where there is no prompt. By default
            the method's own. A mask network with its own rate (`reprogramming`) keeps it.
        seed: Of the split, the initialisation and the batches.
        source_seed: Which of a source's trainings, where --source holds several.
        val_share: Share of the training images that selects the epoch; 0 takes the last one;
            ignored where the set has a validation split of its own, unless it is 0.
        train_pool: Stratified number of training images to start from.
        set_: More settings, such as --set size=28 rank=8.
        track_test: Record the test accuracy of every epoch as well; it selects nothing.
        precision: float32, or bf16 autocast.
        deterministic: Ask torch for deterministic algorithms on a GPU.
        feature_cache: Folder of stored features that runs share; without it they stay in memory.
        feature_cache_size: Most that the folder may hold, such as 20GiB.
        track: Folder for TensorBoard logs (extra `track`).
        out: Directory of the run; by default named after target and method.
        overwrite: Replace another run in --out.
    """
    from reprogram.data.splits import check_fraction
    from reprogram.distributed import is_main
    from reprogram.experiments import Cell, run_in_directory
    from reprogram.methods import get_method
    from reprogram.progress import FitProgress
    from reprogram.sources import resolve_seeded
    from reprogram.tracking import tensorboard

    check_fraction(fraction, "--fraction")
    changes = chosen_settings(
        set_, epochs=epochs, batch_size=batch_size, lr=lr, precision=precision
    )
    chosen = get_method(method)
    settings = chosen.settings.updated(changes)
    chosen.require_steps(settings.steps)
    task = open_target(target, common)
    body = open_source(resolve_seeded(source, source_seed), common)
    if deterministic:
        use_deterministic_algorithms()
    cell = Cell(
        body.name, task.name, method, fraction, seed, train_pool, val_share, track_test, settings
    )
    store = open_store(feature_cache, feature_cache_size, common)
    directory = out or Path(f"{task.name}-{method}".replace("/", "-"))
    note(
        f"reprogram fit   source {body.name} ({body.num_classes} classes, {body.image_size} px)   "
        f"target {task.name} ({task.num_classes} classes)   method {method}",
        common.quiet or common.json or not is_main(),
    )
    if not chosen.is_trained and (idle := sorted(changes.keys() & OF_TRAINING)):
        note(f"{method} trains nothing: it does not read {', '.join(idle)}", common.quiet)
    with (
        FitProgress(method, common.quiet or not is_main()) as bar,
        tensorboard(track if is_main() else None) as on_epoch,
    ):
        try:
            model, finished = run_in_directory(
                cell, directory, source=body, task=task, target=target, overwrite=overwrite,
                device=common.device, max_memory=bytes_of(common.max_memory), on_progress=bar,
                on_epoch=on_epoch, store=store,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped. Finished epochs are kept in {directory}; the same command goes on."
            ) from None
    row = model.record
    assert row is not None
    if is_main():
        document = row | {"out": str(directory), "resumed_finished": finished}
        result(document, summary(row, directory), common.json)


def summary(row: dict[str, Any], directory: Path) -> str:
    """What was found, how it was selected, where it lies, and what to do next."""
    from reprogram.statistics import share_text

    val = row["val_accuracy"]
    chosen = (
        "last epoch, no validation images"
        if val is None
        else f"epoch {row['selected_epoch']} by validation, {100 * val:.1f} % of {row['n_val']:,} images"
    )
    lines = [
        f"test accuracy {share_text(row['accuracy'], row['n_test'])} images   ({chosen})",
        f"{row['trainable_parameters']:,} trained parameters   {row['stored_bytes']:,} bytes stored   "
        f"{row['n_train']:,} training images   {row['seconds']:.0f} s",
    ]
    tracked = [h["test"]["accuracy"] for h in row["history"] if h["test"]]
    if tracked:
        lines.append(
            f"best epoch on test {100 * max(tracked):.2f} %: selected on test, only to compare with "
            "numbers published so"
        )
    return "\n".join([*lines, f"kept in {directory}   next: reprogram show {directory}"])


def use_deterministic_algorithms() -> None:
    """Repeatable sums on a GPU; a kernel without a deterministic form warns and runs."""
    import os

    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def evaluate(
    directory: Path,
    *,
    target: str | None = None,
    split: Literal["test", "val", "train"] = "test",
    source: str | None = None,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Score a fitted model on a split of a target.

    Args:
        directory: What `reprogram fit` wrote.
        target: As for fit; by default the target it was fitted to.
        split: test; train, of the target of the run the images that it trained on; or val, the
            set's own validation split, else the images that validation held in the run.
        source: Where the source lies now, if it moved.
    """
    from reprogram.environment import resolve_device
    from reprogram.evaluation import evaluate as score

    model = open_model(directory, source, common).to(resolve_device(common.device))
    task, target = open_its_target(target, directory, model, common)
    its_own = task.name == model.record["target"]
    changed = its_own and _has_changed(model, task)
    cut = not task.has("val") if split == "val" else split == "train" and its_own and not changed
    if changed and not cut:
        note(
            f"the images of {task.name} are not those that the model was fitted to: the {split} split "
            "may hold others, and where it is cut from one folder, training images",
            common.quiet,
        )
    images = its_images(model, task, split) if cut else task.split(split)
    found = replace(score(model, images), split=split)
    document = found.to_dict() | {"model": str(directory), "target": target}
    result(document, f"{directory}   {found}", common.json)


def its_images(model: Reprogrammed, task: TargetTask, split: str) -> Split:
    """The images that a model's run trained on, or the validation images that it cut from them."""
    from reprogram.data.noise import Noise, noisy
    from reprogram.experiments import trial_images

    run = model.record
    assert run is not None
    if _has_changed(model, task):
        raise InputError(
            f"target {task.name!r} is not what the run was fitted to, so its validation images "
            "cannot be found again. Use --split test or train."
        )
    share = run["val_share"]
    then = copy.copy(task)
    then.name = run["target"]  # splits, and what noise draws, go by the name that it had then
    then = noisy(then, Noise.parse(run.get("noise") or "clean"))
    train, name, index = trial_images(
        then, run["data_fraction"], run["seed"], share, run["train_pool"]
    )
    if split == "train":
        return then.train.subset(train)
    if not len(index):
        raise InputError(
            f"the run had no validation images (val_share {share:g}). Use --split test or train."
        )
    return then.split(name).subset(index)


def _has_changed(model: Reprogrammed, task: TargetTask) -> bool:
    """Whether a target is not, image by image, the one that a model was fitted to."""
    run = model.record or {}
    return bool(run.get("target_fingerprint", task.fingerprint) != task.fingerprint)


def predict(
    directory: Path,
    images: list[Path],
    /,
    *,
    source: str | None = None,
    top: Whole = 1,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Name the class of image files, with its probability.

    Args:
        directory: What `reprogram fit` wrote.
        images: Image files.
        source: Where the source lies now, if it moved.
        top: Classes to name for each image, the likeliest first.
    """
    from reprogram.environment import resolve_device
    from reprogram.evaluation import predict as probabilities

    if top < 1:
        raise InputError(f"--top must be at least 1, got {top}.")
    model = open_model(directory, source, common).to(resolve_device(common.device))
    answers = probabilities(model, images)
    rows, lines = [], []
    for path, p in zip(images, answers, strict=True):
        best = p.topk(min(top, len(p)))
        named = [model.class_names[i] for i in best.indices.tolist()]
        values = [round(float(q), 6) for q in best.values]
        found = [{"class": c, "probability": q} for c, q in zip(named, values, strict=True)]
        rows.append({"image": str(path), "predictions": found})
        texts = [f"{c} {100 * q:.1f} %" for c, q in zip(named, values, strict=True)]
        lines.append("  ".join([str(path), *texts]))
    result({"model": str(directory), "images": rows}, "\n".join(lines), common.json)


def show(
    directory: Path,
    *,
    target: str | None = None,
    source: str | None = None,
    out: Path | None = None,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Draw the prompt, prompted images and the mapping as one picture.

    Args:
        directory: What `reprogram fit` wrote.
        target: Where the images come from; by default the target it was fitted to.
        source: Where the source lies now, if it moved.
        out: PNG or SVG file; by default show.png in the directory.
    """
    from reprogram.experiments import recorded_row
    from reprogram.picture import draw_model

    model = open_model(directory, source, common)
    if (directory / "result.json").exists():
        model.record = recorded_row(directory)
    task, _ = open_its_target(target, directory, model, common)
    path = draw_model(model, task, out or directory / "show.png")
    result({"picture": str(path)}, f"picture {path}", common.json)


def open_its_target(
    target: str | None, directory: Path, model: Reprogrammed, common: Common
) -> tuple[TargetTask, str]:
    """The target that is named, else the one that a model was fitted to; and its name."""
    from reprogram.experiments import recorded_target

    if target is not None:
        return open_target(target, common), target
    assert model.record is not None
    recorded = recorded_target(directory) or str(model.record["target"])
    try:
        return open_target(recorded, common), recorded
    except InputError as error:
        raise InputError(
            f"{error} So the run recorded its target; --target names where it is now."
        ) from error


def open_model(directory: Path, source: str | None, common: Common) -> Any:
    """The artefact on its source."""
    from reprogram.model import Reprogrammed

    set_up(common)
    body = open_source(source, common) if source else None
    options = {} if body else {"weights": common.weights, "download": common.download}
    return Reprogrammed.from_pretrained(directory, body, **options)
