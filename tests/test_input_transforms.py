"""Input transformations against slow oracles in float64, their limits, gradients and errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference_transforms as ref
import torch
from torch import Tensor, nn

from reprogram.errors import InputError
from reprogram.input_transforms import (
    FC,
    SMM,
    Border,
    FCPad,
    Fourier,
    Full,
    Identity,
    InputTransform,
    LearnableScale,
    LowRank,
    Padding,
    PaddingRaw,
    Patch,
    SharedPrompt,
    default_image_size,
)

MEAN = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
STD = torch.tensor([0.25, 0.2, 0.5]).view(3, 1, 1)
H = 13  # odd, and no multiple of a mask patch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


BUILD: dict[str, Callable[[int], InputTransform]] = {
    "none": lambda h: Identity(h),
    "pad": lambda h: Padding(h, h - 4),
    "pad-odd": lambda h: Padding(h, h - 5),
    "pad-raw": lambda h: PaddingRaw(h, h - 4, mean=MEAN, std=STD),
    "full": lambda h: Full(h, std=STD),
    "full-clamp": lambda h: Full(h, std=STD, clamp=True),
    "border": lambda h: Border(h, std=STD, width=3),
    "patch": lambda h: Patch(h, std=STD, generator=generator(), side=4),
    "patch-random": lambda h: Patch(h, std=STD, generator=generator(), side=4, position="random"),
    "smm": lambda h: SMM(h, mean=MEAN, std=STD, generator=generator()),
    "smm-vit": lambda h: SMM(h, mean=MEAN, std=STD, generator=generator(), form="vit"),
    "lowrank": lambda h: LowRank(h, std=STD, generator=generator(), rank=2),
    "fourier": lambda h: Fourier(h, std=STD, frequencies=3),
    "scale": lambda h: LearnableScale(h, h - 4),
    "scale-odd": lambda h: LearnableScale(h, h - 5),
    "fc": lambda h: FC(h, generator=generator()),
    "fc-pad": lambda h: FCPad(h, h - 4, generator=generator()),
}


def build(name: str, canvas: int = H) -> InputTransform:
    return BUILD[name](canvas).double()


def images(transform: InputTransform, n: int = 2, seed: int = 1) -> Tensor:
    s = transform.image_size
    return torch.rand(n, 3, s, s, dtype=torch.float64, generator=generator(seed))


def scramble(transform: nn.Module, seed: int = 2) -> None:
    """Parameters away from their starting values, where prompts are zero."""
    g = generator(seed)
    with torch.no_grad():
        for name, p in transform.named_parameters():
            if not name.startswith(("mask.", "linear.")):
                p.add_(torch.randn(p.shape, generator=g, dtype=p.dtype))


def numpy(parameter: Tensor) -> np.ndarray:
    return parameter.detach().numpy()


def expected(t: InputTransform, x: np.ndarray) -> np.ndarray:
    """The oracle's output for one image."""
    mean, std = MEAN.double().numpy(), STD.double().numpy()
    if isinstance(t, Identity):
        return x
    if isinstance(t, Padding):
        return ref.pad(x, t.canvas, ref.sigmoid(numpy(t.delta)))
    if isinstance(t, PaddingRaw):
        return ref.pad(x, t.canvas, mean + std * numpy(t.delta))
    if isinstance(t, Full):
        z = x + std * numpy(t.delta)
        return np.clip(z, 0, 1) if t.clamp else z
    if isinstance(t, Border):
        return x + std * ref.frame(numpy(t.delta), t.width)
    if isinstance(t, Patch):
        return x + std * ref.patch(numpy(t.delta), t.canvas, *t.corner.tolist())
    if isinstance(t, LowRank):
        return x + std * ref.low_rank(numpy(t.B), numpy(t.A))
    if isinstance(t, Fourier):
        return x + std * ref.waves(numpy(t.coefficients), t.canvas)
    if isinstance(t, LearnableScale):
        side = t.canvas * ref.sigmoid(numpy(t.logit)).item()
        return ref.scaled(x, t.canvas, side, ref.sigmoid(numpy(t.delta)))
    if isinstance(t, FC):
        return ref.dense(x, numpy(t.linear.weight), numpy(t.linear.bias))
    if isinstance(t, FCPad):
        inner = ref.dense(x, numpy(t.linear.weight), numpy(t.linear.bias))
        return ref.pad(inner, t.canvas, ref.sigmoid(numpy(t.padding.delta)))
    assert isinstance(t, SMM)
    mask = (x - mean) / std
    for layer in t.mask:
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            mask = ref.convolve(mask, numpy(layer.weight), numpy(layer.bias))
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            scale = numpy(layer.weight) / np.sqrt(numpy(layer.running_var) + layer.eps)
            shift = numpy(layer.bias) - numpy(layer.running_mean) * scale
            mask = mask * scale[:, None, None] + shift[:, None, None]
        elif isinstance(layer, nn.ReLU):
            mask = np.maximum(mask, 0)
        else:
            mask = ref.max_pool(mask)
    return x + std * ref.masked(numpy(t.delta), mask, t.patch)


@pytest.mark.parametrize("canvas", [H, 16])
@pytest.mark.parametrize("name", BUILD)
def test_equals_the_oracle(name: str, canvas: int) -> None:
    t = build(name, canvas)
    scramble(t)
    x = images(t)
    if isinstance(t, SMM):  # running statistics that are not 0 and 1
        t.train()(x)
    t.eval()
    z = t(x)
    assert z.shape == (2, 3, canvas, canvas)
    oracle = np.stack([expected(t, image) for image in x.numpy()])
    np.testing.assert_allclose(numpy(z), oracle, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BUILD)
def test_input_is_not_changed(name: str) -> None:
    t = build(name)
    scramble(t)
    x = images(t)
    before = x.clone()
    for mode in (True, False):
        t.train(mode)(x)
        t.picture()
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", BUILD)
def test_shared_prompts_are_a_sum(name: str) -> None:
    """What engines rely on: place(x) + prompt, whatever the mode."""
    t = build(name)
    scramble(t)
    x = images(t)
    sum_of_parts = {"pad", "pad-odd", "pad-raw", "full", "border", "patch", "lowrank", "fourier"}
    assert t.shared == (name in sum_of_parts)
    if t.shared:
        assert isinstance(t, SharedPrompt)
        for mode in (True, False):
            assert torch.equal(t.train(mode)(x), t.place(x) + t.prompt())


@pytest.mark.parametrize("name", [n for n in BUILD if n != "none"])
def test_every_parameter_gets_a_gradient_within_two_steps(name: str) -> None:
    t = build(name).train()
    target = torch.rand(8, 3, H, H, dtype=torch.float64, generator=generator(9))
    x = images(t, n=8)
    optimizer = torch.optim.Adam(t.parameters(), lr=1e-2)
    reached: set[str] = set()
    for _ in range(2):
        optimizer.zero_grad()
        ((t(x) - target) ** 2).mean().backward()
        reached |= {n for n, p in t.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    # BatchNorm in train mode subtracts a bias in front of it: its gradient is 0 up to rounding.
    layers = list(t.mask) if isinstance(t, SMM) else []
    excepted = {
        f"mask.{i}.bias" for i, after in enumerate(layers[1:]) if isinstance(after, nn.BatchNorm2d)
    }
    assert reached >= {n for n, _ in t.named_parameters()} - excepted


@pytest.mark.parametrize("name", ["pad", "pad-odd", "pad-raw"])
def test_only_the_border_of_a_padding_prompt_learns(name: str) -> None:
    t = build(name)
    assert isinstance(t, Padding | PaddingRaw)
    t(images(t)).square().sum().backward()
    assert t.delta.grad is not None
    assert torch.equal(t.delta.grad != 0, t.border.expand(3, -1, -1))


def test_only_the_frame_of_a_border_prompt_learns() -> None:
    t = build("border")
    assert isinstance(t, Border)
    t(images(t)).square().sum().backward()
    assert t.delta.grad is not None
    assert torch.equal(t.delta.grad != 0, t.frame.expand(3, -1, -1))


def test_odd_margins_have_the_larger_half_first() -> None:
    t = Padding(224, 33)
    inside = (~t.border).nonzero()
    assert inside.min(0).values.tolist() == [96, 96]
    assert (223 - inside.max(0).values).tolist() == [95, 95]


def test_padding_starts_grey_and_raw_padding_at_the_mean() -> None:
    pad, raw = build("pad"), build("pad-raw")
    assert isinstance(pad, Padding) and isinstance(raw, PaddingRaw)
    assert torch.equal(pad(images(pad))[:, :, pad.border].unique(), torch.tensor([0.5]).double())
    border = raw(images(raw))[:, :, raw.border]
    assert torch.equal(border, MEAN.double().view(1, 3, 1).expand_as(border))


@pytest.mark.parametrize(
    "name", ["full", "border", "patch", "patch-random", "lowrank", "fourier", "smm", "smm-vit"]
)
def test_additive_prompts_start_as_the_identity(name: str) -> None:
    t = build(name)
    x = images(t)
    for mode in (True, False):
        torch.testing.assert_close(t.train(mode)(x), x, rtol=0, atol=0)


def test_full_border_and_patch_of_the_canvas_coincide() -> None:
    full = build("full")
    patch = Patch(H, std=STD, generator=generator(), side=H).double()
    lowrank = LowRank(H, std=STD, generator=generator(), rank=H).double()
    assert isinstance(full, Full)
    scramble(full)
    with torch.no_grad():
        patch.delta.copy_(full.delta)
        lowrank.B.copy_(full.delta)
        lowrank.A.copy_(torch.eye(H).expand(3, -1, -1))
    x = images(full)
    assert torch.equal(patch(x), full(x))
    torch.testing.assert_close(lowrank(x), full(x))


def test_all_frequencies_are_an_orthonormal_basis() -> None:
    """With 2F + 1 = H a Fourier prompt reaches every full prompt and keeps its norm."""
    t = Fourier(H, std=STD, frequencies=(H - 1) // 2).double()
    basis = torch.autograd.functional.jacobian(
        lambda c: torch.func.functional_call(Offset(t), {"t.coefficients": c}, ()), t.coefficients
    ).view(3 * H * H, -1)
    identity = torch.eye(3 * H * H, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, identity, rtol=0, atol=1e-10)


class Offset(nn.Module):
    def __init__(self, t: Fourier) -> None:
        super().__init__()
        self.t = t

    def forward(self) -> Tensor:
        return self.t.offset()


@pytest.mark.parametrize("size", [8, 9, 10, 12])
def test_learnable_scale_starts_as_padding(size: int) -> None:
    scale, pad = LearnableScale(H, size).double(), Padding(H, size).double()
    with torch.no_grad():
        # Exactly s0: the parameter itself is stored in float32.
        scale.logit.copy_(torch.tensor(size / (H - size), dtype=torch.float64).log())
        scale.delta.normal_(generator=generator())
        pad.delta.copy_(scale.delta)
    x = images(pad)
    torch.testing.assert_close(scale(x), pad(x), rtol=0, atol=1e-12)


def test_learnable_scale_has_a_true_gradient() -> None:
    t = LearnableScale(H, 8).double()
    scramble(t)
    x = images(t)
    t(x).square().sum().backward()
    steps = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            t.logit += step
            steps.append(t(x).square().sum().item())
            t.logit -= step
    assert t.logit.grad is not None
    assert t.logit.grad.item() == pytest.approx((steps[0] - steps[1]) / 2e-6, rel=1e-5)


def test_clamp() -> None:
    t = build("full-clamp")
    scramble(t)
    z = t(images(t))
    assert 0 == z.min() and z.max() == 1


def test_random_patch() -> None:
    """Per image in training, the same bits for the same seed, at one place in eval mode."""
    t = build("patch-random")
    assert isinstance(t, Patch)
    with torch.no_grad():
        t.delta.fill_(1)
    x = torch.zeros(64, 3, H, H, dtype=torch.float64)

    def train_pass() -> Tensor:
        torch.manual_seed(5)
        return t.train()(x).detach()

    z = train_pass()
    assert torch.equal(z, train_pass())
    seen = {tuple((image[0] > 0).nonzero()[0].tolist()) for image in z}
    assert len(seen) > 20  # of 100 corners
    assert all(int((image > 0).sum()) == 3 * 4 * 4 for image in z)
    still = t.eval()(x)
    assert torch.equal(still, still[:1].expand_as(still))
    assert torch.equal(still, t(x))


def test_patch_position_is_stored() -> None:
    one = Patch(32, std=STD, generator=generator(1))
    other = Patch(32, std=STD, generator=generator(2))
    assert not torch.equal(one.corner, other.corner)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.corner, other.corner)


@pytest.mark.parametrize("name", ["patch", "smm", "smm-vit", "lowrank", "fc", "fc-pad"])
def test_same_generator_same_bits(name: str) -> None:
    """And the global generator is left alone."""
    torch.manual_seed(3)
    one = build(name).state_dict()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    two = build(name).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_linear_layers_start_as_pytorch_does() -> None:
    weight = FC(8, generator=generator()).linear.weight
    bound = (3 * 8**2) ** -0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize(("form", "published", "side"), [("cnn", 26_499, 8), ("vit", 102_339, 16)])
@pytest.mark.parametrize("canvas", [32, 50, 224])
def test_mask_network(form: str, published: int, side: int, canvas: int) -> None:
    t = SMM(canvas, mean=MEAN, std=STD, generator=generator(), form=form)  # type: ignore[arg-type]
    mask_parameters = [p for n, p in t.named_parameters() if n.startswith("mask.")]
    assert sum(p.numel() for p in mask_parameters) == published
    assert t.delta.numel() == 3 * canvas**2
    with torch.no_grad():
        mask = t.mask_of(torch.rand(1, 3, canvas, canvas))
        values = t.mask(torch.rand(1, 3, canvas, canvas))
    assert t.patch == side and values.shape[2:] == (-(-canvas // side),) * 2
    assert mask.shape == (1, 3, canvas, canvas)
    patch = mask[0, :, : t.patch, : t.patch]
    assert torch.equal(patch, patch[:, :1, :1].expand_as(patch))


def test_parameter_counts() -> None:
    """Published, or told before building and then found."""
    border = Border(224, std=STD)
    assert border.width == 30 and 3 * int(border.frame.sum()) == 69_840
    assert 3 * int(Padding(32, 28).border.sum()) == 720
    assert sum(p.numel() for p in LowRank(224, std=STD, generator=generator()).parameters()) == (
        2 * 3 * 4 * 224
    )
    fc, mix = FC(8, generator=generator()), FCPad(9, 7, generator=generator())
    assert FC.parameter_count(8) == sum(p.numel() for p in fc.parameters())
    assert FCPad.parameter_count(9, 7) == sum(p.numel() for p in mix.parameters())
    assert FC.parameter_count(112) == pytest.approx(1.4e9, rel=0.02)
    assert FCPad.parameter_count(112, 86) == pytest.approx(4.9e8, rel=0.02)


@pytest.mark.parametrize("name", BUILD)
def test_pictures(name: str) -> None:
    t = build(name)
    scramble(t)
    picture = t.picture()
    if name in ("none", "fc"):
        assert picture is None
        return
    assert picture is not None and picture.shape == (3, H, H) and not picture.requires_grad
    before = picture.clone()
    scramble(t)  # training goes on: a picture that was taken stays
    assert torch.equal(picture.nan_to_num(9.0), before.nan_to_num(9.0))
    assert t.idle == int(picture.isnan().sum())  # what is not drawn is not counted
    raw = {"pad", "pad-odd", "scale", "scale-odd", "fc-pad"}
    assert t.units == ("pixel" if name in raw else "normalised")


@pytest.mark.parametrize("name", BUILD)
def test_state_round_trip_is_bitwise(name: str) -> None:
    t, again = build(name).eval(), build(name).eval()
    scramble(t)
    again.load_state_dict(t.state_dict())
    x = images(t)
    assert torch.equal(again(x), t(x))


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("larger", [-1, 1])
def test_an_image_of_another_size_is_refused(name: str, larger: int) -> None:
    t = build(name)
    side = t.image_size + larger
    with pytest.raises(
        InputError, match=rf"\(batch, 3, {t.image_size}, {t.image_size}\), got .*{side}"
    ):
        t(torch.zeros(1, 3, side, side, dtype=torch.float64))


def test_grey_images_are_refused() -> None:
    with pytest.raises(InputError, match="images must have shape"):
        Identity(8)(torch.zeros(1, 1, 8, 8))


def test_images_of_bytes_are_refused() -> None:
    with pytest.raises(InputError, match=r"got torch.uint8. Divide them by 255"):
        Identity(8).check(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("size", [32, 40])
def test_padding_names_full_and_a_size_that_works(size: int) -> None:
    builders: list[Callable[[int], InputTransform]] = [
        lambda s: Padding(32, s),
        lambda s: PaddingRaw(32, s, mean=MEAN, std=STD),
        lambda s: LearnableScale(32, s),
        lambda s: FCPad(32, s, generator=generator()),
    ]
    for make in builders:
        with pytest.raises(InputError) as error:
            make(size)
        assert f"got {size}" in str(error.value) and "full" in str(error.value)
        assert "size=28" in str(error.value)
        make(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Padding(32, 0), "image_size .* got 0"),
        (lambda: Border(32, std=STD, width=16), "width .* got 16"),
        (lambda: Border(32, std=STD, width=0), "width .* got 0"),
        (lambda: Patch(32, std=STD, generator=generator(), side=33), "patch .* got 33"),
        (lambda: LowRank(32, std=STD, generator=generator(), rank=0), "rank .* got 0"),
        (lambda: LowRank(32, std=STD, generator=generator(), rank=33), "rank .* got 33"),
        (lambda: Fourier(32, std=STD, frequencies=16), "frequencies must be at most 15 .* got 16"),
        (lambda: Fourier(32, std=STD, frequencies=-1), "frequencies .* got -1"),
    ],
)
def test_bad_arguments(make: Callable[[], InputTransform], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("canvas", [2, 3, 4, 12, 32, 64, 112, 224, 384])
def test_default_image_size_fits(canvas: int) -> None:
    for native in (None, 28, 32, 33, 500):
        assert 1 <= default_image_size(canvas, native) < canvas
    assert default_image_size(224, 32) == 32 and default_image_size(224, 33) == 128
    assert default_image_size(224, None) == 128


@pytest.mark.parametrize("name", [n for n in BUILD if n != "patch-random"])
def test_can_be_exported(name: str) -> None:
    """No step depends on the data: `torch.export` traces every prompt, any batch size."""
    t = build(name).eval()
    scramble(t)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(t, (images(t, n=3),), dynamic_shapes=({0: batch},))
    x = images(t, n=5)
    torch.testing.assert_close(program.module()(x), t(x))
