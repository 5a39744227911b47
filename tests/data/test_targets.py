"""What a spec names: digits, bitmaps, DomainNet, the Hub, roots, and helpful errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reprogram.data import TARGETS, load_target
from reprogram.data.hub import task_from_datasets
from reprogram.data.roots import cache_dir, config_path, data_root
from reprogram.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's own configuration or cache takes part."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("REPROGRAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REPROGRAM_DATA", raising=False)
    return tmp_path


# Digits


def test_digits_are_all_there_and_use_the_whole_range() -> None:
    task = load_target("digits")
    assert [len(task.train), len(task.test)] == [1438, 359]
    assert task.native_size == 8
    images = task.train.images(8)
    assert (int(images.min()), int(images.max())) == (0, 255)
    assert task.fingerprint == load_target("digits").fingerprint


def test_digits_can_be_selected() -> None:
    task = load_target("digits[7,0-1]")
    assert task.class_names == ("7", "0", "1")
    assert task.name == "digits[7,0-1]"


# Quick, Draw! and DomainNet


def draw(folder: Path, name: str, n: int) -> None:
    folder.mkdir(exist_ok=True)
    rows = np.arange(n, dtype=np.uint8)[:, None]
    np.save(folder / f"{name}.npy", np.broadcast_to(rows, (n, 784)))


def test_quickdraw_bitmaps(tmp_path: Path) -> None:
    draw(tmp_path / "quickdraw", "zebra", 10)
    draw(tmp_path / "quickdraw", "full_numpy_bitmap_ant", 20)
    specs = (f"quickdraw:{tmp_path}/quickdraw", f"{tmp_path}/quickdraw", "quickdraw")
    for spec in specs:
        task = load_target(spec, data_root=tmp_path)
        assert task.class_names == ("ant", "zebra")
        assert [len(task.train), len(task.test), task.native_size] == [24, 6, 28]
    images = task.train.images(28)
    zebras = images[task.train.labels == 1][:, 0, 0, 0]
    assert set(zebras.tolist()) < set(range(10)) and len(zebras) == 8


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_broken_bitmaps_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ant.npy").write_bytes(content)
    with pytest.raises(InputError, match="ant.npy: not a readable .npy file"):
        load_target(tmp_path)


def test_bitmaps_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "ant.npy", np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(InputError, match=r"expected uint8 \(n, 784\), got uint8 \(3, 28, 28\)"):
        load_target(tmp_path)
    np.save(tmp_path / "ant.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="ant.npy: not a readable"):
        load_target(tmp_path)


def domainnet(root: Path, train: list[str], test: list[str]) -> None:
    base = root / "domainnet"
    (base / "real").mkdir(parents=True)
    (base / "real_train.txt").write_text("\n".join(train) + "\n")
    (base / "real_test.txt").write_text("\n".join(test) + "\n")
    for line in [*train, *test]:
        path = base / line.split()[0]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 9)).save(path)


def test_domainnet_takes_the_official_lists(tmp_path: Path) -> None:
    domainnet(
        tmp_path,
        ["real/bee/r_1.jpg 1", "real/ant/r_1.jpg 0", "real/ant/r_2.jpg 0"],
        ["real/bee/r_3.jpg 1", "real/cow/r_1.jpg 2"],
    )
    task = load_target("domainnet-real", data_root=tmp_path)
    assert task.class_names == ("ant", "bee", "cow")
    assert task.train.labels.tolist() == [1, 0, 0]
    assert task.test.images(4).shape == (2, 3, 4, 4)
    assert task.native_size == 9


def test_domainnet_that_is_absent_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"domainnet.real is not there.*real.zip"):
        load_target("domainnet-real", data_root=tmp_path)
    domainnet(tmp_path, ["real/ant/r_1.jpg 0", "real/bee/r_1.jpg 1"], ["real/ant/r_2.jpg 0"])
    lists = tmp_path / "domainnet" / "real_train.txt"
    for text, says in (
        ("real/ant/r_1.jpg\n", "line 1: expected"),
        ("../../secret/r.jpg 0\n", "line 1: expected"),
        ("real/ant/r_1.jpg 0\nreal/bee/r_1.jpg 0\n", "label 0 is 'ant'"),
        ("real/ant/r_1.jpg 0\nreal/bee/r_1.jpg 7\n", "without gaps"),
        ("\n", "an empty list"),
    ):
        lists.write_text(text)
        with pytest.raises(InputError, match=says):
            load_target("domainnet-real", data_root=tmp_path)


# The Hub


def hub_rows(n: int, labels: list[int] | None = None, **more: object):  # type: ignore[no-untyped-def]
    datasets = pytest.importorskip("datasets")
    features = {
        "img": datasets.Image(),
        "coarse_label": datasets.ClassLabel(names=["x", "y"]),
        "fine_label": datasets.ClassLabel(names=["ant", "bee", "cow"]),
    }
    columns = {
        "img": [Image.new("L", (6, 4), i) for i in range(n)],
        "coarse_label": [0] * n,
        "fine_label": labels or [i % 3 for i in range(n)],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hub_splits_and_columns_are_found() -> None:
    sets = {"train": hub_rows(12), "validation": hub_rows(3), "test": hub_rows(6)}
    task = task_from_datasets("hf/x", sets, max_memory=2**30)
    assert task.class_names == ("ant", "bee", "cow")
    assert [len(task.train), len(task.val), len(task.test)] == [12, 3, 6]
    assert task.train.images(4)[:, 0, 0, 0].tolist() == list(range(12))
    again = task_from_datasets("hf/x", sets, max_memory=2**30)
    assert task.fingerprint == again.fingerprint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_unpublished_test_labels_leave_the_set_without_a_test_split() -> None:
    sets = {"train": hub_rows(30), "test": hub_rows(6, [-1] * 6)}
    task = task_from_datasets("hf/x", sets, max_memory=2**30)
    assert [len(task.train), len(task.test)] == [24, 6]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hub_sets_of_another_kind_are_refused() -> None:
    rows = hub_rows(3)
    with pytest.raises(InputError, match="expected one Image column, found none"):
        task_from_datasets("hf/x", {"train": rows.remove_columns("img")}, max_memory=0)
    text = rows.remove_columns(["coarse_label", "fine_label"])
    with pytest.raises(InputError, match="expected one ClassLabel column, found none among img"):
        task_from_datasets("hf/x", {"train": text}, max_memory=0)
    with pytest.raises(InputError, match="has splits all: none is train or test"):
        task_from_datasets("hf/x", {"all": rows}, max_memory=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hub_is_not_asked_without_download(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    import huggingface_hub.constants as hub

    seen: list[bool] = []

    def load(path: str, config: str | None) -> dict[str, object]:
        seen.append(datasets.config.HF_HUB_OFFLINE and hub.HF_HUB_OFFLINE)
        raise ConnectionError("not cached\nat all")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    with pytest.raises(
        InputError,
        match=r"cached at all\. Fetch it with --download \(in Python: download=True\)\.$",
    ):
        load_target("hf/owner/name:config")
    with pytest.raises(InputError, match=r"loaded: not cached at all\.$"):
        load_target("hf/owner/name:config", download=True)
    assert seen == [True, False]


def test_hub_without_the_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install reprogram\[data\]"):
        load_target("hf/mnist")


# Names and paths


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cifar11", "unknown target 'cifar11'. Did you mean cifar10"),
        ("digit[0-3]", "unknown target 'digit'. Did you mean digits"),
        ("nothing/here", "nothing/here: no such file or folder"),
        ("absent.npz", "absent.npz: no such file or folder"),
        ("quickdraw:absent", "absent: no such file or folder"),
        ("quickdraw", "target 'quickdraw' is not there"),
        ("", "unknown target ''"),
        ("a\0b", "unknown target"),
        ("x" * 5000 + "/y", "no such file or folder"),
    ],
)
def test_specs_that_name_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        load_target(spec)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="a.zip: not a target"):
        load_target(tmp_path / "a.zip")


@given(spec=st.text(max_size=30))
def test_whatever_the_spec_it_is_a_task_or_an_input_error(spec: str) -> None:
    try:
        load_target(f"\N{SNOWMAN}{spec}")
    except InputError:
        pass


def test_table_says_how_to_get_everything() -> None:
    for name, target in TARGETS.items():
        assert target.num_classes >= 2 and target.get and target.reference, name


# Roots


def write_config(text: str) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text(text, encoding="utf-8")


def test_root_is_the_argument_then_the_environment_then_the_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert data_root() == cache_dir() / "data"
    write_config('data_root = "from-config"\n')
    assert data_root() == Path("from-config")
    monkeypatch.setenv("REPROGRAM_DATA", "from-environment")
    assert data_root() == Path("from-environment")
    assert data_root("given") == Path("given")


@pytest.mark.parametrize(
    ("text", "says"),
    [("data_root = ", "not TOML"), ("data_root = 3", "data_root must be a path in quotes")],
)
def test_bad_config_is_named(text: str, says: str) -> None:
    write_config(text)
    with pytest.raises(InputError, match=f"config.toml: {says}"):
        data_root()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
def test_whatever_the_config_it_is_a_root_or_an_input_error(home: Path, content: bytes) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_bytes(b"data_root = " + content)
    try:
        assert isinstance(data_root(), Path)
    except InputError:
        pass
