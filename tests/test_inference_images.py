"""Reading and writing image files."""

from __future__ import annotations

import errno
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.errors import FileError
from fusionzoo.inference import fuse_images, read_image, save_image

ORIENTATION = 0x0112


def random_array(shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return (rng.random(shape) * 300 - 20).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def png_of_16_bit_colour(values):
    """Pillow cannot write one: a minimal PNG encoder."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# -- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "shape", "dtype"),
    [
        (".png", (6, 9), "uint8"),
        (".png", (6, 9, 3), "uint8"),
        (".bmp", (6, 9, 3), "uint8"),
        (".webp", (6, 9, 3), "uint8"),
        (".PNG", (6, 9), "uint16"),
        (".tif", (6, 9, 3), "uint8"),
        (".tiff", (6, 9), "uint16"),
        (".tif", (6, 9), "int32"),
        (".tif", (6, 9), "float32"),
    ],
)
def test_written_and_read_again(tmp_path, suffix, shape, dtype):
    values = random_array(shape, dtype)
    path = tmp_path / f"image{suffix}"
    save_image(path, values)
    again = read_image(path)
    assert again.dtype == values.dtype
    assert again.flags.writeable
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(read_image(str(path)), values)


def test_big_endian_tiff(tmp_path):
    values = random_array((6, 9), "uint16")
    Image.frombytes("I;16B", (9, 6), values.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    again = read_image(tmp_path / "a.tif")
    assert again.dtype == np.uint16
    assert again.dtype.isnative
    np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_exif_orientation(tmp_path, orientation, dtype):
    upright = random_array((6, 9), dtype)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright)


def test_damaged_exif_does_not_matter(tmp_path):
    values = random_array((6, 9))
    Image.fromarray(values).save(tmp_path / "a.png", exif=b"Exif\0\0no such thing")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values)


def test_rotated_jpeg(tmp_path):
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (32, 1))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(ramp).save(tmp_path / "a.jpg", exif=exif, quality=100)
    again = read_image(tmp_path / "a.jpg")
    assert np.abs(again.astype(int) - np.rot90(ramp, -1)).max() <= 2


def test_palettes(tmp_path):
    colour = Image.fromarray(random_array((6, 9, 3))).quantize(8)
    colour.save(tmp_path / "colour.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "colour.png"), np.asarray(colour.convert("RGB"))
    )
    grey = random_array((6, 9))
    Image.fromarray(grey).convert("P").save(tmp_path / "grey.gif")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.gif"), grey)


def test_alpha_is_dropped(tmp_path):
    colour, grey = random_array((6, 9, 4)), random_array((6, 9, 2))
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "colour.png"), colour[..., :3])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), grey[..., 0])


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    flat = np.broadcast_to(np.array([200, 120, 40], np.uint8), (16, 16, 3))
    Image.fromarray(flat.copy()).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
    again = read_image(tmp_path / "a.jpg")
    assert again.shape == (16, 16, 3)
    assert np.abs(again.astype(int) - flat).max() <= 3
    fused = fuse_images(lambda ir, vi: vi, again, tmp_path / "a.jpg")
    assert fused.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(fused), again)


def test_one_bit_image(tmp_path):
    values = random_array((6, 9)) > 100
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values * np.uint8(255))


def test_16_bit_colour_warns(tmp_path):
    values = random_array((6, 9, 3), "uint16")
    (tmp_path / "a.png").write_bytes(png_of_16_bit_colour(values))
    with pytest.warns(UserWarning, match=r"a\.png: 16-bit RGB is read at 8 bits"):
        again = read_image(tmp_path / "a.png")
    assert again.dtype == np.uint8
    assert np.abs(again - values / 257).max() <= 1


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file; check the path"):
        read_image(tmp_path / "none.png")


def test_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder; pass one image file"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0, 0.1, 0.6])
def test_truncated_files(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    save_image(path, random_array((40, 50, 3)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=rf"cut{suffix} cannot be read as an image.*replace"):
        read_image(path)


def test_text_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")


# -- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 9), (1, 6, 9), (3, 6, 9), (4, 6, 9), (1, 3, 6, 9)], ids=str)
def test_tensors_are_written(tmp_path, shape):
    values = torch.from_numpy(random_array(shape))
    save_image(tmp_path / "a.png", values)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    image = values[0] if values.ndim == 4 else values
    image = image if image.ndim == 2 else image.permute(1, 2, 0).squeeze(-1)
    np.testing.assert_array_equal(pixels, image.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_rounded(tmp_path, dtype):
    values = torch.linspace(0, 1, 60).reshape(6, 10).to(dtype).requires_grad_()
    save_image(tmp_path / "a.png", values)
    expected = np.rint(values.detach().double().numpy() * 255)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_pil_images_are_written(tmp_path):
    for mode in ("L", "RGB", "RGBA", "P", "1", "LA"):
        image = Image.fromarray(random_array((6, 9, 4))).convert("RGB").convert(mode)
        save_image(tmp_path / "a.png", image)
        assert Image.open(tmp_path / "a.png").mode == mode
    values = random_array((6, 9), "uint16")
    save_image(tmp_path / "a.png", Image.fromarray(values.astype(np.int32)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values)


def test_jpeg_keeps_colour_detail(tmp_path):
    """Stripes of one colour and the next survive: no chroma subsampling."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 200, 200
    save_image(tmp_path / "a.jpg", stripes)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - stripes).mean() < 8


@pytest.mark.parametrize(
    ("name", "image", "error", "message"),
    [
        ("a.xyz", np.zeros((4, 4), np.uint8), ValueError, r"a\.xyz.*use \.png"),
        ("a", np.zeros((4, 4), np.uint8), ValueError, r"without suffix.*use \.png"),
        ("a.jpg", np.zeros((4, 4), np.uint16), ValueError, r"a\.jpg.*JPEG cannot.*use \.png"),
        ("a.jpg", np.zeros((4, 4, 4), np.uint8), ValueError, r"JPEG cannot.*RGBA.*use \.png"),
        ("a.png", np.zeros((4, 4, 3), np.uint16), ValueError, "uint16 colour"),
        ("a.png", np.full((4, 4), 70000, np.int32), ValueError, r"use a \.tif"),
        (
            "a.tif",
            np.full((4, 4), 2**40),
            ValueError,
            "int64 values beyond .*convert",
        ),
        ("a.ico", np.zeros((4, 4), np.uint8), ValueError, r"\.ico' is no format.*use \.png"),
        ("a.icns", np.zeros((4, 4), np.uint8), ValueError, r"\.icns' is no format.*use \.png"),
        (
            "a.webp",
            np.zeros((2, 17000), np.uint8),
            ValueError,
            r"WEBP cannot.*17000 x 2 .*use",
        ),
        ("a.png", np.full((4, 4), 2.0), ValueError, r"from 2 to 2; scale"),
        ("a.png", np.full((4, 4), np.nan), ValueError, r"from nan to nan; scale"),
        ("a.png", np.zeros((4, 4), bool), TypeError, "bool; use uint8"),
        ("a.png", np.zeros((4, 4, 2), np.uint8), ValueError, r"shape \(4, 4, 2\); pass"),
        ("a.png", np.zeros((0, 4), np.uint8), ValueError, r"shape \(0, 4\)"),
        ("a.png", torch.zeros(2, 1, 4, 4), ValueError, "one by one"),
        ("a.png", [[1, 2]], TypeError, "list; pass a PIL image"),
        ("none/a.png", np.zeros((4, 4), np.uint8), FileNotFoundError, "none does not exist"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, name, image, error, message):
    with pytest.raises(error, match=message):
        save_image(tmp_path / name, image)
    assert list(tmp_path.iterdir()) == []


def test_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_image(path, random_array((6, 9)))
    before = path.read_bytes()

    def break_off(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", break_off)
    with pytest.raises(FileError, match=r"a\.png cannot be written \(No space left.*free space"):
        save_image(path, random_array((6, 9), seed=1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_an_old_file_is_replaced_not_overwritten(tmp_path):
    """Who has the old file open still reads the old file, whole."""
    save_image(tmp_path / "a.png", random_array((6, 9)))
    os.link(tmp_path / "a.png", tmp_path / "old.png")
    save_image(tmp_path / "a.png", random_array((6, 9), seed=1))
    np.testing.assert_array_equal(read_image(tmp_path / "old.png"), random_array((6, 9)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), random_array((6, 9), seed=1))


def test_final_name_appears_only_when_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    seen = []

    def watch(descriptor):
        seen.append((path.exists(), len(os.listdir(tmp_path))))

    monkeypatch.setattr(os, "fsync", watch)
    save_image(path, random_array((6, 9)))
    assert seen == [(False, 1)]
    assert os.listdir(tmp_path) == ["a.png"]
