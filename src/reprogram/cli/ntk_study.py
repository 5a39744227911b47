"""ntk-study."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram.cli.options import Common, Shared, Whole
from reprogram.cli.output import note, result
from reprogram.cli.trainings import measured, open_trainings

if TYPE_CHECKING:
    from reprogram.analysis.study import Evaluation

__all__ = ["ntk_study"]


def ntk_study(
    results: Path,
    /,
    *,
    out: Path,
    images: Whole = 200,
    mapping_images: Whole = 512,
    threads: Whole = 1,
    common: Shared = Common(),  # noqa: B008
) -> None:
    """Predictions before training against what training reached: which predictor wins, and by how much.

    Every finished training of a results directory is forecast from training images alone, by the
    tangent kernel and by its competitors. Stopped at any moment, the same command goes on.

    Args:
        results: Directory of `reprogram bench run configs/prediction.py`.
        out: Directory of the study: rows.csv, table.md, evaluation.json, calibration.json,
            prediction.png and .svg.
        images: Of the kernel, at most half of the training images. 200 of them and 512 others keep a
            forecast below a tenth of a training of 2,000 images and 15 epochs.
        mapping_images: Other images that the mapping is fitted on.
        threads: Threads to compute with; those of the trainings keep shares of time comparable.
    """
    from reprogram.analysis.study import StudyRows, evaluate, measure_trial, text, trials_of
    from reprogram.environment import resolve_device

    store, context = open_trainings(results, common, threads)
    trials, missing = trials_of(store)
    # By target, so that a set is loaded once.
    trials.sort(key=lambda trial: (trial.cell.target, trial.cell.source))
    quiet = common.quiet or common.json
    note(f"reprogram ntk-study   {len(trials)} trainings, {len(missing)} cells missing", quiet)
    sizes = {"images": images, "mapping_images": mapping_images}
    jobs = [(t.key, t.name, partial(measure_trial, t, context, **sizes)) for t in trials]
    # What a forecast takes, and whether its kernel is the full one, goes by these.
    machine = {"threads": threads, "device": resolve_device(common.device).type}
    kept = StudyRows(out / "rows", {**sizes, **machine, "max_memory": context.max_memory})
    rows = measured(kept, jobs, "forecasts", quiet)
    found = evaluate(rows)
    _write(found, out)
    document = found.to_dict() | {"missing": len(missing), "out": str(out)}
    lines = [text(found)]
    if missing:
        lines.append(f"{len(missing)} cells of {results} have no result and are not in it")
    lines.append(
        f"kept in {out}   next: reprogram ntk --calibration {out / 'calibration.json'} --images "
        f"{images} --mapping-images {mapping_images} --method {trials[0].cell.method} --target ..."
    )
    result(document, "\n".join(lines), common.json)


def _write(found: Evaluation, out: Path) -> None:
    from dataclasses import asdict

    from reprogram.analysis.study import markdown, write_csv
    from reprogram.figures import save
    from reprogram.files import write_json, write_text

    write_csv(out / "rows.csv", found.pairs.rows)
    write_text(out / "table.md", markdown(found))
    write_json(out / "evaluation.json", found.to_dict())
    methods = {row["method"] for row in found.pairs.rows}
    made = {"parts": found.user.features, **found.pairs.rows[0]["identity"]}
    made["method"] = methods.pop() if len(methods) == 1 else None
    epochs = {row["epochs"] for row in found.pairs.rows}
    made |= {
        "training": found.pairs.training, "epochs": epochs.pop() if len(epochs) == 1 else None,
        "n_train": found.pairs.n_train,
    }  # fmt: skip
    write_json(out / "calibration.json", asdict(found.calibration) | made)
    save(_picture(found), out / "prediction")


def _picture(found: Evaluation) -> Any:
    """What the user gets, the kernel alone, and the best of the first steps, on held-out targets."""
    from reprogram.figures.prediction import PredictedPair, prediction_scatter

    alone = next((c for c in found.candidates if c.features == ("kernel",)), None)
    shown = [c for c in (found.user, alone, found.best("training")) if c is not None]
    trained = found.pairs.mean(found.pairs.outcome("accuracy"))
    panels = {}
    for candidate in dict.fromkeys(shown):
        predicted = found.pairs.mean(candidate.predicted)
        panels[candidate.name] = [
            PredictedPair(source.rpartition("/")[2], target, float(x), float(y))
            for (source, target), x, y in zip(found.pairs.names, predicted, trained, strict=True)
        ]
    return prediction_scatter(
        panels, errors={found.user.name: found.calibration.error},
        title="Predicted on targets that the calibration has not seen",
    )  # fmt: skip
