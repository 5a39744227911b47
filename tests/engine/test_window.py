"""The windowed forward pass, forced, equals the plain one in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from engine_networks import calibrate, paste, randomise_batchnorm, small_vgg11
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reprogram.engine.folding import fold
from reprogram.engine.window import WindowPlan, plan_window
from reprogram.engine.window_geometry import Slide, Span
from reprogram.sources.networks import cifar_resnet20

TOLERANCE = 1e-12

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar_resnet20": cifar_resnet20,
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "squeezenet1_1": lambda: torchvision.models.squeezenet1_1(weights=None),
    "vgg11_bn": small_vgg11,
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(weights=None),
    "timm mobilenetv2_100 same": lambda: timm.create_model("mobilenetv2_100", pad_type="same"),
}
HEADS = {
    "cifar_resnet20": "linear",
    "resnet18": "fc",
    "squeezenet1_1": "classifier.1",
    "vgg11_bn": "4",
    "mobilenet_v2": "classifier.1",
    "timm mobilenetv2_100 same": "classifier",
}
# Size, top, left; on a canvas of 64 px.
PLACES = [(8, 28, 28), (16, 3, 40), (32, 17, 15), (56, 4, 4)]


@pytest.fixture(scope="module", params=list(NETWORKS))
def source(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    network = NETWORKS[request.param]().double().requires_grad_(False)
    return request.param, calibrate(randomise_batchnorm(network))


def plan_of(network: nn.Module, canvas: int, place: tuple[int, int, int], **how: Any) -> WindowPlan:
    size, top, left = place
    plan, reason = plan_window(network, canvas=canvas, image_size=size, top=top, left=left, **how)
    assert plan is not None, reason
    return plan


def assert_close(found: Tensor, expected: Tensor) -> None:
    error = (found - expected).abs().max()
    assert error <= TOLERANCE * expected.abs().max().clamp_min(1), float(error)


def assert_equal_to_plain(
    network: nn.Module, plan: WindowPlan, canvas: int, place: tuple[int, int, int], batch: int
) -> None:
    """Logits and the background's gradient."""
    size, top, left = place
    background = torch.randn(1, 3, canvas, canvas, dtype=torch.float64, requires_grad=True)
    patches = torch.randn(batch, 3, size, size, dtype=torch.float64)
    expected = network(paste(background, patches, top, left))
    found = plan.run(background, patches)
    assert_close(found, expected)
    weights = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), background)
    gradient = torch.zeros_like(wanted)
    if found.requires_grad:  # not where the images cover all that is read
        (gradient,) = torch.autograd.grad((found * weights).sum(), background)
    assert_close(gradient, wanted)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_logits_and_background_gradient(
    source: tuple[str, nn.Module], place: tuple[int, int, int]
) -> None:
    _, network = source
    plan = plan_of(fold(network).network, 64, place)
    assert plan.windows() and plan.flops_window < plan.flops_plain
    assert_equal_to_plain(network, plan, 64, place, batch=3)


def test_an_unfolded_network_is_followed_as_well(source: tuple[str, nn.Module]) -> None:
    _, network = source
    place = (11, 20, 31)
    assert_equal_to_plain(network, plan_of(network, 64, place), 64, place, batch=2)


def train(outputs: Callable[[Tensor, Tensor], Tensor], size: int) -> Tensor:
    """The prompt after four steps of Adam."""
    generator = torch.Generator().manual_seed(1)
    # On a constant canvas max-pooling meets ties, which rounding breaks as it likes.
    prompt = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([prompt], lr=1e-2)
    for _ in range(4):
        patches = torch.randn(3, 3, size, size, dtype=torch.float64, generator=generator)
        loss = F.cross_entropy(outputs(torch.sigmoid(prompt), patches), torch.tensor([0, 1, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return prompt.detach()


def test_prompt_after_four_steps_of_adam(source: tuple[str, nn.Module]) -> None:
    _, network = source
    plan = plan_of(fold(network).network, 64, (17, 24, 23))
    found = train(plan.run, 17)
    expected = train(lambda background, x: network(paste(background, x, 24, 23)), 17)
    start = train(lambda background, x: 0 * background.sum() + torch.zeros(3, 10), 17)
    assert (found - start).abs().max() > 1e-2
    assert_close(found, expected)


def test_features_are_the_pooled_input_of_the_head(source: tuple[str, nn.Module]) -> None:
    name, network = source
    place = (8, 27, 30)
    plan = plan_of(fold(network).network, 64, place, head=HEADS[name])
    seen: list[Tensor] = []
    head = network.get_submodule(HEADS[name])
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    background = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    patches = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    try:
        expected = network(paste(background, patches, *place[1:]))
    finally:
        hook.remove()
    logits, features = plan.logits_and_features(background, patches)
    assert_close(logits, expected)
    assert_close(features, seen[0].mean((2, 3)) if seen[0].dim() == 4 else seen[0])


def test_one_background_serves_many_batches() -> None:
    network = randomise_batchnorm(cifar_resnet20().double())
    plan = plan_of(network, 32, (9, 3, 20))
    background = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    prepared = plan.prepare(background)
    for batch in (1, 4):
        patches = torch.randn(batch, 3, 9, 9, dtype=torch.float64)
        assert_close(plan.run(prepared, patches), network(paste(background, patches, 3, 20)))


def test_images_that_need_a_gradient_get_it() -> None:
    network = randomise_batchnorm(cifar_resnet20().double())
    background = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    patches = torch.randn(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    found = plan_of(network, 32, (9, 3, 20)).run(background, patches)
    expected = network(paste(background, patches, 3, 20))
    (wanted,) = torch.autograd.grad(expected[:, 0].sum(), patches)
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), patches)
    assert_close(gradient, wanted)


def test_bfloat16_autocast() -> None:
    network = fold(randomise_batchnorm(cifar_resnet20())).network
    background = torch.randn(1, 3, 32, 32, requires_grad=True)
    patches = torch.randn(2, 3, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found = plan_of(network, 32, (9, 3, 20)).run(background, patches)
        expected = network(paste(background, patches, 3, 20))
    (wanted,) = torch.autograd.grad(expected[:, 0].sum(), background)
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), background)
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    assert torch.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.9


class LargestResult(TorchDispatchMode):
    """Remembers the most elements that any operation returned in fresh memory."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                held = value.untyped_storage().nbytes() // max(value.element_size(), 1)
                self.elements = max(self.elements, held)
        return result


def test_the_background_is_never_copied_for_every_image() -> None:
    network = fold(torchvision.models.resnet18(weights=None).eval()).network
    plan = plan_of(network, 224, (32, 96, 96))
    background = torch.rand(1, 3, 224, 224, requires_grad=True)
    patches, batch = torch.rand(16, 3, 32, 32), 16
    with LargestResult() as largest:
        plan.run(background, patches).sum().backward()
    # The window of the first convolution is 19 of 112; layer4's weights have 2.4 million entries.
    assert largest.elements < batch * 64 * 112 * 112 / 4


def test_windows_of_resnet18() -> None:
    """The windows that the design measured for 32 px in 224."""
    network = torchvision.models.resnet18(weights=None).eval()
    plan = plan_of(network, 224, (32, 96, 96))
    sides = {name: box.rows.size for name, (box, _) in plan.windows().items()}
    assert sides["conv1"] == 19
    assert (sides["maxpool"], sides["layer1_1_relu_1"]) == (11, 19)
    assert plan.flops_plain / plan.flops_window == pytest.approx(2.07, abs=0.02)


# Where the windowed pass is not offered.


class SqueezeAndExcite(nn.Module):
    """A global mean in the first block scales every position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.scale = nn.Conv2d(8, 8, 1)
        self.rest = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(8)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x * torch.sigmoid(self.scale(x.mean((2, 3), keepdim=True)))
        return self.rest(x).mean((2, 3))


def test_a_global_operation_in_front_does_not_pay_and_is_exact() -> None:
    network = SqueezeAndExcite().double().eval()
    place = (8, 10, 13)
    plan, reason = plan_window(network, canvas=32, image_size=8, top=10, left=13)
    assert plan is not None and "FLOPs" in reason
    assert_equal_to_plain(network, plan, 32, place, batch=2)


def test_large_images_do_not_pay() -> None:
    plan, reason = plan_window(cifar_resnet20().eval(), canvas=32, image_size=28, top=2, left=2)
    assert plan is not None and "FLOPs" in reason


def test_small_images_pay() -> None:
    assert plan_window(cifar_resnet20().eval(), canvas=64, image_size=8, top=28, left=28)[1] == ""


def test_a_network_in_train_mode_has_no_plan() -> None:
    plan, reason = plan_window(cifar_resnet20(), canvas=32, image_size=8, top=2, left=2)
    assert plan is None and "train mode" in reason


def test_a_transformer_is_not_windowed() -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5).eval()
    plan, reason = plan_window(network, canvas=32, image_size=8, top=2, left=2)
    assert reason, plan


def test_planning_leaves_the_network_as_it_was() -> None:
    network = torchvision.models.resnet18(weights=None).eval()
    before = copy.deepcopy(network.state_dict())
    attributes = set(vars(network))
    plan = plan_of(network, 64, (8, 2, 2))
    plan.run(torch.rand(1, 3, 64, 64), torch.rand(2, 3, 8, 8))
    assert set(vars(network)) == attributes
    assert network.relu.inplace
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# Graphs that the published networks do not have.


class ReadAfterInPlace(nn.Module):
    """The sum reads what an in-place ReLU wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.second(self.relu(x))
        y += x
        return F.relu_(y).mean((2, 3))


class WithoutRules(nn.Module):
    """Shapes asked for, channels shuffled and split, softmax over positions, a map as output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 2, 3)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.place = nn.Parameter(torch.rand(4, 15, 15))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) * self.scale
        n, c, h, w = x.shape
        y = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(x.size(0), -1, h, w) * self.place
        y = y + torch.softmax(x.flatten(2), 2).view(n, c, h, w)
        first, second = x.chunk(2, dim=1)
        return self.second(torch.cat([y, first * 2, second], 1)[:, 2:6])


class Unpooled(nn.Module):
    """A fully convolutional network of one layer: the output is a map with a window."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.conv(x)[:, 1:, 1::2, ::3], (1, 2, 3, 0, 1, 1), value=0.5)


@pytest.mark.parametrize("kind", [ReadAfterInPlace, WithoutRules, Unpooled])
def test_unusual_graphs(kind: type[nn.Module]) -> None:
    network = kind().double().eval()
    place = (6, 9, 17)
    assert_equal_to_plain(network, plan_of(network, 32, place), 32, place, batch=3)


# Geometry and random networks.

SLIDES = st.builds(
    Slide, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 6)
)


@given(SLIDES, st.integers(1, 20), st.integers(0, 19), st.integers(1, 20))
def test_reached_holds_every_output_that_reads_the_window(
    slide: Slide, size: int, start: int, length: int
) -> None:
    window = Span(start % size, min(start % size + length, size))
    outputs = (size + 2 * slide.before - slide.extent) // slide.stride + 1
    assume(outputs > 0)
    reached = slide.reached(window, outputs)
    readers = [
        output
        for output in range(outputs)
        if any(
            output * slide.stride - slide.before + tap * slide.dilation in range(*window)
            for tap in range(slide.kernel)
        )
    ]
    assert set(readers) <= set(range(*reached)) <= set(range(outputs))
    if slide.dilation == 1 and readers:
        assert list(range(*reached)) == readers


class Residual(nn.Module):
    """Sum or concatenation of a layer's input and output, which may differ in their windows."""

    def __init__(self, layer: nn.Module, join: str) -> None:
        super().__init__()
        self.layer, self.join = layer, join

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return x + y if self.join == "add" else torch.cat([y, x], dim=1)


class OptionA(nn.Module):
    """Strided pixels and zero channels: the CIFAR ResNet's shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, 1::2], (0, 0, 0, 0, 2, 2))


class Ending(nn.Module):
    """The last layers of a classifier."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "mean":
            return x.mean(dim=(-1, -2))
        if self.kind == "adaptive":
            return F.adaptive_avg_pool2d(x, 2)
        return x.flatten(1) if self.kind == "flatten" else x


@st.composite
def convolutions(draw: st.DrawFn, channels: int, *, keep: bool = False) -> tuple[nn.Module, int]:
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
    if keep or draw(st.booleans()):
        stride: Any = 1
        padding: Any = "same"
    else:
        stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    out = channels if keep else groups * draw(st.integers(1, 2))
    bias = draw(st.booleans())
    return nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias), out


@st.composite
def poolings(draw: st.DrawFn) -> nn.Module:
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    ceil = draw(st.booleans())
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, stride, padding, draw(st.integers(1, 2)), ceil_mode=ceil)
    counted = draw(st.booleans())
    divisor = draw(st.none() | st.integers(1, 9))
    return nn.AvgPool2d(kernel, stride, padding, ceil, counted, divisor)


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "conv", "pool", "relu", "norm", "residual", "option"]))
        if kind == "conv":
            layer, channels = draw(convolutions(channels))
        elif kind == "pool":
            layer = draw(poolings())
        elif kind == "relu":
            layer = draw(st.sampled_from([nn.ReLU(), nn.ReLU6(), nn.Hardtanh()]))
        elif kind == "norm":
            layer = nn.BatchNorm2d(channels)
        elif kind == "residual":
            inner, _ = draw(convolutions(channels, keep=True))
            join = draw(st.sampled_from(["add", "cat"]))
            layer = Residual(nn.Sequential(inner, nn.ReLU(inplace=True)), join)
            channels *= 2 if join == "cat" else 1
        else:
            layer, channels = OptionA(), channels + 4
        layers.append(layer)
    ending = draw(st.sampled_from(["mean", "adaptive", "flatten", "map"]))
    return nn.Sequential(*layers, Ending(ending))


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@given(networks(), st.integers(8, 20), st.integers(1, 20), st.integers(0, 19), st.integers(0, 19))
def test_random_networks(network: nn.Module, canvas: int, size: int, top: int, left: int) -> None:
    torch.manual_seed(0)
    network = randomise_batchnorm(network.double()).requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()  # what a strategy drew is not what a replay draws
    size = min(size, canvas)
    place = (size, top % (canvas - size + 1), left % (canvas - size + 1))
    try:
        network(torch.zeros(1, 3, canvas, canvas, dtype=torch.float64))
    except RuntimeError:
        assume(False)  # a map became smaller than a kernel
    plan = plan_of(fold(network).network, canvas, place)
    assert_equal_to_plain(network, plan, canvas, place, batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64, 128, 200])
def test_full_canvas(source: tuple[str, nn.Module], size: int) -> None:
    _, network = source
    margin = 224 - size
    place = (size, margin - margin // 2, margin // 2 + (1 if size == 64 else 0))
    plan = plan_of(fold(network).network, 224, place)
    assert_equal_to_plain(network, plan, 224, place, batch=2)
