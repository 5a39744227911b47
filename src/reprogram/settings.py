"""Settings: everything about a run, besides its data and seed, that can change its result."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from reprogram.errors import InputError, unknown

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Training, prompt and mapping settings; None is filled in by the method for its source and target.

    Attributes:
        epochs: Passes over the training images.
        steps: Optimiser steps instead of epochs (the last epoch is cut short), to compare data sizes
            at equal work.
        batch_size: Images a step; None is 64 below 10,000 training images, else 256.
        optimizer: "adam", "adamw" or "sgd" (momentum 0.9).
        lr: Rate of the prompt; of the body in full fine-tuning.
        lr_mask: Rate of SMM's mask network; None is `lr`.
        lr_linear: Rate of the linear layer of fc and fc-pad; None is `lr`.
        lr_mapping: Rate of a trained mapping or head; None is `lr`.
        weight_decay: L2 penalty on every trained parameter.
        schedule: "multistep" (times `gamma` at each milestone), "cosine" or "constant".
        milestones: Shares of the epochs after which the rate falls.
        gamma: Factor at a milestone.
        loss: "ce" (cross-entropy) or "mse" (to one-hot labels).
        label_smoothing: Share of the label spread over all classes, in [0, 1).
        augment: "none", "flip" or "crop-flip" (resize to size + margin, random crop, flip).
        margin: Pixels of the random crop's margin; None is the published one.
        precision: "float32" or "bf16" (autocast in front of the mapping).
        engine: "auto", "plain", "folded", "store" or "window"; changes speed, never a result.
        size: Side s of the resized target image inside the canvas, pixels.
        width: Width of a border prompt, pixels.
        patch: Side of a patch prompt, pixels.
        position: Of a patch prompt: "fixed" or "random".
        rank: Of a low-rank prompt.
        frequencies: Lowest frequencies per axis that a Fourier prompt holds; None is 8, or all.
        mask: SMM's mask network: "cnn" (8 px patches) or "vit" (16 px patches).
        clamp: Whether an additive prompt's result is clamped to [0, 1].
        sources_per_target: Source classes that `many` gives each target class.
        smoothing: lambda of the Bayesian mappings.
        final_refit: Whether the mapping is fitted once more to the selected prompt.
        top_k: Source classes an image votes for in BLM+; None is max(1, floor(0.15 T)).
    """

    epochs: int = 200
    steps: int | None = None
    batch_size: int | None = None
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-2
    lr_mask: float | None = None
    lr_linear: float | None = None
    lr_mapping: float | None = None
    weight_decay: float = 0.0
    schedule: Literal["multistep", "cosine", "constant"] = "multistep"
    milestones: tuple[float, ...] = (0.5, 0.72)
    gamma: float = 0.1
    loss: Literal["ce", "mse"] = "ce"
    label_smoothing: float = 0.0
    augment: Literal["none", "flip", "crop-flip"] = "none"
    margin: int | None = None
    precision: Literal["float32", "bf16"] = "float32"
    engine: str = "auto"
    size: int | None = None
    width: int | None = None
    patch: int | None = None
    position: Literal["fixed", "random"] = "fixed"
    rank: int = 4
    frequencies: int | None = None
    mask: Literal["cnn", "vit"] = "cnn"
    clamp: bool = False
    sources_per_target: int = 2
    smoothing: float = 1.0
    top_k: int | None = None
    final_refit: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _check(field.name, value)
            # 1 and 1.0 are one setting, and must be one in the key of a cell.
            object.__setattr__(self, field.name, _canonical(_TYPES[field.name], value))
        if self.loss == "mse" and self.label_smoothing:
            raise InputError("label_smoothing needs loss=ce: loss=mse does not read it.")

    def updated(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with changes; an unknown name is an error with the nearest names."""
        for name in changes:
            if name not in _TYPES:
                raise unknown("setting", name, _TYPES, f"Settings: {', '.join(_TYPES)}.")
            _check(name, changes[name])
        return replace(self, **changes)

    @classmethod
    def parse(cls, assignments: Iterable[str]) -> dict[str, Any]:
        """`name=value` texts, as given to --set, to typed values.

        >>> Settings.parse(["size=28", "clamp=true", "milestones=0.5,0.8", "width=none"])
        {'size': 28, 'clamp': True, 'milestones': (0.5, 0.8), 'width': None}
        """
        values = {}
        for text in assignments:
            name, equals, value = text.partition("=")
            name = name.strip().replace("-", "_")
            if not equals:
                raise InputError(
                    f"--set takes name=value, got {text!r}. For example --set size=28."
                )
            if name not in _TYPES:
                raise unknown("setting", name, _TYPES, f"Settings: {', '.join(_TYPES)}.")
            values[name] = _parse(name, _TYPES[name], value.strip())
        return values

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from JSON; lists become tuples, unknown names are refused."""
        return cls().updated({k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


BIG = 1e15
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, BIG), "steps": (0, BIG), "batch_size": (1, BIG), "lr": (0, BIG),
    "lr_mask": (0, BIG), "lr_linear": (0, BIG), "lr_mapping": (0, BIG), "weight_decay": (0, BIG),
    "milestones": (0, 1), "gamma": (0, 1), "label_smoothing": (0, 1), "margin": (0, BIG),
    "size": (1, BIG), "width": (1, BIG), "patch": (1, BIG), "rank": (1, BIG),
    "frequencies": (1, BIG), "sources_per_target": (1, BIG), "smoothing": (0, BIG), "top_k": (1, BIG),
}  # fmt: skip
_TYPES: dict[str, Any] = get_type_hints(Settings)


def _check(name: str, value: Any) -> None:
    """Refuse a value of the wrong kind or out of range."""
    if not _accepts(_TYPES[name], value):
        raise InputError(f"{name} must be {_describe(_TYPES[name])}, got {value!r}.")
    low, high = _RANGES.get(name, (-BIG, BIG))
    for v in value if isinstance(value, tuple) else (value,):
        if isinstance(v, int | float) and not low <= v <= high:  # also refuses NaN
            allowed = (
                f"at least {low:g}" if high == BIG and not v > BIG else f"in [{low:g}, {high:g}]"
            )
            raise InputError(f"{name} must be {allowed}, got {v}.")


def _canonical(kind: Any, value: Any) -> Any:
    """The value with whole numbers as floats where the setting is one."""
    if isinstance(value, tuple):
        return tuple(map(float, value))
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number and float in _members(kind) else value


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def _accepts(kind: Any, value: Any) -> bool:
    for member in _members(kind):
        if get_origin(member) is Literal:
            if value in get_args(member):
                return True
        elif get_origin(member) is tuple:
            if isinstance(value, tuple) and all(_accepts(get_args(member)[0], v) for v in value):
                return True
        elif member is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return True
        elif member is int:
            if isinstance(value, int) and not isinstance(value, bool):
                return True
        elif isinstance(value, member):
            return True
    return False


def _parse(name: str, kind: Any, text: str) -> Any:
    members = _members(kind)
    if text.lower() == "none" and type(None) in members:
        return None
    for member in members:
        if get_origin(member) is Literal and text in get_args(member):
            return text
        if get_origin(member) is tuple:
            return tuple(_parse(name, get_args(member)[0], part) for part in text.split(","))
        if member is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if member in (int, float, str):
            try:
                return member(text)
            except ValueError:
                break
    raise InputError(f"--set {name}={text}: {name} must be {_describe(kind)}.")


def _describe(kind: Any) -> str:
    words: list[str] = []
    for member in _members(kind):
        if get_origin(member) is Literal:
            words += map(str, get_args(member))
        elif get_origin(member) is tuple:
            words.append("numbers separated by commas")
        else:
            words.append(
                {
                    int: "a whole number",
                    float: "a number",
                    bool: "true or false",
                    str: "a text",
                }.get(member, "none")
            )
    return " or ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " or " + words[-1]
