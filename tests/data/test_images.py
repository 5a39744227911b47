"""Decoding, resizing and caching: PIL's own pixels, whatever the mode, from memory or from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reprogram.data import resized
from reprogram.data.augmentation import pad_reflect
from reprogram.data.images import ArrayStore, DatasetStore, FileStore, open_rgb, to_rgb
from reprogram.data.resized import ResizedImages
from reprogram.errors import InputError

BIG = 2**30


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPROGRAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def by_hand(store: FileStore | ArrayStore, size: int) -> torch.Tensor:
    """The definition: one image after another, resized by PIL."""
    arrays = [
        np.array(store.image(i).resize((size, size), Image.Resampling.BILINEAR))
        for i in range(len(store))
    ]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "HSV", "I"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(noise(6, 5, 3)).convert("L" if mode == "I" else mode)
    image = image.convert(mode)
    assert to_rgb(image).mode == "RGB"
    assert to_rgb(image).size == (5, 6)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.array(open_rgb(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=b"\x00\xff")
    assert open_rgb(tmp_path / "p.png").getpixel((0, 0)) == (10, 20, 30)


def test_animated_gif_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_rgb(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: width and height change places
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_rgb(tmp_path / "turned.jpg").size == (4, 8)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "float"])
def test_unreadable_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.png"
    Image.fromarray(noise(40, 40, 3)).save(path)
    whole = path.read_bytes()
    if damage == "float":
        path = tmp_path / "bad.tiff"
        Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": whole[:-2000]}[damage])
    with pytest.raises(InputError, match=f"{path.name}: not a readable image"):
        ResizedImages(FileStore([path], tmp_path), BIG).get(8)


def test_what_is_no_file_is_not_called_broken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope.jpg: no such file\.$"):
        open_rgb(tmp_path / "nope.jpg")
    with pytest.raises(InputError, match=f"{tmp_path.name}: a folder. Give image files"):
        open_rgb(tmp_path)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4), (6, 9), (6, 9, 3)])
@pytest.mark.parametrize("size", [8, 5, 12])
def test_arrays_of_every_layout_are_resized_as_pil_does(shape: tuple[int, ...], size: int) -> None:
    store = ArrayStore(noise(70, *shape))  # more than a block of the thread pool
    assert torch.equal(ResizedImages(store, BIG).get(size), by_hand(store, size))


def test_same_size_is_the_identity() -> None:
    pixels = noise(5, 8, 8, 3)
    images = ResizedImages(ArrayStore(pixels), BIG).get(8)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), pixels)


def test_files_keep_their_order_and_progress_reaches_the_end(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:03d}.png" for i in range(130)]
    for i, path in enumerate(paths):
        Image.new("RGB", (3, 2), (i, 0, 0)).save(path)
    seen: list[tuple[int, int]] = []
    images = ResizedImages(FileStore(paths, tmp_path), BIG).get(
        2, lambda done, n: seen.append((done, n))
    )
    assert images[:, 0, 0, 0].tolist() == list(range(130))
    assert seen == [(64, 130), (128, 130), (130, 130)]


def test_images_above_max_memory_are_mapped_from_a_file_with_the_same_pixels(cache: Path) -> None:
    store = ArrayStore(noise(70, 6, 6, 3))
    mapped = ResizedImages(store, max_memory=0).get(9)
    assert torch.equal(mapped, ResizedImages(store, BIG).get(9))
    assert {path.suffix for path in cache.iterdir()} == {".npy", ".lock"}


def test_mapped_file_is_used_again_and_never_half_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArrayStore(noise(4, 6, 6, 3))
    images = ResizedImages(store, max_memory=0).get(9).clone()
    (file,) = cache.glob("*.npy")
    with monkeypatch.context() as patch:
        patch.setattr(resized, "_blocks", None)  # would be called to make the file
        assert torch.equal(ResizedImages(store, max_memory=0).get(9), images)
    file.write_bytes(file.read_bytes()[:200])
    assert torch.equal(ResizedImages(store, max_memory=0).get(9), images)


def test_failure_leaves_no_file(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    store = FileStore([tmp_path / "bad.png"], tmp_path)
    with pytest.raises(InputError):
        ResizedImages(store, max_memory=0).get(4)
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


def test_changed_file_of_the_same_name_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    for colour in ((1, 2, 3), (4, 5, 6)):  # the file keeps its size
        Image.new("RGB", (4, 4), colour).save(path)
        images = ResizedImages(FileStore([path], tmp_path), max_memory=0).get(4)
        assert images[0, :, 0, 0].tolist() == list(colour)


def test_memory_stays_bounded() -> None:
    images = ResizedImages(ArrayStore(noise(2, 4, 4, 3)), BIG)
    for size in range(1, 10):
        images.get(size)
    assert [size for size in range(1, 10) if images.kept(size) is not None] == [7, 8, 9]


def test_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 pixel, got 0"):
        ResizedImages(ArrayStore(noise(2, 4, 4, 3)), BIG).get(0)


def test_anything_that_can_be_indexed_is_a_store() -> None:
    rows = [{"picture": Image.new("L", (3, 3), i)} for i in range(4)]
    store = DatasetStore(rows, "rows", lambda row: row["picture"])
    assert ResizedImages(store, BIG).get(3)[:, 1, 0, 0].tolist() == [0, 1, 2, 3]
    broken = DatasetStore([{}], "rows", lambda row: row["picture"])
    with pytest.raises(InputError, match="rows: image 0 is not readable"):
        broken.image(0)


def test_digest_sees_every_pixel_and_no_folder(tmp_path: Path) -> None:
    pixels = noise(5, 4, 4, 3)
    changed = pixels.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert ArrayStore(pixels).digest == ArrayStore(pixels.copy()).digest
    assert ArrayStore(pixels).digest != ArrayStore(changed).digest
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels[0]).save(tmp_path / folder / "a.png")
    here, there = (FileStore([tmp_path / f / "a.png"], tmp_path / f) for f in ("here", "there"))
    assert here.digest == there.digest
    Image.fromarray(pixels[1]).save(tmp_path / "there" / "a.png")
    assert here.digest != FileStore([tmp_path / "there" / "a.png"], tmp_path / "there").digest


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (0, 3, 4, 4)])
def test_reflected_borders_are_those_of_torch(shape: tuple[int, ...]) -> None:
    images = torch.randint(256, shape, dtype=torch.uint8)
    expected = torch.nn.functional.pad(images.float(), (3,) * 4, mode="reflect").to(torch.uint8)
    assert torch.equal(pad_reflect(images, 3), expected)
