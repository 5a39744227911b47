"""Settings: typed, in range, with errors that name what was expected."""

from __future__ import annotations

import pytest
import torch
from cases import tiny_source

from reprogram.errors import InputError
from reprogram.methods import METHODS, get_method
from reprogram.settings import Settings


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr": -1.0}, "at least 0"),
        ({"lr": float("nan")}, "at least 0"),
        ({"label_smoothing": 2.0}, r"in \[0, 1\]"),
        ({"optimizer": "lion"}, "adam, adamw or sgd"),
        ({"epochs": 2.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"milestones": (0.5, 7.0)}, r"in \[0, 1\]"),
        ({"epohcs": 3}, "Did you mean epochs"),
        ({"loss": "mse", "label_smoothing": 0.1}, "needs loss=ce"),
    ],
)
def test_a_wrong_setting_says_what_was_expected(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Settings().updated(changes)


def test_a_mapping_that_cannot_serve_so_many_classes_is_refused_by_the_methods_name() -> None:
    method, source = get_method("pad+ilm"), tiny_source(num_classes=2)
    settings = method.resolve(source, native_size=8, n_train=1)
    with pytest.raises(InputError, match=r"method pad\+ilm: a one-to-one .* 3 target and 2 source"):
        method.build(source, ("a", "b", "c"), settings, torch.Generator())


def test_json_round_trip() -> None:
    settings = get_method("smm+ilm").settings.updated({"milestones": (0.3,), "steps": 7})
    import json

    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("method", "published"),
    [
        ("smm+ilm", {"lr": 1e-2, "epochs": 200, "augment": "crop-flip", "milestones": (0.5, 0.72)}),
        ("reprogramming", {"lr": 2e-2, "lr_mask": 1e-2, "epochs": 50}),
        ("pad+ilm", {"lr": 1e-2, "augment": "none", "gamma": 0.1}),
        ("full-finetune", {"lr": 1e-4, "optimizer": "adam"}),
        ("linear-probe", {"lr": 1e-2}),
        ("fc+first", {"lr": 1e-3, "batch_size": 128}),
        ("fc-pad+first", {"lr": 1e-1, "lr_linear": 1e-3}),
    ],
)
def test_published_settings_are_the_defaults(method: str, published: dict) -> None:
    settings = METHODS[method].settings.to_dict()
    assert {name: settings[name] for name in published} == published


@pytest.mark.parametrize(
    ("native", "n_train", "size", "batch"), [(8, 100, 14, 64), (500, 50_000, 14, 256)]
)
def test_what_depends_on_source_and_target_is_filled_in(
    native: int, n_train: int, size: int, batch: int
) -> None:
    settings = get_method("pad+ilm").resolve(tiny_source(), native, n_train)
    assert (settings.size, settings.batch_size, settings.margin) == (size, batch, 0)


def test_a_margin_without_random_crops_is_refused() -> None:
    method = get_method("pad+ilm")
    with pytest.raises(InputError, match="Set augment to crop-flip"):
        method.resolve(tiny_source(), 8, 100, method.settings.updated({"margin": 16}))


@pytest.mark.parametrize(
    ("method", "image_size", "margin"),
    [("smm+ilm", 224, 32), ("smm+ilm", 32, 5), ("smm+ilm", 64, 9), ("full+ilm", 224, 4)],
)
def test_crop_margins_are_the_published_ones(method: str, image_size: int, margin: int) -> None:
    source = tiny_source()
    source.image_size = image_size
    assert get_method(method).resolve(source, 32, 10).margin == margin
