"""ntk."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from reprogram.cli.options import Common, Shared, Whole, bytes_of, open_source, open_target
from reprogram.cli.output import note, result

if TYPE_CHECKING:
    from reprogram.analysis.calibration import Calibration
    from reprogram.analysis.forecast import Forecast

__all__ = ["ntk"]


def ntk(
    *,
    target: str,
    source: str = "embedded",
    source_seed: Whole | None = None,
    method: str = "full+ilm",
    images: Whole = 200,
    mapping_images: Whole = 512,
    seed: Whole = 0,
    train_pool: Whole | None = None,
    val_share: float = 0.1,
    kind: Literal["auto", "full", "trace", "pseudo"] = "auto",
    rows: Literal["auto", "sensitivities", "jacobian"] = "auto",
    store: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    calibration: Path | None = None,
    by_trace: bool = False,
    out: Path | None = None,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """The tangent kernel of an untrained method: its spectrum, and the accuracy it predicts.

    The kernel is taken on some training images at the untrained prompt; its accuracy is that of
    leaving each of them out of ridge regression on it. The mapping is fitted on others. The
    prediction weighs this and three simpler measures as a calibration on finished trainings says;
    without one it is the kernel's accuracy alone.

    Args:
        target: As for fit.
        source: As for fit; a folder of seed-0, seed-1, ... needs --source-seed.
        source_seed: Which of a source's trainings.
        method: As for fit.
        images: Of the kernel, at most half of the training images.
        mapping_images: Other images that the mapping is fitted on.
        seed: Of the trial: which images, which initial values.
        train_pool: Stratified number of training images to start from.
        val_share: Share of the training images that a fit would validate on; they are not used.
        kind: full, trace (tr Theta / k) or pseudo; auto is full up to 4,096 rows and within
            --max-memory, then trace.
        rows: How the Jacobian is computed: by gradients of the source, or by torch.func.
        store: Directory that keeps the Jacobian; the same command takes it up again.
        set_: More settings, such as --set size=28.
        calibration: JSON file of a fit of trained accuracies, such as `reprogram ntk-study` writes;
            it must be of this method and of these numbers of images.
        by_trace: Draw eigenvalues as shares of their sum, to compare prompts.
        out: PNG or SVG file of the spectrum; by default ntk-TARGET-METHOD.png.
    """
    from reprogram.analysis.forecast import forecast
    from reprogram.environment import resolve_device
    from reprogram.figures import check_picture
    from reprogram.methods import get_method
    from reprogram.picture import short_source
    from reprogram.progress import bar
    from reprogram.settings import Settings
    from reprogram.sources import resolve_seeded

    picture = out and check_picture(out)
    settings = get_method(method).settings.updated(Settings.parse(set_))
    fit = _calibration(calibration, method, images, mapping_images)
    spec = resolve_seeded(source, source_seed)
    body = open_source(spec, common).to(resolve_device(common.device))
    task = open_target(target, common)
    quiet = common.quiet or common.json
    note(
        f"reprogram ntk   source {body.name} ({body.num_classes} classes, {body.image_size} px)   "
        f"target {task.name} ({task.num_classes} classes)   method {method}",
        quiet,
    )
    began = time.perf_counter()
    with bar(quiet, "{task.completed:.0f}/{task.total:.0f} images") as progress:
        steps = progress.add_task("kernel", total=images)
        found = forecast(
            body, task, method, settings=settings, images=images, mapping_images=mapping_images,
            seed=seed, train_pool=train_pool, val_share=val_share, kind=kind, rows=rows, store=store,
            max_memory=bytes_of(common.max_memory),
            on_progress=lambda done, of: progress.update(steps, completed=done, total=of),
        )  # fmt: skip
    if found.images < images:
        note(
            f"{found.images:,} images for the kernel, half of those that the trial trains on", quiet
        )
    if kind == "auto" and found.kernel.kind != "full":
        note(f"the full kernel is too large: the {found.kernel.kind} kernel takes its place", quiet)
    if fit and (other := fit.mismatch(method, found.images, found.mapping_images)):
        note(
            f"{task.name} has too few images for the calibration, which was made for {other}", quiet
        )
        fit = None
    picture = picture or Path(f"ntk-{task.name}-{method}.png".replace("/", "-"))
    _draw(found, f"{short_source(body.name)} -> {task.name}", by_trace, picture)
    seconds = time.perf_counter() - began
    document: dict[str, Any] = found.to_dict() | {
        "source": spec,
        "source_fingerprint": body.fingerprint,
        "target": target,
        "target_fingerprint": task.fingerprint,
        "seed": seed,
        "settings": settings.to_dict(),
        "calibration": str(calibration) if calibration else None,
        "predicted_accuracy": fit.accuracy(found.parts()) if fit else found.accuracy,
        "predicted_error": fit.error if fit else None,
        "picture": str(picture),
        "seconds_in_all": seconds,
    }
    command = ["reprogram", "fit", "--source", spec, "--target", target, "--method", method]
    command += ["--epochs", str(fit.epochs)] if fit and fit.epochs else []
    command += ["--seed", str(seed)] if seed else []
    pool = train_pool or (_pool_of(fit, len(task.train), val_share) if fit else None)
    command += ["--train-pool", str(pool)] if pool else []
    command += ["--val-share", f"{val_share:g}"] if val_share != 0.1 else []
    command += ["--set", *set_] if set_ else []
    result(document, _text(found, fit, picture, seconds, shlex.join(command)), common.json)


def _pool_of(fit: Calibration, images: int, val_share: float) -> int | None:
    """The pool that trains on as many images as the calibration's trainings; None takes all."""
    pool = None if fit.n_train is None else round(fit.n_train / (1 - val_share))
    return pool if pool and pool < images else None


def _calibration(
    path: Path | None, method: str, images: int, mapping_images: int
) -> Calibration | None:
    """The file's, or the package's own where it has one for such a forecast.

    Raises:
        InputError: The file cannot be read, or was made for other forecasts.
    """
    from reprogram.analysis.calibration import Calibration

    if path is None:
        return Calibration.shipped(method, images, mapping_images)
    fit = Calibration.read(path)
    fit.require(method, images, mapping_images)
    return fit


def _draw(found: Forecast, pair: str, by_trace: bool, path: Path) -> None:
    from reprogram.figures import save
    from reprogram.figures.spectrum import SpectrumLine, spectrum_picture

    spectrum = found.spectrum
    share = spectrum.cumulative_share
    line = SpectrumLine(
        spectrum.eigenvalues.numpy(), spectrum.noise_floor, None if share is None else share.numpy()
    )
    title = f"{pair}   {found.method}\n{found.kernel.kind} kernel of {found.images:,} images"
    save(spectrum_picture({found.method: line}, by_trace=by_trace, title=title), path)


def _text(
    found: Forecast, fit: Calibration | None, picture: Path, seconds: float, next_command: str
) -> str:
    """The spectrum, the prediction with what it rests on, and where the picture lies."""
    error = 100 * found.sampling_error
    if fit is None:
        prediction = [
            f"leave-one-out accuracy {100 * found.accuracy:.1f} % (other images would move it by some "
            f"{error:.1f} points)",
            "uncalibrated: how far training ends from it is not known",
            f"no calibration of {found.method} on {found.images:,} and {found.mapping_images:,} images: "
            "reprogram ntk-study makes one,",
            "--calibration takes it",
        ]
    else:
        prediction = [
            f"predicted accuracy {100 * fit.accuracy(found.parts()):.1f} %   "
            f"+- {100 * fit.error:.1f} points (95 %)"
            f"{f' after {fit.training}' if fit.training else ''}",
            f"calibrated on {fit.pairs:,} pairs: from "
            f"{' and '.join(fit.weighed) or 'nothing but their mean'}",
        ]
    lines = [
        str(found.spectrum),
        f"  {found.kernel.kind} kernel of {found.images:,} images, rows by {found.kernel.rows}, "
        f"{found.kernel.route} route",
        f"  forecast {found.seconds:.1f} s, with spectrum and picture {seconds:.1f} s",
        "",
        f"unprompted {100 * found.unprompted:.1f} %   untrained {100 * found.start:.1f} %   "
        f"kernel {100 * found.accuracy:.1f} %",
        f"linear probe {100 * found.probe:.1f} %   nearest centroid {100 * found.centroid:.1f} %   "
        f"(mapping fitted on {found.mapping_images:,} other images)",
        *prediction,
        f"picture {picture}   next: {next_command}",
    ]
    return "\n".join(lines)
