"""Accuracy predicted before training: against leaving images out one by one, and in its limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases import tiny_source, tiny_task

import reprogram.analysis.forecast as module
from reprogram.analysis.calibration import Calibration
from reprogram.analysis.forecast import RIDGE, forecast
from reprogram.analysis.ntk import empirical_ntk
from reprogram.analysis.spectrum import kernel_ridge, scaled_residual
from reprogram.errors import InputError
from reprogram.methods import get_method
from reprogram.model import functional
from reprogram.output_mappings import FrequencyMapping
from reprogram.seeds import generator_for
from reprogram.sources import NetworkSource
from reprogram.sources.depth import depth_network


def test_the_accuracy_is_that_of_leaving_each_image_out() -> None:
    source, task = tiny_source().double(), tiny_task()
    found = forecast(source, task, "pad+flm", images=12, mapping_images=30)
    here, others = module._images(task, 12, 30, 0, None, 0.1)
    assert not set(here) & set(others) and (found.images, found.mapping_images) == (12, 30)
    method = get_method("pad+flm")
    settings = method.resolve(source, task.native_size, len(task.train))
    init = generator_for("init", "tiny", "pad+flm", 0)
    model = method.build(source, task.class_names, settings, init).eval()
    pixels = task.train.images(model.input_transform.image_size).double() / 255
    labels = torch.from_numpy(task.train.labels)
    with torch.no_grad():
        model.mapping.fit(model.outputs(pixels[others]), labels[others])
        logits = model(pixels[here])
    y = labels[torch.as_tensor(here)]
    theta = empirical_ntk(*functional(model), pixels[here])
    residual = scaled_residual(logits, torch.eye(3, dtype=torch.float64)[y])
    rho = RIDGE * float(theta.flatten(2).flatten(0, 1).trace())
    hits = 0
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        cross = theta[[i]][:, :, rest]
        change = kernel_ridge(theta[rest][:, :, rest], residual[rest], rho, cross)
        hits += int((logits[i] + change[0]).argmax() == y[i])
    assert found.accuracy == hits / 12
    assert found.start == float((logits.argmax(1) == y).double().mean())
    torch.testing.assert_close(found.kernel.values, theta, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.residual, residual)
    # What needs no eigenvectors says what the eigenproblem says.
    spectrum = found.spectrum
    assert found.effective_dimension == pytest.approx(spectrum.effective_dimension[RIDGE])
    assert found.alignment() == pytest.approx(spectrum.alignment_trace)
    assert set(found.laps) == {"mapping", "pass", "kernel", "probe", "centroid"}
    assert min(found.laps.values()) >= 0 and found.seconds == sum(found.laps.values())


def test_equal_blocks_predict_alike_as_full_and_as_trace_kernel() -> None:
    # A linear mapping alone: Theta = (h h' + 1) (x) I, of which the trace kernel leaves out nothing.
    source, task = tiny_source().double(), tiny_task()
    full, trace = (
        forecast(source, task, "none+linear", kind=kind, images=20, mapping_images=30)
        for kind in ("full", "trace")
    )
    assert (full.kernel.kind, trace.kernel.kind) == ("full", "trace")
    assert trace.effective_dimension == pytest.approx(full.effective_dimension)
    assert trace.accuracy == full.accuracy


@pytest.mark.parametrize(
    ("method", "passes"), [("full+flm", [30]), ("pad+flm", [30, 30, 12]), ("pad+linear", [30, 12])]
)
def test_no_image_is_looked_at_twice(
    method: str, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = NetworkSource.forward

    def forward(self: NetworkSource, z: torch.Tensor) -> torch.Tensor:
        if not z.requires_grad:  # the kernel's own passes do
            seen.append(len(z))
        return original(self, z)

    monkeypatch.setattr(NetworkSource, "forward", forward)
    forecast(tiny_source(), tiny_task(), method, images=12, mapping_images=30)
    assert sum(seen) == sum(passes)


def test_the_mapping_is_fitted_on_other_images_than_those_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[int] = []
    original = FrequencyMapping.fit

    def fit(self: FrequencyMapping, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        fitted.append(len(labels))
        original(self, outputs, labels)

    monkeypatch.setattr(FrequencyMapping, "fit", fit)
    found = forecast(tiny_source(), tiny_task(), "full+flm", images=1000)
    # 54 of 60 images are trained on; half of them are left out in turn, the others map.
    assert (found.images, found.mapping_images, fitted) == (27, 27, [27, 27])
    # A full prompt at zero is the plain image.
    assert found.start == found.unprompted


def test_a_padding_prompt_on_a_linear_source_can_only_move_a_bias() -> None:
    torch.manual_seed(0)
    network = depth_network("dnn-1", 5, image_size=16)
    source = NetworkSource(
        network, mean=0.5, std=0.25, image_size=16, class_names=[*"abcde"], name="linear",
        head="linear",
    )  # fmt: skip
    vp = forecast(source.double(), tiny_task(), "pad+first", images=20)
    assert vp.spectrum.rank <= 3  # I11: A diag(.)^2 A^T for every pair of images
    assert vp.spectrum.alignment_full is None  # and nothing is left once it is centred
    fc = forecast(source, tiny_task(), "fc+first", images=20)
    assert fc.spectrum.rank == 60 and fc.kernel.route == "hadamard"
    assert fc.accuracy > vp.accuracy


def test_a_large_kernel_is_taken_of_every_logit_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_FULL", 30)
    full, trace = (
        forecast(tiny_source(), tiny_task(), "full+ilm", images=n).kernel for n in (10, 11)
    )
    assert (full.kind, trace.kind) == ("full", "trace") and trace.values.shape == (11, 11)


def test_memory_bounds_the_regression_too() -> None:
    source, task = tiny_source(), tiny_task()
    # 20 images of 3 classes: 28.8 kB are the kernel, 202 kB with its spectrum.
    small = forecast(source, task, "full+ilm", images=20, max_memory=200_000).kernel
    assert small.kind == "trace"
    assert forecast(source, task, "full+ilm", images=20, max_memory=203_000).kernel.kind == "full"
    with pytest.raises(InputError, match="ridge regression on the full kernel of 20 images"):
        forecast(source, task, "full+ilm", images=20, kind="full", max_memory=200_000)


def test_one_image_leaves_none_to_learn_from() -> None:
    found = forecast(tiny_source(), tiny_task(), "full+flm", images=1)
    assert found.probe == 1 / 3 and found.accuracy == found.start
    assert found.spectrum.size == 3 and found.alignment() is None


@pytest.mark.parametrize("method", ["pad+linear", "smm+blm+", "linear-probe", "fc-pad+first"])
def test_any_trained_method_has_one(method: str) -> None:
    found = forecast(tiny_source(), tiny_task(), method, images=9)
    assert 0 <= min(found.accuracy, found.probe) and max(found.accuracy, found.probe) <= 1
    assert found.gain == found.accuracy - found.unprompted
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["spectrum"]["size"] == 27 and document["kernel"]["outputs"] == 3


@pytest.mark.parametrize("method", ["full+ilm", "pad+linear", "full-finetune"])
def test_a_first_order_model_is_forecast_as_the_model_that_it_starts_as(method: str) -> None:
    source, task = tiny_source(), tiny_task()
    model, first_order = (
        forecast(source, task, name, images=6) for name in (method, f"{method}@linearized")
    )
    assert first_order.method == f"{method}@linearized"
    assert first_order.parts() == model.parts()
    torch.testing.assert_close(first_order.kernel.values, model.kernel.values)


def test_what_has_no_kernel_or_no_images_is_refused() -> None:
    with pytest.raises(InputError, match="no trainable parameters"):
        forecast(tiny_source(), tiny_task(), "none+flm")
    with pytest.raises(InputError, match="at least one image"):
        forecast(tiny_source(), tiny_task(), "pad+flm", images=0)


def test_a_calibration_weighs_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    values = {
        "intercept": 0.1,
        "unprompted": 0.5,
        "gain": 2.0,
        "probe": 0.0,
        "centroid": 1.0,
        "error": 0.06,
        "pairs": 30,
    }
    path.write_text(json.dumps(values))
    fit = Calibration.read(path)
    assert fit.accuracy({"unprompted": 0.4, "gain": 0.1, "probe": 9.0, "centroid": 0.2}) == (
        pytest.approx(0.7)
    )
    assert fit.accuracy({"unprompted": 0.4, "gain": 0.9, "probe": 0.0, "centroid": 0.0}) == 1.0
    for text in ("", "[]", json.dumps(values | {"gain": "much"}), '{"intercept": 1}'):
        path.write_text(text)
        with pytest.raises(InputError, match="must be a JSON object with the numbers intercept"):
            Calibration.read(path)
    path.write_text(json.dumps(values | {"gain": float("inf")}))
    with pytest.raises(InputError, match="not finite"):
        Calibration.read(path)
