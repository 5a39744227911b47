"""A frozen source stays bitwise as it was; its trainable copy knows what changed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.sources import NetworkSource, create_network, load_source, write_source_directory
from reprogram.sources.networks import cifar_resnet20
from reprogram.sources.state import fingerprint_of, same_bits, tensors_of

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class TokenHead(nn.Module):
    """A head that reads tokens (B, n, d), as attention pooling does."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(5, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(tokens).mean(1)


class TokenNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, 4)
        self.fc = TokenHead()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stem(x).flatten(2).transpose(1, 2))


class MapNet(nn.Module):
    """Classifies by a convolution that is pooled afterwards, as SqueezeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(6, 4, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stem(x)).mean((2, 3))


def make(network: nn.Module | None = None, head: str | None = "linear", classes: int = 10, **more):
    network = cifar_resnet20() if network is None else network
    for module in network.modules():  # statistics that are not those of initialisation
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    names = [f"c{i}" for i in range(classes)]
    arguments = {"mean": MEAN, "std": STD, "image_size": 32, "class_names": names, "name": "test"}
    return NetworkSource(network, head=head, **arguments | more)


@pytest.fixture
def source() -> NetworkSource:
    return make()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the shape checks of the test run, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(same_bits(v, before[k]) for k, v in module.state_dict().items())


def test_logits_are_the_networks_on_normalised_pixels() -> None:
    source = make().double()
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    normalised = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    want = copy.deepcopy(source.network).eval()(normalised)
    # The constants are float32 in the source, hence the tolerance.
    torch.testing.assert_close(source(x), want, rtol=1e-5, atol=1e-5)


def test_frozen_through_train_forward_and_backward(source: NetworkSource) -> None:
    before = snapshot(source)
    wrapper = nn.Sequential(source).train()
    assert not any(module.training for module in source.modules())
    x = torch.rand(4, 3, 32, 32, requires_grad=True)
    F.cross_entropy(wrapper(x), torch.arange(4)).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in source.parameters())
    assert unchanged(source, before)


def test_normalisation_is_in_no_state_dict(source: NetworkSource) -> None:
    assert all(key.startswith("network.") for key in source.state_dict())


def test_linear_head_on_features_gives_the_logits(source: NetworkSource) -> None:
    source.double()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    logits, features = source.logits_and_features(x)
    torch.testing.assert_close(source.network.linear(features), logits)
    torch.testing.assert_close(source.features(x), features)
    assert features.shape == (2, source.num_features) == (2, 64)


def test_map_features_are_averaged_over_positions() -> None:
    source = make(MapNet(), "classifier", classes=4)
    x = torch.rand(2, 3, 9, 9)
    want = source.network.stem(source.normalise(x)).mean((2, 3))
    torch.testing.assert_close(source.features(x), want)
    assert source.num_features == 6


def test_token_features_are_averaged_over_tokens() -> None:
    source = make(TokenNet(), "fc", classes=4).double()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    logits, features = source.logits_and_features(x)
    torch.testing.assert_close(source.network.fc.out(features), logits)
    assert source.num_features == features.shape[1] == 5


@pytest.mark.usefixtures("unchecked")
def test_no_hook_is_left_behind(source: NetworkSource) -> None:
    source.features(torch.rand(1, 3, 32, 32))
    with pytest.raises(InputError):
        source.features(torch.rand(1, 1, 32, 32))
    assert not source.network.linear._forward_pre_hooks


def test_threads_get_their_own_features(source: NetworkSource) -> None:
    images = [torch.rand(1, 3, 32, 32) for _ in range(4)]
    want = [source.features(x) for x in images]
    wrong: list[int] = []

    def work(i: int) -> None:
        if any(not torch.equal(source.features(images[i]), want[i]) for _ in range(10)):
            wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_features_under_functional_call_and_export(source: NetworkSource) -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = source

        def forward(self, x: Tensor) -> Tensor:
            return self.source.features(x)

    model, x = Features(), torch.rand(2, 3, 32, 32)
    doubled = {k: 2 * v for k, v in model.named_parameters() if "conv1" in k}
    other = torch.func.functional_call(model, doubled, (x,))
    assert not torch.allclose(other, model(x))
    batch = {"x": {0: torch.export.Dim("batch", min=2, max=64)}}
    program = torch.export.export(model, (x,), dynamic_shapes=batch, strict=False)
    y = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(program.module()(y), model(y))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "x",
    [torch.rand(2, 1, 32, 32), torch.rand(3, 32, 32), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)],
    ids=["grey", "single", "uint8"],
)
def test_other_inputs_are_refused(source: NetworkSource, x: Tensor) -> None:
    with pytest.raises(InputError, match="three-channel|grey channel"):
        source.normalise(x)


def test_wrong_number_of_class_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"logits \(batch, 7\).*got \(1, 10\)"):
        make(classes=7)(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    "more, message",
    [
        ({"std": (0.2, 0.0, 0.2)}, r"std in \(0, 1\]"),
        ({"std": 64.0}, r"got mean .* and std \[64.0"),
        ({"mean": (127.0, 0.5, 0.5)}, r"mean must be in \[0, 1\].*Divide"),
        ({"mean": (0.1, 0.2)}, "mean must be one or three"),
        ({"mean": float("nan")}, "mean must be one or three"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_bad_preprocessing_is_refused(more: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**more)


def test_unknown_head_suggests_the_linear_layers() -> None:
    with pytest.raises(InputError, match="'fc' is no submodule.*linear"):
        make(head="fc")


def test_a_source_of_several_heads_has_logits_only() -> None:
    source = make(head=None)
    assert source(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    for ask in (lambda: source.num_features, lambda: source.features(torch.rand(1, 3, 32, 32))):
        with pytest.raises(InputError, match="no single classification head"):
            ask()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["layer1.0.conv1.weight", "bn1.running_var"])
def test_weights_that_are_not_finite_are_refused_by_name(key: str, value: float) -> None:
    network = cifar_resnet20()
    network.state_dict()[key].view(-1)[1] = value
    arguments = {"mean": 0.5, "std": 0.5, "image_size": 32, "class_names": ["c"] * 10}
    with pytest.raises(InputError, match=f"'{key}' holds NaN or inf in 1 of"):
        NetworkSource(network, **arguments, name="bad", head="linear")


def test_an_attention_mask_may_hold_minus_infinity() -> None:
    network = cifar_resnet20()
    network.register_buffer("mask", torch.full((2, 2), -torch.inf))
    make(network)


def test_fingerprint_depends_on_values_names_and_shapes_only() -> None:
    state = tensors_of(make().network)
    rounded = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    again = {k: v.float() for k, v in reversed(rounded.items())}
    assert fingerprint_of(rounded) == fingerprint_of(again) != fingerprint_of(state)
    renamed = {f"x{k}": v for k, v in state.items()}
    flat = {k: v.flatten() for k, v in state.items()}
    assert len({fingerprint_of(s) for s in (state, renamed, flat)}) == 3


def train_a_little(copied: NetworkSource) -> None:
    head = nn.Linear(copied.num_features, 3)
    optimizer = torch.optim.SGD([p for p in copied.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        loss = F.cross_entropy(head(copied.features(torch.rand(4, 3, 32, 32))), torch.arange(4) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_trainable_copy_trains_and_leaves_the_source(source: NetworkSource) -> None:
    before = snapshot(source)
    copied = source.trainable_copy()
    assert copied.training and copied.network.bn1.training
    assert copied.changed_tensors() == {} == source.changed_tensors()
    without = {n for n, p in copied.network.named_parameters() if not p.requires_grad}
    assert without == {"linear.weight", "linear.bias"}
    train_a_little(copied)
    assert unchanged(source, before)
    changed = copied.changed_tensors()
    assert {"conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked"} <= changed.keys()
    assert not without & changed.keys()
    assert copied.fingerprint == source.fingerprint
    assert not copied.eval().training and copied.train().network.bn1.training


def test_changed_tensors_restore_a_copy_bitwise(source: NetworkSource) -> None:
    copied = source.trainable_copy()
    train_a_little(copied)
    again = source.trainable_copy()
    train_a_little(again)  # what it learned must not stay
    again.load_changed(copied.changed_tensors())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(x), copied.eval()(x))
    assert unchanged(again.network, snapshot(copied.network))
    again.load_changed({})
    assert again.changed_tensors() == {}


def test_networks_that_ask_for_the_version_of_their_weights(tmp_path: Path) -> None:
    """torchvision's MNASNet refuses a plain dict of tensors."""
    network = create_network("mnasnet0_5", 3, {})
    path = write_source_directory(
        tmp_path, network, architecture="mnasnet0_5", mean=0.5, std=0.5, image_size=32,
        class_names=["a", "b", "c"],
    )  # fmt: skip
    source = load_source(path)
    copied, again = source.trainable_copy(), source.trainable_copy()
    with torch.no_grad():
        next(copied.network.parameters()).add_(1)
    again.load_changed(copied.changed_tensors())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(x), copied.eval()(x))


def test_a_copy_of_a_copy_shares_its_origin(source: NetworkSource) -> None:
    copied = source.trainable_copy()
    train_a_little(copied)
    second = copy.deepcopy(copied)
    assert second._origin is copied._origin and copied._origin.source is source
    assert second.changed_tensors().keys() == copied.changed_tensors().keys()
    assert not any(module is source for module in copied.modules())


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"conv9.weight": torch.zeros(1)}, "conv9.weight.*no such tensor"),
        ({"conv1.weight": torch.zeros(1)}, r"conv1.weight.*\(16, 3, 3, 3\)"),
        ({"linear.bias": torch.full((10,), torch.nan)}, "linear.bias.*NaN"),
    ],
)
def test_changed_tensors_must_fit(source: NetworkSource, changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        source.trainable_copy().load_changed(changed)


def test_a_frozen_source_takes_no_changed_tensors(source: NetworkSource) -> None:
    source.load_changed({})
    with pytest.raises(InputError, match="is frozen"):
        source.load_changed({"conv1.weight": torch.zeros(16, 3, 3, 3)})


def test_load_source_returns_a_source_as_it_is(source: NetworkSource) -> None:
    assert load_source(source) is source
