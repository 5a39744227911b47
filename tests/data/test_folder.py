"""Image folders: the layouts that people have, and an InputError for everything else."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reprogram.data import load_target
from reprogram.errors import InputError


def fill(folder: Path, n: int, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (6, 5), (i, 0, 0)).save(folder / f"{i:02d}{suffix}")


def test_folder_of_class_folders_is_split_here(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        fill(tmp_path / name, 10)
    task = load_target(tmp_path)
    assert task.name == tmp_path.name
    assert task.class_names == ("cat", "dog")
    assert [len(task.train), len(task.test)] == [16, 4]
    assert task.native_size == 6
    assert task.train.images(4).shape == (16, 3, 4, 4)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_split_folders_are_taken_as_they_are(tmp_path: Path, val: str) -> None:
    for split, n in (("train", 3), (val, 2), ("test", 1)):
        for name in ("a", "b"):
            fill(tmp_path / split / name, n)
    task = load_target(tmp_path)
    assert [len(task.train), len(task.val), len(task.test)] == [6, 4, 2]
    assert task.val.labels.tolist() == [0, 0, 1, 1]


def test_images_right_in_the_split_folders_are_no_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        fill(tmp_path / split, 3)
    with pytest.raises(InputError, match="no class folders in test/, train/"):
        load_target(tmp_path)


def test_links_are_followed_and_unknown_files_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "elsewhere", 4)
    for name in ("a", "b"):
        folder = tmp_path / "photos" / name
        fill(folder, 2)
        (folder / "more").symlink_to(tmp_path / "elsewhere")
        (folder / "again").symlink_to(tmp_path / "photos")  # has no end
        for other in ("1.heic", "2.heic", "notes.txt", ".hidden.heic"):
            (folder / other).touch()
    task = load_target(tmp_path / "photos")
    assert len(task.train) + len(task.test) == 12
    assert "passed over: 4 .heic" in caplog.text


def test_train_folder_alone_gives_up_a_fifth(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / "train" / name, 10)
    assert len(load_target(tmp_path).test) == 4


def test_classes_of_all_splits_keep_their_columns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "train" / "c", 1)
    fill(tmp_path / "train" / "b", 0)
    fill(tmp_path / "test" / "a", 1)
    task = load_target(tmp_path)
    assert task.class_names == ("a", "b", "c")
    with caplog.at_level(logging.WARNING):
        assert task.train.labels.tolist() == [2]
        assert task.test.labels.tolist() == [0]
    assert "no train images and keep their columns: a, b" in caplog.text


def test_deep_and_upper_case_files_count_and_hidden_ones_do_not(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "deep" / "er", 2, ".PNG")
    fill(tmp_path / "b", 1)
    fill(tmp_path / "b" / ".thumbnails", 3)
    fill(tmp_path / ".git" / "x", 1)
    (tmp_path / "b" / ".hidden.png").write_bytes(b"")
    (tmp_path / "b" / "notes.txt").write_text("no image")
    task = load_target(tmp_path)
    assert task.class_names == ("a", "b")
    assert len(task.train) + len(task.test) == 3


def test_class_that_is_called_train_is_a_class(tmp_path: Path) -> None:
    for name in ("train", "plane"):
        fill(tmp_path / name, 5)
    assert load_target(tmp_path).class_names == ("plane", "train")


def test_brackets_select_and_may_be_part_of_a_name(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        fill(tmp_path / "set[1]" / name, 5)
    assert load_target(tmp_path / "set[1]").num_classes == 3
    assert load_target(f"{tmp_path}/set[1][c,a]").class_names == ("c", "a")


def test_folders_that_hold_no_target_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class folders"):
        load_target(tmp_path)
    fill(tmp_path, 2)
    with pytest.raises(
        InputError, match="no class folders.*001.jpg; it has 2 images right beneath"
    ):
        load_target(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match=r"no images in its class folders cat. .* cat/001.png"):
        load_target(tmp_path)
    fill(tmp_path / "cat", 2)
    with pytest.raises(InputError, match="a classifier needs two"):
        load_target(tmp_path)


def test_too_few_images_for_a_test_split_are_told_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name, 1)
    with pytest.raises(InputError, match="no test images.*holds out a fifth: give more images"):
        _ = load_target(tmp_path).test


def test_two_validation_folders_are_ambiguous(tmp_path: Path) -> None:
    for split in ("train", "val", "valid"):
        fill(tmp_path / split / "a", 1)
    with pytest.raises(InputError, match="are both its val split"):
        load_target(tmp_path)


def test_truncated_image_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / "test" / name, 1)
    bad = tmp_path / "test" / "b" / "00.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(InputError, match="00.png: not a readable image"):
        load_target(tmp_path).test.images(4)


names = st.sampled_from(["train", "val", "test", "valid", "cat", "dog", ".hidden", "ä [0] é"])
files = st.sampled_from(["a.png", "b.jpg", "c.txt", "d.npy", ".e.png", "whole.png"])


@given(tree=st.lists(st.tuples(st.lists(names, max_size=3), files, st.binary(max_size=20))))
def test_whatever_lies_in_a_folder_it_is_a_task_or_an_input_error(
    tree: list[tuple[list[str], str, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        for place, name, content in tree:
            folder = Path(root, *place)
            folder.mkdir(parents=True, exist_ok=True)
            if name == "whole.png":
                Image.new("L", (3, 4)).save(folder / name)
            else:
                (folder / name).write_bytes(content)
        try:
            task = load_target(root)
            for split in task.split_names:
                assert task.split(split).images(2).shape[1:] == (3, 2, 2)
        except InputError as error:
            assert "\n" not in str(error)
