"""Artefacts: a reprogrammed model on disk, without its source.

A directory of config.json, model.safetensors and README.md (a model card). Only tensors that are
not bitwise the source's are stored: kilobytes for a prompt, everything for full fine-tuning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from reprogram.errors import InputError
from reprogram.files import replacing, write_json, write_text
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, count_parameters
from reprogram.settings import Settings
from reprogram.sources import Source, load_source, preprocessing_of
from reprogram.statistics import share_text

__all__ = ["load", "save"]

SCHEMA = 1
_KEYS = {
    "schema": int, "method": str, "source": dict, "target": str, "class_names": list,
    "settings": dict,
}  # fmt: skip


def save(model: Reprogrammed, path: str | Path) -> Path:
    """Write an artefact; config.json comes last, so a directory that has it is complete.

    Raises:
        InputError: The model was not made by `fit`, so its method and settings are not known.
    """
    if model.record is None:
        raise InputError(
            "save_pretrained stores a model made by reprogram.fit, with its method and settings; "
            "this one was put together by hand. Store its state_dict with safetensors instead."
        )
    directory = Path(path)
    record, source = model.record, model.source
    # Copies, since safetensors refuses a tensor that a network has under two names.
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in model.own_tensors().items()}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").unlink(missing_ok=True)  # written last: it says that all is there
    with replacing(directory / "model.safetensors") as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors))
    write_text(directory / "README.md", card(model))
    write_json(
        directory / "config.json",
        {
            "schema": SCHEMA,
            "method": record["method"],
            "source": {
                "name": source.name,
                "fingerprint": record["source_fingerprint"],
                "preprocessing": preprocessing_of(source),
            },
            "target": record["target"],
            "class_names": list(model.class_names),
            "preprocessing": {
                "resize": model.input_transform.image_size,
                "interpolation": "PIL bilinear, to a square",
                "range": [0, 1],
            },
            "settings": record["settings"],
            "training": {
                k: v
                for k, v in record.items()
                if k not in ("settings", "method", "target", "history")
            },
        },
    )
    return directory


def load(path: str | Path, source: Source | None = None, **source_options: Any) -> Reprogrammed:
    """Read an artefact and put it on its source.

    Args:
        path: A directory that :func:`save` wrote.
        source: The source; None loads the one named in the artefact.
        source_options: Passed to `load_source`, for example `weights=`.

    Raises:
        InputError: The directory is incomplete or damaged, or the source is another one.
    """
    directory = Path(path)
    config = read_config(directory)
    if source is None:
        source = _recorded_source(directory, config["source"]["name"], source_options)
    if source.fingerprint != config["source"]["fingerprint"]:
        raise InputError(
            f"{directory} was fitted to source {config['source']['name']!r} with fingerprint "
            f"{config['source']['fingerprint'][:12]}, got {source.name!r} with "
            f"{source.fingerprint[:12]}. Load it with the weights it was fitted to."
        )
    found = preprocessing_of(source)
    if config["source"].get("preprocessing", found) != found:
        raise InputError(
            f"{directory} was fitted to a source with {config['source']['preprocessing']}, got one "
            f"with {found}. Load the source as it was loaded then."
        )
    try:
        tensors = safetensors.torch.load_file(directory / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory / 'model.safetensors'} cannot be read: {error}.") from error
    method = get_method(config["method"])
    settings = Settings.from_dict(config["settings"])
    model = method.build(source, tuple(config["class_names"]), settings, torch.Generator())
    try:
        model.load_own_tensors(tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"{directory / 'model.safetensors'} does not fit its config.json: {_first_line(error)}"
        ) from error
    model.record = config["training"] | {
        "method": config["method"], "settings": config["settings"], "target": config["target"],
        "source_fingerprint": source.fingerprint,
    }  # fmt: skip
    return model.eval()


def _recorded_source(directory: Path, name: str, options: dict[str, Any]) -> Source:
    try:
        return load_source(name, **options)
    except InputError as error:
        raise InputError(
            f"{directory}: its source {name!r} cannot be loaded from here: {error} "
            "Or give it: --source PATH, in Python from_pretrained(path, source)."
        ) from error


def read_config(directory: Path) -> dict[str, Any]:
    """The checked config.json of an artefact."""
    path = directory / "config.json"
    if not path.is_file():
        raise InputError(
            f"{directory} holds no config.json, so it is no finished artefact. "
            "Give the directory that `reprogram fit` wrote; the same command resumes an unfinished run."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON: {_first_line(error)}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold an object, got {type(config).__name__}.")
    for key, kind in _KEYS.items():
        if not isinstance(config.get(key), kind):
            raise InputError(
                f"{path}: {key} must be {kind.__name__}, got {config.get(key)!r}. "
                "Is this an artefact of `reprogram fit`?"
            )
    if config["schema"] > SCHEMA:
        raise InputError(
            f"{path} has schema {config['schema']}, this version reads up to {SCHEMA}. Upgrade reprogram."
        )
    for key in ("name", "fingerprint"):
        if not isinstance(config["source"].get(key), str):
            raise InputError(
                f"{path}: source.{key} must be str, got {config['source'].get(key)!r}."
            )
    names = config["class_names"]
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{path}: class_names must be a non-empty list of names, got {names!r:.80}."
        )
    training = config.setdefault("training", {})
    if not isinstance(training, dict):
        raise InputError(f"{path}: training must be dict, got {training!r:.80}.")
    return config


def card(model: Reprogrammed) -> str:
    """The model card: what it is, how good, how it was made, how to load it."""
    r = model.record
    assert r is not None
    used = get_method(r["method"]).settings_read(r["settings"])
    changed = "; ".join(f"{k} {v}" for k, v in used.items() if v not in (None, False))
    looked = "scored at every epoch" if r["track_test"] else "evaluated once"
    test = "not looked at"
    if "accuracy" in r:
        test = f"{share_text(r['accuracy'], r['n_test'])} images, {looked}"
    val = r.get("val_accuracy")
    val_text = "-" if val is None else f"{100 * val:.2f} % of {r['n_val']:,} images"
    rule = r["selection_rule"].replace("states 0 to E", "all epochs, 0 (untrained) included")
    lines = [
        f"# {r['target']} by {r['method']} on {model.source.name}",
        "",
        f"The source classifier `{model.source.name}` (frozen unless the method is full-finetune), "
        f"reprogrammed with `reprogram` to tell {len(model.class_names)} classes apart.",
        "",
        "| | |",
        "|---|---|",
        f"| test accuracy | {test} |",
        f"| validation accuracy | {val_text} |",
        f"| selected | epoch {r['selected_epoch']}: {rule} |",
        f"| training images | {r['n_train']:,} (seed {r['seed']}, fraction {r['data_fraction']:g}) |",
        f"| trained parameters | {count_parameters(model):,} |",
        f"| stored | {model.stored_bytes:,} bytes |",
        f"| images | resized to {model.input_transform.image_size} px squares, PIL bilinear |",
        f"| source fingerprint | `{r['source_fingerprint']}` |",
        f"| settings | {changed} |",
        "",
        "```python",
        "import reprogram as rp",
        'model = rp.Reprogrammed.from_pretrained("THIS_DIRECTORY")',
        "```",
        "",
        "```console",
        "$ reprogram predict THIS_DIRECTORY IMAGE",
        "```",
        "",
        f"Classes: {', '.join(model.class_names)}.",
        "",
    ]
    return "\n".join(lines)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
