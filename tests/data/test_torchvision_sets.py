"""Torchvision's sets by name, on tiny copies in the sets' own formats."""

from __future__ import annotations

import bz2
import csv
import inspect
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision import datasets

from reprogram.data import TARGETS, TargetTask, load_target, plan_split
from reprogram.errors import InputError


def picture(path: Path, size: tuple[int, int] = (7, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 8, 7)).save(path)


def lines(path: Path, text: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


def idx(path: Path, array: np.ndarray) -> None:
    """The IDX format of MNIST: magic, big-endian sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for k, name in enumerate(batches):
        data = np.full((10, 3072), k, np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    names = {"label_names": [f"thing{i}" for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))


def svhn(root: Path) -> None:
    for split, n in (("train", 20), ("test", 10)):
        labels = np.arange(n)[:, None] % 10 + 1  # SVHN writes the digit 0 as 10
        pixels = np.broadcast_to(np.arange(n, dtype=np.uint8), (32, 32, 3, n))
        scipy.io.savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels})


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    for split, n in (("train", 20), ("test", 10)):
        (folder / f"{split}_X.bin").write_bytes(bytes(n * 3 * 96 * 96))
        (folder / f"{split}_y.bin").write_bytes(bytes(i % 10 + 1 for i in range(n)))


def mnist(root: Path) -> None:
    for prefix, n in (("train", 20), ("t10k", 10)):
        idx(root / "MNIST" / "raw" / f"{prefix}-images-idx3-ubyte", np.zeros((n, 28, 28)))
        idx(root / "MNIST" / "raw" / f"{prefix}-labels-idx1-ubyte", np.arange(n) % 10)


def usps(root: Path) -> None:
    for name, n in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        pixels = " ".join(f"{i + 1}:-1.0" for i in range(256))
        text = "".join(f"{i % 10 + 1} {pixels}\n" for i in range(n))
        (root / name).write_bytes(bz2.compress(text.encode()))


def gtsrb(root: Path) -> None:
    base = root / "gtsrb"
    for c in range(43):
        for frame in range(6):  # two tracks of three frames
            picture(base / f"GTSRB/Training/{c:05d}/{frame // 3:05d}_{frame % 3:05d}.ppm")
    with (base / "GT-final_test.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Filename", "ClassId"])
        for c in range(43):
            picture(base / f"GTSRB/Final_Test/Images/{c:05d}.ppm")
            writer.writerow([f"{c:05d}.ppm", c])


def eurosat(root: Path) -> None:
    for name in ("Forest", "River"):
        for i in range(10):
            picture(root / f"eurosat/2750/{name}/{name}_{i}.jpg")


def dtd(root: Path) -> None:
    for split, n in (("train", 3), ("val", 2), ("test", 1)):
        listed = [f"{c}/{c}_{split}{i}.jpg" for c in ("banded", "lined") for i in range(n)]
        lines(root / f"dtd/dtd/labels/{split}1.txt", listed)
        for name in listed:
            picture(root / "dtd/dtd/images" / name)


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    for split, n in (("trainval", 3), ("test", 1)):
        breeds = enumerate(("pug", "Sphynx"))
        names = [(f"{breed}_{split}{i}", c) for c, breed in breeds for i in range(n)]
        lines(base / f"annotations/{split}.txt", [f"{name} {c + 1} 1 1" for name, c in names])
        for name, _ in names:
            picture(base / f"images/{name}.jpg")


def sun397(root: Path) -> None:
    lines(root / "SUN397/ClassName.txt", ["/a/abbey", "/z/zoo/indoor"])
    for i in range(10):
        picture(root / f"SUN397/a/abbey/sun_{9 - i}.jpg")
        picture(root / f"SUN397/z/zoo/indoor/sun_x{i}.jpg")


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    lines(data / "variants.txt", ["707-320", "A300 B4"])
    for split, n in (("train", 3), ("val", 2), ("test", 1)):
        entries = [f"{split}{i} {v}" for v in ("707-320", "A300 B4") for i in range(n)]
        lines(data / f"images_variant_{split}.txt", entries)
        for i in range(n):
            picture(data / f"images/{split}{i}.jpg")


def caltech101(root: Path) -> None:
    folder = root / "caltech101/101_ObjectCategories"
    for name in ("ant", "BACKGROUND_Google", "crab"):
        for i in range(10):
            picture(folder / name / f"image_{i + 1:04d}.jpg")


def caltech256(root: Path) -> None:
    for c, name in enumerate(("001.ak47", "002.american-flag")):
        for i in range(10):
            folder = root / "caltech256/256_ObjectCategories" / name
            picture(folder / f"{c + 1:03d}_{i + 1:04d}.jpg")


def country211(root: Path) -> None:
    for split, n in (("train", 3), ("valid", 2), ("test", 1)):
        for name in ("AD", "ZW"):
            for i in range(n):
                picture(root / f"country211/{split}/{name}/{i}.jpg")


def rendered_sst2(root: Path) -> None:
    for split, n in (("train", 3), ("valid", 2), ("test", 1)):
        for name in ("negative", "positive"):
            for i in range(n):
                picture(root / f"rendered-sst2/{split}/{name}/{i}.png")


def flowers102(root: Path) -> None:
    base = root / "flowers-102"
    for i in range(306):
        picture(base / f"jpg/image_{i + 1:05d}.jpg", (2, 2))
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.arange(306) % 102 + 1})
    ids = np.arange(306).reshape(3, 102) + 1
    scipy.io.savemat(base / "setid.mat", {"trnid": ids[0], "valid": ids[1], "tstid": ids[2]})


def pcam(root: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (root / "pcam").mkdir()
    for split, n in (("train", 4), ("valid", 2), ("test", 2)):
        for what, content in (
            ("x", np.zeros((n, 96, 96, 3), np.uint8)),
            ("y", (np.arange(n) % 2).reshape(n, 1, 1, 1)),
        ):
            path = root / f"pcam/camelyonpatch_level_2_split_{split}_{what}.h5"
            with h5py.File(path, "w") as file:
                file[what] = content


# name: how it is made; images in train, val and test; first and last class
CASES: dict[str, tuple[Callable[[Path], None], tuple[int, int, int], tuple[str, str]]] = {
    "cifar10": (cifar10, (50, 0, 10), ("thing0", "thing9")),
    "svhn": (svhn, (20, 0, 10), ("0", "9")),
    "stl10": (stl10, (20, 0, 10), ("airplane", "truck")),
    "mnist": (mnist, (20, 0, 10), ("0", "9")),
    "usps": (usps, (20, 0, 10), ("0", "9")),
    "gtsrb": (gtsrb, (258, 0, 43), ("speed limit 20", "end of no passing for trucks")),
    "eurosat": (eurosat, (16, 0, 4), ("Forest", "River")),
    "dtd": (dtd, (6, 4, 2), ("banded", "lined")),
    "pets": (pets, (6, 0, 2), ("Pug", "Sphynx")),
    "sun397": (sun397, (16, 0, 4), ("abbey", "zoo/indoor")),
    "aircraft": (aircraft, (6, 4, 2), ("707-320", "A300 B4")),
    "caltech101": (caltech101, (16, 0, 4), ("ant", "crab")),
    "caltech256": (caltech256, (16, 0, 4), ("001.ak47", "002.american-flag")),
    "country211": (country211, (6, 4, 2), ("AD", "ZW")),
    "rendered-sst2": (rendered_sst2, (6, 4, 2), ("negative", "positive")),
    "flowers102": (flowers102, (102, 102, 102), ("pink primrose", "blackberry lily")),
    "pcam": (pcam, (4, 2, 2), ("no tumour", "tumour")),
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TargetTask]:
    """A tiny copy of a set; the checksums, which only the real files have, are not asked for."""
    for module in (datasets.cifar, datasets.svhn, datasets.stl10, datasets.flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).exists())
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)

    def make(name: str) -> TargetTask:
        CASES[name][0](tmp_path)
        return load_target(name, data_root=tmp_path)

    return make


@pytest.mark.parametrize("name", CASES)
def test_set_has_its_official_splits_and_classes(
    made: Callable[[str], TargetTask], name: str
) -> None:
    _, counts, (first, last) = CASES[name]
    task = made(name)
    assert (task.class_names[0], task.class_names[-1]) == (first, last)
    for split, n in zip(("train", "val", "test"), counts, strict=True):
        assert task.has(split) == (n > 0)
        if n:
            part = task.split(split)
            assert len(part) == n
            assert set(part.labels) == set(range(task.num_classes))
            assert part.images(8).shape == (n, 3, 8, 8)


def test_svhn_images_stay_beside_their_labels(made: Callable[[str], TargetTask]) -> None:
    train = made("svhn").train
    digit = (np.arange(20) + 1) % 10
    assert train.labels.tolist() == digit.tolist()
    assert train.images(32)[:, 0, 0, 0].tolist() == list(range(20))


def test_gtsrb_validation_divides_no_track(made: Callable[[str], TargetTask]) -> None:
    train = made("gtsrb").train
    groups = train.groups
    assert groups is not None and len(set(groups)) == 86
    kept, val = plan_split(train.labels, groups)
    assert len(val) and not set(groups[kept]) & set(groups[val])


def test_sun397_lies_in_an_order_that_no_file_system_decides(
    made: Callable[[str], TargetTask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sorted_first = made("sun397").fingerprint
    found = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, p: reversed(list(found(self, p))))
    assert load_target("sun397", data_root=tmp_path).fingerprint == sorted_first


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].torchvision])
def test_missing_set_names_its_folder_and_makes_nothing(tmp_path: Path, name: str) -> None:
    how = TARGETS[name].torchvision
    assert how is not None
    with pytest.raises(InputError, match=f"target '{name}' is not there") as caught:
        load_target(name, data_root=tmp_path)
    assert str(tmp_path / how.folder) in str(caught.value)
    assert ("--download (in Python: download=True)" in str(caught.value)) == how.fetched
    assert list(tmp_path.iterdir()) == []


def test_incomplete_set_says_what_torchvision_says(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match="'cifar10' cannot be read: Dataset not found or corrupt"):
        load_target("cifar10", data_root=tmp_path)


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("no route\nto the host")

    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(
        InputError, match=r"cannot be read: no route to the host\. Expected"
    ) as caught:
        load_target("cifar10", data_root=tmp_path, download=True)
    assert "\n" not in str(caught.value)


def test_set_that_torchvision_cannot_fetch_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'cars' cannot be downloaded"):
        load_target("cars", data_root=tmp_path, download=True)


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].torchvision])
def test_table_agrees_with_torchvision(name: str) -> None:
    how = TARGETS[name].torchvision
    assert how is not None
    signature = inspect.signature(getattr(datasets, how.maker))
    for arguments in how.splits.values():
        extra = {"download": False} if how.fetched else {}
        signature.bind("root", **arguments, **extra)
    if how.class_names:
        assert len(how.class_names) == TARGETS[name].num_classes
