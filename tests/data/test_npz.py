"""The `.npz` loader: MedMNIST's layout as it is, and an InputError for everything else."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from reprogram.data import load_target
from reprogram.data.npz import load_npz
from reprogram.errors import InputError


def pixels(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """A file that can be used; an array given as None is left out."""
    whole = {
        "train_images": pixels(20, 6, 5, 3),
        "train_labels": np.arange(20) % 4,
        "test_images": pixels(8, 6, 5, 3),
        "test_labels": np.arange(8) % 4,
    } | changes
    return {key: value for key, value in whole.items() if value is not None}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(**changes: Any) -> Path:
        np.savez(tmp_path / "set.npz", **arrays(**changes))
        return tmp_path / "set.npz"

    return save


def test_medmnist_layout(saved: Callable[..., Path]) -> None:
    path = saved(
        train_labels=(np.arange(20) % 4).astype(np.uint8)[:, None],
        val_images=pixels(4, 6, 5),
        val_labels=np.arange(4)[:, None],
    )
    task = load_target(path)
    assert task.name == "set"
    assert task.class_names == ("class_0", "class_1", "class_2", "class_3")
    assert [len(task.train), len(task.val), len(task.test)] == [20, 4, 8]
    assert task.train.labels.tolist() == [i % 4 for i in range(20)]
    assert task.native_size == 6
    assert task.test.images(7).shape == (8, 3, 7, 7)


def test_images_are_the_files_own(saved: Callable[..., Path]) -> None:
    square = pixels(20, 6, 6, 3)
    images = load_target(saved(train_images=square)).train.images(6)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), square)


def test_without_a_test_split_a_fifth_is_cut(saved: Callable[..., Path]) -> None:
    task = load_target(saved(test_images=None, test_labels=None))
    assert [len(task.train), len(task.test)] == [16, 4]
    assert np.bincount(task.test.labels).tolist() == [1, 1, 1, 1]


def test_empty_train_split_matters_to_nobody_who_does_not_ask(saved: Callable[..., Path]) -> None:
    path = saved(train_images=np.empty((0, 6, 5, 3), np.uint8), train_labels=np.empty(0, np.int64))
    task = load_target(path)
    assert len(task.test) == 8
    assert not task.has("train")
    with pytest.raises(InputError, match="no train split"):
        _ = task.train


def test_training_images_are_not_read_for_the_test_split(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = saved(), []
    whole_read = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile, "__getitem__", lambda self, k: read.append(k) or whole_read(self, k)
    )
    load_target(path).test.images(4)
    assert "test_images" in read and "train_images" not in read


def test_classes_come_from_every_split_and_names_from_the_file(saved: Callable[..., Path]) -> None:
    labels = np.arange(8) % 6
    assert load_target(saved(test_labels=labels)).num_classes == 6
    named = load_target(saved(class_names=np.array(["a", "b", "c", "d", "e"])))
    assert named.class_names == ("a", "b", "c", "d", "e")
    as_bytes = load_target(saved(class_names=np.array([b"a", b"b", b"c", b"d"])))
    assert as_bytes.class_names == ("a", "b", "c", "d")


def test_groups_reach_the_split(saved: Callable[..., Path]) -> None:
    task = load_target(saved(train_groups=np.array([f"g{i // 5}" for i in range(20)])))
    assert task.train.groups is not None and task.train.groups[7] == "g1"
    assert task.test.groups is None


OBJECTS = np.array([{"a": 1}, None, 3, 4] * 5, dtype=object)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_labels": None}, "train_images without train_labels"),
        ({"train_images": None}, "train_labels without train_images"),
        (dict.fromkeys(arrays()), "no training and no test images"),
        ({"train_images": pixels(20, 6, 5, 3) / 255.0}, "must be uint8 .* got float64. From"),
        ({"train_images": pixels(20, 6, 5, 3).astype(np.int64)}, "must be uint8 .* got int64"),
        ({"train_images": pixels(20, 6)}, r"must be \(N, H, W\)"),
        ({"train_images": pixels(20, 6, 5, 2)}, r"with 1, 3 or 4 channels"),
        (
            {"train_images": pixels(20, 3, 6, 5)},
            r"channels first, .* images\.transpose\(0, 2, 3, 1\)",
        ),
        ({"train_images": pixels(20, 0, 5, 3)}, "got .20, 0, 5, 3."),
        ({"train_images": OBJECTS}, "must be uint8 .* got object"),
        ({"train_labels": np.arange(19)}, r"must be \(20,\) or \(20, 1\)"),
        ({"train_labels": OBJECTS}, "Python objects, which are never unpickled"),
        ({"train_labels": np.arange(20) - 1}, "must be 0 to T - 1, got -1 to 18"),
        ({"train_labels": np.arange(20) * 10**9}, "must be 0 to T - 1, got 0 to 19000000000"),
        ({"train_labels": np.full(20, np.nan)}, "must be whole numbers, got float64"),
        ({"train_labels": np.zeros((20, 14), int)}, "14 labels an image"),
        ({"class_names": np.array(["a", "b"])}, "labels go up to 3, but class_names has 2"),
        ({"class_names": np.arange(4)}, "class_names must be a list of strings"),
        ({"class_names": OBJECTS}, "class_names holds Python objects"),
        ({"train_groups": np.arange(3)}, "train_groups must be 20 whole numbers or strings"),
    ],
)
def test_bad_files_are_refused_with_a_reason(
    saved: Callable[..., Path], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        _ = load_npz(saved(**changes), max_memory=0).train


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for content in (b"", b"hello", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npz: not a readable .npz file"):
            load_target(path)


@pytest.mark.parametrize("spoil", [lambda b: b"no array", lambda b: b.replace(b"}", b"("), len])
def test_damaged_header_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes | int]) -> None:
    array = io.BytesIO()
    np.save(array, pixels(2, 3, 3))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("train_images.npy", bytes(spoil(array.getvalue())))
        archive.writestr("train_labels.npy", b"")
    with pytest.raises(InputError, match="train_images is not readable"):
        load_target(tmp_path / "x.npz")


any_array = nps.arrays(
    dtype=st.one_of(
        st.sampled_from([np.uint8, np.int64, np.uint64, bool, np.dtype("U2"), np.dtype("S2")]),
        nps.floating_dtypes(),
        nps.datetime64_dtypes(),
        nps.complex_number_dtypes(),
    ),
    shape=nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
keys = [f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels")]
odd_files = st.dictionaries(st.sampled_from([*keys, "class_names", "train_groups"]), any_array)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=odd_files)
def test_whatever_the_arrays_a_file_is_a_task_or_an_input_error(
    tmp_path: Path, changes: dict[str, np.ndarray]
) -> None:
    for content in (changes, arrays(**changes)):
        np.savez(tmp_path / "any.npz", **content)
        _use(tmp_path / "any.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_damage_a_file_is_a_task_or_an_input_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "damaged.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    _use(path)


def _use(path: Path) -> None:
    try:
        task = load_target(path)
        for name in task.split_names:
            assert task.split(name).images(3).shape[1:] == (3, 3, 3)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.real
def test_unpacked_set_is_a_target(real_npz: Callable[[str], Path]) -> None:
    task = load_target(real_npz("usps"))
    assert [len(task.train), len(task.test)] == [7291, 2007]  # PROVENANCE.md
    assert task.class_names == tuple("0123456789")
    assert task.test.images(32).shape == (2007, 3, 32, 32)
