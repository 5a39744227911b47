"""Noise: the same bits for everybody, stronger with severity, and only where it is meant to be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import tiny_part, tiny_task
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reprogram.data import TargetTask, plan_split
from reprogram.data.images import ArrayStore, FileStore
from reprogram.data.noise import (
    CLEAN,
    NOISES,
    SEVERITIES,
    ImageNoise,
    LabelNoise,
    Noise,
    imagenet_c,
    noise_note,
    noisy,
)
from reprogram.data.noise.labels import class_dependent, redrawn
from reprogram.data.noise.store import NoisyStore
from reprogram.data.task import Part
from reprogram.errors import InputError

REPORT = ("gaussian", "blur", "salt-and-pepper")
IMAGE_KINDS = [kind for kind, made in NOISES.items() if isinstance(made, ImageNoise)]
LABEL_KINDS = [kind for kind, made in NOISES.items() if isinstance(made, LabelNoise)]

valid = st.one_of(
    st.just(CLEAN),
    st.builds(
        Noise, st.sampled_from(IMAGE_KINDS), st.sampled_from(SEVERITIES),
        st.sampled_from(["test", "train", "both"]), st.integers(0, 99),
    ),
    st.builds(
        Noise, st.sampled_from(LABEL_KINDS), st.sampled_from(SEVERITIES), st.just("train"),
        st.integers(0, 99),
    ),
)  # fmt: skip


def smooth_images(n: int, side: int, seed: int = 0) -> np.ndarray:
    """Coloured clouds: a blur changes them, and so does a saturation."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 7, 7, 3), dtype=np.uint8)
    clouds = [Image.fromarray(image).resize((side, side)) for image in coarse]
    return np.stack([np.array(image) for image in clouds])


def smooth_part(n: int, side: int, seed: int = 0) -> Part:
    return Part(ArrayStore(smooth_images(n, side, seed)), np.arange(n) % 2)


def smooth_task(n: int = 12, side: int = 32) -> TargetTask:
    parts = {"train": lambda: smooth_part(n, side), "test": lambda: smooth_part(n, side, 1)}
    return TargetTask("smooth", ["even", "odd"], parts)


def needs(kind: str) -> None:
    if kind not in REPORT + tuple(LABEL_KINDS):
        pytest.importorskip("imagecorruptions")


# The file


def test_processes_that_need_the_same_images_make_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores, as two processes have them; the second waits for the first."""
    made: list[int] = []
    images = NoisyStore._images

    def slowly(self: NoisyStore, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        made.append(1)
        time.sleep(0.2)
        yield from images(self, shape)

    monkeypatch.setattr(NoisyStore, "_images", slowly)
    tasks = [noisy(smooth_task(), Noise("gaussian", 3), cache=tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda task: task.test.images(16), tasks)
    assert torch.equal(first, second) and len(made) == 1


# The value


@given(valid)
def test_noise_survives_text(noise: Noise) -> None:
    assert Noise.parse(str(noise)) == noise
    assert bool(noise) == (noise != CLEAN)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gausian:3@test", "unknown noise 'gausian'. Did you mean gaussian"),
        ("gaussian", "Write it like gaussian:3@test"),
        ("gaussian:three", "Write it like gaussian:3@test"),
        ("gaussian:6", "severity of noise 'gaussian' must be 1 to 5, got 6"),
        ("gaussian:0", "For no noise write clean"),
        ("blur:2@tset", "unknown place of noise 'tset'. Did you mean test"),
        ("blur:2@", "unknown place of noise ''"),
        ("pair:2@both", "test labels are never changed. Write pair:2@train"),
        ("clean:1", "has no severity, place or seed"),
        ("", "is not KIND:SEVERITY"),
    ],
)
def test_bad_texts_are_named(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Noise.parse(text)


def test_bad_values_are_named() -> None:
    with pytest.raises(InputError, match="severity must be a whole number >= 0, got -3"):
        Noise("blur", -3)


def test_a_fit_sees_what_training_sees() -> None:
    assert Noise("blur", 2, "test").training == Noise("fog", 5, "test").training == CLEAN
    assert Noise("blur", 2, "both").training == Noise("blur", 2, "train").training
    assert Noise("pair", 1, "train").training == Noise("pair", 1, "train")
    assert [Noise("blur", 1, "train").touches(s) for s in ("train", "val", "test")] == [1, 1, 0]


# Images


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_every_kind_keeps_shape_and_input_and_repeats_its_bits(kind: str) -> None:
    needs(kind)
    made = NOISES[kind]
    assert isinstance(made, ImageNoise) and made.version()
    pixels = smooth_images(1, 32)[0]
    before = pixels.copy()
    for severity in SEVERITIES:
        strength = made.levels[severity - 1]
        first, again = (
            made.corrupt(pixels, strength, np.random.default_rng(severity)) for _ in range(2)
        )
        assert first.shape == pixels.shape and first.dtype == np.uint8
        assert (first == again).all()
        assert (pixels == before).all()


# ImageNet-C's severities of these change several parameters at once, and the mean difference, one
# measure of many, does not grow at every step.
NOT_BY_DIFFERENCE = {"glass-blur", "snow", "frost", "saturate"}


@pytest.mark.parametrize("kind", [k for k in IMAGE_KINDS if k not in NOT_BY_DIFFERENCE])
def test_distortion_grows_with_severity(kind: str) -> None:
    needs(kind)
    made = NOISES[kind]
    assert isinstance(made, ImageNoise)
    images = smooth_images(40, 32).astype(float)

    def distortion(strength: float) -> float:
        out = [
            made.corrupt(image.astype(np.uint8), strength, np.random.default_rng(i))
            for i, image in enumerate(images)
        ]
        return float(np.abs(np.stack(out) - images).mean())

    found = [distortion(strength) for strength in made.levels]
    assert found == sorted(found) and found[0] > 0


@pytest.mark.parametrize("kind", REPORT)
def test_strength_zero_changes_nothing(kind: str) -> None:
    made = NOISES[kind]
    assert isinstance(made, ImageNoise)
    pixels = smooth_images(1, 32)[0]
    assert (made.corrupt(pixels, 0.0, np.random.default_rng(0)) == pixels).all()


def test_gaussian_and_salt_and_pepper_have_the_stated_strength() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    gaussian, pepper = NOISES["gaussian"], NOISES["salt-and-pepper"]
    assert isinstance(gaussian, ImageNoise) and isinstance(pepper, ImageNoise)
    drawn = gaussian.corrupt(grey, 0.1, rng).astype(float) / 255
    assert drawn.std() == pytest.approx(0.1, rel=0.02)
    assert drawn.mean() == pytest.approx(128 / 255, abs=0.002)
    specks = pepper.corrupt(grey, 0.2, rng)
    assert (specks == 255).all(2).mean() == pytest.approx(0.1, abs=0.01)
    assert (specks == 0).all(2).mean() == pytest.approx(0.1, abs=0.01)
    assert ((specks == 128).all(2) | (specks != 128).all(2)).all()  # whole pixels


@pytest.mark.parametrize("name", ["impulse_noise", "glass_blur", "motion_blur"])
def test_imagenet_c_is_seeded_and_leaves_the_global_generator_alone(name: str) -> None:
    pytest.importorskip("imagecorruptions")
    pixels = smooth_images(1, 32)[0]

    def corrupted(seed: int) -> np.ndarray:
        return imagenet_c.corrupt(name, pixels, 3, np.random.default_rng(seed))

    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = corrupted(1)
    assert np.random.random() == expected
    np.random.seed(6)
    assert (corrupted(1) == first).all()  # not from the global state
    assert (corrupted(2) != first).any()


def test_spatter_without_a_drop_is_the_image() -> None:
    pytest.importorskip("imagecorruptions")
    pixels = smooth_images(1, 32)[0]
    out = [imagenet_c.corrupt("spatter", pixels, 1, np.random.default_rng(s)) for s in range(100)]
    assert any((image == pixels).all() for image in out)  # division by zero happened, unharmed
    assert all(image.mean() > 0.5 * pixels.mean() for image in out)


# Tasks


@pytest.mark.parametrize("kind", ["gaussian", "blur", "glass-blur", "shot-noise"])
def test_noisy_images_are_the_same_whatever_is_read_in_which_order(
    kind: str, tmp_path: Path
) -> None:
    needs(kind)
    task, noise = smooth_task(), Noise(kind, 4)
    whole = noisy(task, noise, cache=tmp_path / "a").test.images(16)
    assert not torch.equal(whole, task.test.images(16))

    other = noisy(task, noise, cache=tmp_path / "b")
    single = np.array(other.test.image(7))  # before the others are made
    some = other.test.subset([7, 2]).images(16)
    assert torch.equal(some, whole[[7, 2]])
    assert (np.array(other.test.image(7)) == single).all()

    uncached = noisy(task, noise, cache=tmp_path / "c", max_memory=0)
    assert torch.equal(uncached.test.images(16), whole)
    assert not (tmp_path / "c").exists()


def test_made_once_and_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Noise("gaussian", 2)
    first = noisy(smooth_task(), noise, cache=tmp_path).test.images(32)
    (file,) = (tmp_path / "noise").glob("*.npy")
    assert np.load(file, allow_pickle=False).shape == (12, 32, 32, 3)
    calls = []
    original = NOISES["gaussian"].corrupt  # type: ignore[union-attr]

    def counted(*arguments: object) -> np.ndarray:
        calls.append(1)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setitem(NOISES, "gaussian", ImageNoise(counted, NOISES["gaussian"].levels, "", ""))
    assert torch.equal(noisy(smooth_task(), noise, cache=tmp_path).test.images(32), first)
    assert len(calls) == 1  # the first image says which shape the file must have
    file.write_bytes(file.read_bytes()[:-5])  # a damaged file is made again
    assert torch.equal(noisy(smooth_task(), noise, cache=tmp_path).test.images(32), first)
    assert len(calls) == 14


def test_images_of_several_sizes_are_made_when_they_are_read(tmp_path: Path) -> None:
    paths = []
    for i, side in enumerate((20, 20, 24, 20)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(smooth_images(1, side, i)[0]).save(paths[-1])
    part = Part(FileStore(paths, tmp_path), np.array([0, 1, 0, 1]))
    task = TargetTask("files", ["a", "b"], {"test": lambda: part})
    made = noisy(task, Noise("gaussian", 3), cache=tmp_path)
    assert made.test.image(2).size == (24, 24)
    assert made.test.images(20).shape == (4, 3, 20, 20)
    left = [file.suffix for file in (tmp_path / "noise").iterdir()]
    assert left in ([], [".lock"])  # nothing half-written stays


def test_clean_is_the_task_itself() -> None:
    task = tiny_task()
    assert noisy(task, CLEAN) is task


def test_test_noise_leaves_training_as_it_is(tmp_path: Path) -> None:
    task = tiny_task(val=True)
    made = noisy(task, Noise("gaussian", 3, "test"), cache=tmp_path)
    for split in ("train", "val"):
        assert made.split(split).fingerprint == task.split(split).fingerprint
        assert torch.equal(made.images(8, split), task.images(8, split))
    assert made.test.fingerprint != task.test.fingerprint
    assert not torch.equal(made.images(8, "test"), task.images(8, "test"))
    assert (made.name, made.native_size) == (task.name, task.native_size)


def test_training_noise_reaches_validation_and_not_the_test_images(tmp_path: Path) -> None:
    task = tiny_task(val=True)
    made = noisy(task, Noise("blur", 3, "train"), cache=tmp_path)
    assert made.test.fingerprint == task.test.fingerprint
    assert all(made.split(s).fingerprint != task.split(s).fingerprint for s in ("train", "val"))
    both = noisy(task, Noise("blur", 3, "both"), cache=tmp_path)
    assert both.train.fingerprint == made.train.fingerprint
    only_test = noisy(task, Noise("blur", 3, "test"), cache=tmp_path)
    assert both.test.fingerprint == only_test.test.fingerprint


def test_fingerprints_tell_kinds_severities_and_draws_apart(tmp_path: Path) -> None:
    texts = ("gaussian:1", "gaussian:2", "blur:1", "gaussian:1#1", "pair:1", "symmetric:1")
    prints = {noisy(tiny_task(), Noise.parse(t), cache=tmp_path).fingerprint for t in texts}
    assert len(prints) == len(texts)
    again = noisy(tiny_task(), Noise("gaussian", 1), cache=tmp_path).fingerprint
    assert again in prints


def test_images_too_small_are_enlarged_and_it_is_said(tmp_path: Path) -> None:
    pytest.importorskip("imagecorruptions")
    task, noise = smooth_task(side=16), Noise("contrast", 1)
    assert noise_note(task, noise) == "images of 16 px enlarged to 32 px before contrast"
    made = noisy(task, noise, cache=tmp_path)
    assert made.test.image(0).size == (32, 32) and made.native_size == 16
    assert noise_note(smooth_task(side=32), noise) == ""
    assert noise_note(task, Noise("gaussian", 1)) == noise_note(task, CLEAN) == ""


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(InputError, match=r'pip install "reprogram\[corruptions\]"'):
        noisy(smooth_task(), Noise("fog", 1))
    noisy(smooth_task(), Noise("gaussian", 1))


# Labels


def flipped(kind: str, severity: int, labels: np.ndarray, num_classes: int) -> np.ndarray:
    made = NOISES[kind]
    assert isinstance(made, LabelNoise)
    rng = np.random.default_rng(0)
    return redrawn(labels, made.matrix(num_classes, made.levels[severity - 1], rng), rng)


@pytest.mark.parametrize("kind", LABEL_KINDS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_label_noise_has_the_stated_rate(kind: str, severity: int) -> None:
    labels = np.arange(40_000) % 10
    out = flipped(kind, severity, labels, 10)
    assert out.min() >= 0 and out.max() < 10
    # Five standard deviations of a share of 40,000 draws.
    assert (out != labels).mean() == pytest.approx(NOISES[kind].levels[severity - 1], abs=0.0125)


def test_wrong_labels_go_where_their_kind_says() -> None:
    labels = np.arange(40_000) % 5
    even = flipped("symmetric", 5, labels, 5)
    shift = np.bincount((even - labels) % 5, minlength=5) / len(labels)
    assert shift == pytest.approx([0.5, *[0.125] * 4], abs=0.01)
    following = flipped("pair", 5, labels, 5)
    assert set(((following - labels) % 5).tolist()) == {0, 1}


def test_class_dependent_rates_differ_by_class_and_keep_the_true_class_ahead() -> None:
    for seed in range(20):
        matrix = class_dependent(10, 0.4, np.random.default_rng(seed))
        wrong = 1 - matrix.diagonal()
        assert np.sort(wrong) == pytest.approx(np.linspace(0.2, 0.6, 10))
        assert (matrix >= 0).all() and matrix.sum(1) == pytest.approx(1)
    labels = np.repeat(np.arange(10), 4000)
    out = flipped("class-dependent", 5, labels, 10)
    matrix = class_dependent(10, 0.4, np.random.default_rng(0))
    found = np.stack([np.bincount(out[labels == c], minlength=10) / 4000 for c in range(10)])
    assert found == pytest.approx(matrix, abs=0.04)


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_label_noise_changes_training_labels_alone(kind: str) -> None:
    task = tiny_task(n_train=300, val=True)
    made = noisy(task, Noise(kind, 5, "train"))
    assert (made.train.labels != task.train.labels).any()
    assert (made.test.labels == task.test.labels).all()
    assert torch.equal(made.images(8), task.images(8))
    assert made.test.fingerprint == task.test.fingerprint
    again = noisy(tiny_task(n_train=300, val=True), Noise(kind, 5, "train"))
    assert (made.train.labels == again.train.labels).all()


def test_class_dependent_noise_confuses_the_same_classes_in_every_split() -> None:
    """A set's own validation images are labelled as its training images are."""
    task = tiny_task(n_train=3000).replacing({"val": lambda: tiny_part(3000, 2)})
    made = noisy(task, Noise("class-dependent", 5, "train"))
    own = [
        np.stack([np.bincount(new[old == t], minlength=task.num_classes) / (old == t).sum()
                  for t in range(task.num_classes)])
        for old, new in ((task.split(s).labels, made.split(s).labels) for s in ("train", "val"))
    ]  # fmt: skip
    assert own[0] == pytest.approx(own[1], abs=0.08)


def test_trials_on_noisy_images_use_the_images_of_clean_trials(tmp_path: Path) -> None:
    task = tiny_task()
    made = noisy(task, Noise("gaussian", 5, "both"), cache=tmp_path)
    clean, same = (plan_split(t.train.labels, target_name=t.name) for t in (task, made))
    assert (clean[0] == same[0]).all() and (clean[1] == same[1]).all()
