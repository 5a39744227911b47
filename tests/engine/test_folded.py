"""The folded engine: one prompt's gradient from the batch's sum, in float64."""

from __future__ import annotations

import pytest
import torch
import torchvision
from cases import CANVAS, tiny_network, tiny_source, tiny_task
from engine_networks import calibrate, randomise_batchnorm
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reprogram.data.augmentation import Augmentation
from reprogram.data.batches import Batch, ResidentData
from reprogram.engine import Engine, FoldedEngine, PlainEngine
from reprogram.engine.first_convolution import first_convolution
from reprogram.methods import get_method
from reprogram.model import Reprogrammed, trainable
from reprogram.seeds import generator_for
from reprogram.sources import NetworkSource

CPU = torch.device("cpu")
BATCH = Batch("train", torch.arange(7))


def source_of(network: nn.Module, head: str, canvas: int = CANVAS) -> NetworkSource:
    return NetworkSource(
        network, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), image_size=canvas,
        class_names=[f"s{i}" for i in range(12)], name="tiny", head=head,
    ).double()  # fmt: skip


def build(method: str, source: NetworkSource, **changes) -> tuple[Reprogrammed, ResidentData]:
    task, chosen = tiny_task(), get_method(method)
    settings = chosen.resolve(source, 8, 60, chosen.settings.updated(changes))
    init = generator_for("init", "tiny", method, 0)
    model = chosen.build(source, task.class_names, settings, init)
    with torch.no_grad():
        for p in trainable(model).values():  # away from the start, where a factor may be 0
            p += 0.1 * torch.randn_like(p)
    data = ResidentData(
        {"train": task.train}, model.input_transform.image_size, Augmentation(0, flip=False)
    )
    return model, data


def gradients(model: Reprogrammed, engine: Engine) -> dict[str, Tensor]:
    torch.manual_seed(0)
    outputs = engine.outputs(model, BATCH)
    weights = torch.randn(outputs.shape, dtype=outputs.dtype)
    names = trainable(model.input_transform)
    found = torch.autograd.grad((outputs * weights).sum(), list(names.values()))
    return dict(zip(names, found, strict=True)) | {"outputs": outputs.detach()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        error = (found[name] - tensor).abs().max()
        assert error <= 1e-12 * tensor.abs().max() + 1e-15, (name, float(error))


class BackwardBatches(TorchDispatchMode):
    """Batch sizes at which the backward pass of one convolution runs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.batches = weight.data_ptr(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            grad, _, weight, *_ = args
            if weight.data_ptr() == self.weight:
                self.batches.append(len(grad))
        return func(*args, **(kwargs or {}))


SHARED = ["full", "border", "patch", "lowrank", "fourier", "pad", "pad-raw"]


@pytest.mark.parametrize("prompt", SHARED)
@pytest.mark.parametrize("mapping", ["ilm", "linear"])
def test_gradient_from_the_batchs_sum(prompt: str, mapping: str) -> None:
    model, data = build(f"{prompt}+{mapping}", tiny_source().double())
    engine = FoldedEngine(model, data, CPU, "float32")
    assert engine._first is not None
    with BackwardBatches(engine._first.weight) as seen:
        found = gradients(model, engine)
    assert_close(found, gradients(model, PlainEngine(data, CPU, "float32")))
    assert seen.batches == [1]


@pytest.mark.parametrize(
    ("method", "changes"),
    [("full+ilm", {"clamp": True}), ("patch+ilm", {"position": "random"}), ("smm+ilm", {})],
)
def test_prompts_that_are_not_a_shared_sum(method: str, changes: dict) -> None:
    model, data = build(method, tiny_source().double(), **changes)
    model.train()
    plain, folded = PlainEngine(data, CPU, "float32"), FoldedEngine(model, data, CPU, "float32")
    assert_close(gradients(model, folded), gradients(model, plain))


@pytest.mark.parametrize("reads", ["logits", "features"])
def test_networks_with_biases_and_without_batchnorm(reads: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=12).double().requires_grad_(False)
    source = source_of(calibrate(network), "classifier.1", canvas=64)
    model, data = build("full+ilm", source)
    model.mapping.reads = reads
    plain, folded = PlainEngine(data, CPU, "float32"), FoldedEngine(model, data, CPU, "float32")
    assert_close(gradients(model, folded), gradients(model, plain))


class TwoReaders(nn.Module):
    """The input is read again behind the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.conv(x).relu() + x).mean((2, 3)))


class CalledTwice(TwoReaders):
    """The first convolution is a later one as well."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.conv(x).relu()).mean((2, 3)))


class Rectifying(nn.Conv2d):
    """A convolution with its activation inside."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Activated(TwoReaders):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Rectifying(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("kind", [TwoReaders, CalledTwice, Activated])
def test_networks_without_such_a_first_convolution(kind: type[nn.Module]) -> None:
    network = randomise_batchnorm(kind().double()).requires_grad_(False)
    assert first_convolution(network) is None
    model, data = build("full+ilm", source_of(network, "fc"))
    plain, folded = PlainEngine(data, CPU, "float32"), FoldedEngine(model, data, CPU, "float32")
    assert_close(gradients(model, folded), gradients(model, plain))


def test_the_first_convolution_is_found_by_the_graph() -> None:
    network = tiny_network()
    found = first_convolution(network)
    assert found is next(m for m in network.modules() if isinstance(m, nn.Conv2d))
