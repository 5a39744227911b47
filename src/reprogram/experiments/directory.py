"""One run in one directory: resumed where it stopped, returned where it is finished."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprogram import distributed
from reprogram.artefact import load
from reprogram.checkpoint import load_checkpoint
from reprogram.data import TargetTask
from reprogram.environment import resolve_device
from reprogram.errors import InputError
from reprogram.experiments.cell import Cell
from reprogram.experiments.run import identity_of, run_cell
from reprogram.experiments.work import with_training_seconds
from reprogram.files import refuse_foreign, write_json
from reprogram.model import Reprogrammed
from reprogram.sources import Source

__all__ = ["recorded_row", "recorded_target", "run_in_directory"]

logger = logging.getLogger(__name__)


def run_in_directory(
    cell: Cell,
    out: Path,
    *,
    source: Source,
    task: TargetTask,
    target: str | None = None,
    overwrite: bool = False,
    mend: bool = False,
    on_start: Callable[[], None] = lambda: None,
    **options: Any,
) -> tuple[Reprogrammed, bool]:
    """Run a cell and leave its artefact, row and history in `out`.

    The same cell in the same directory resumes an unfinished run and returns a finished one.

    Args:
        cell: What to run.
        out: Directory; made where it is missing.
        source: The cell's source.
        task: The cell's target.
        target: What loads the target again; None is its name.
        overwrite: Whether a run in `out` that is another, or damaged, is removed first.
        mend: Whether what is in `out` and is not this run, whole or unfinished, is removed.
        on_start: Called when everything is checked and training begins.
        options: Passed to :func:`run_cell`.

    Returns:
        The model with its row as `model.record`, and whether it was finished before.

    Raises:
        InputError: `out` holds another run, or something that is no run.
    """
    identity = identity_of(cell, source, task)
    checkpoint = out / "checkpoint.pt"
    replaced = False
    try:
        _check_free(out, identity, cell)
        if (out / "result.json").exists():
            return _finished(out, source, options.get("device", "auto")), True
        if mend or overwrite:
            load_checkpoint(checkpoint, identity)
    except (ValueError, KeyError, TypeError) as error:  # InputError, or what damage leads to
        replaced = overwrite and (out / "run.json").exists()
        if not replaced:
            if not mend or _is_passing(error.__cause__):
                raise
            logger.warning("%s is damaged and is made again: %s", out, error)
            shutil.rmtree(out)
    distributed.barrier()

    def begin() -> None:  # bad input has been refused by now, and has changed nothing
        if distributed.is_main():
            if replaced:
                _remove_run(out)
            record = {"identity": identity, "target": target or task.name, "cell": cell.to_dict()}
            write_json(out / "run.json", record)
        distributed.barrier()
        on_start()

    result = run_cell(
        cell, source=source, task=task, checkpoint=checkpoint, on_start=begin, **options
    )
    if distributed.is_main():
        result.model.save_pretrained(out)
        write_json(out / "result.json", result.row)
        checkpoint.unlink(missing_ok=True)
    return result.model, False


def _is_passing(cause: BaseException | None) -> bool:
    """Whether a file could not be read now and may be whole: no memory, no handle, no permission."""
    return isinstance(cause, MemoryError | OSError) and not isinstance(cause, FileNotFoundError)


_OURS = (
    "run.json", "result.json", "config.json", "model.safetensors", "README.md", "checkpoint.pt",
    "show.png", "model.onnx", "model.pt2",
)  # fmt: skip


def recorded_row(directory: Path) -> dict[str, Any]:
    """The whole row of a finished run, with the history that its artefact leaves out.

    Raises:
        InputError: The file is damaged.
    """
    path = directory / "result.json"
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(row, dict) and row.get("status") == "done":
            return with_training_seconds(row)
    except (OSError, ValueError) as error:
        logger.debug("%s: %s", path, error)
    raise InputError(f"{path} is damaged. Use --overwrite or another --out.")


def recorded_target(directory: Path) -> str | None:
    """What loads the target of a run again; None where the directory does not say."""
    try:
        target = json.loads((directory / "run.json").read_text(encoding="utf-8"))["target"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return target if isinstance(target, str) else None


def _finished(out: Path, source: Source, device: str) -> Reprogrammed:
    """The model of a finished run with its row."""
    model = load(out, source).to(resolve_device(device))
    model.record = recorded_row(out)
    return model


def _check_free(out: Path, identity: str, cell: Cell) -> None:
    refuse_foreign(out, ("run.json",), "run")
    run_file = out / "run.json"
    if run_file.exists():
        try:
            record = json.loads(run_file.read_text(encoding="utf-8"))
            differs = record["identity"] != identity and _differences(record["cell"], cell)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{run_file} is damaged. Use --overwrite or another --out.") from error
        if differs:
            raise InputError(
                f"{out} holds another run: {differs}. "
                "Name another directory by --out, or replace it by --overwrite."
            )


def _differences(recorded: dict[str, Any], cell: Cell) -> str:
    """What a recorded cell has and another has not: "epochs 2, now 3"."""
    new = json.loads(json.dumps(cell.to_dict()))  # tuples become lists, as in the record
    before, now = (c | (c.get("settings") or {}) | {"settings": None} for c in (recorded, new))
    found = [f"{k} {v}, now {now[k]}" for k, v in before.items() if k in now and v != now[k]]
    return "; ".join(found) or "the same settings, other images or weights"


def _remove_run(out: Path) -> None:
    """Take away what a run and the verbs write; a user's own files stay."""
    for name in _OURS:
        (out / name).unlink(missing_ok=True)
