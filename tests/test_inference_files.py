"""Image files that are no such thing, that lie, or that Pillow reads wrong; and full disks."""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fusionzoo import open_image
from fusionzoo.errors import FileError, FusionZooWarning, InputError, MissingFileError
from fusionzoo.inference import file_format, fuse_images, read_header, read_image, save_image
from fusionzoo.readers.writing import WRITE_FORMATS

ORIENTATION = 0x0112
GREY = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def keep_vi(ir, vi):
    return vi


def written_suffixes():
    known = Image.registered_extensions().items()
    return sorted(suffix for suffix, name in known if name in WRITE_FORMATS & Image.SAVE.keys())


# -- writing to a disk that is full -----------------------------------------------------------

FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from fusionzoo.errors import FileError
from fusionzoo.inference import save_image

folder, *suffixes = sys.argv[1:]
image = np.random.default_rng(0).integers(0, 256, (120, 150, 3), dtype=np.uint8)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
for suffix in suffixes:
    try:
        save_image(Path(folder, "image" + suffix), image)
    except FileError as error:
        assert "image" + suffix in str(error) and "free space" in str(error), error
    else:
        print("written:", suffix)
print("left:", os.listdir(folder))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_full_disk_leaves_no_file_of_any_format(tmp_path):
    suffixes = written_suffixes()
    assert {".png", ".jpg", ".jpe", ".jfif", ".bmp", ".dib", ".ppm", ".im", ".jp2"} <= {*suffixes}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), *suffixes]
    child = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert child.stdout == "left: []\n", child.stderr


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
@pytest.mark.parametrize("suffix", written_suffixes())
def test_every_format_keeps_the_size(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_image(path, COLOUR if suffix not in (".pfm",) else GREY)
    if file_format(path) not in ("EPS", "PDF"):
        assert read_image(path).shape[:2] == (6, 9)
        assert read_header(path)[:2] == (9, 6)


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".avif"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_deep_images_are_not_clipped_to_8_bits(tmp_path, suffix, dtype):
    if suffix not in written_suffixes():
        pytest.skip(f"this Pillow does not write {suffix}")
    with pytest.raises(InputError, match=rf"a\{suffix}: .* more than 8 bits; use \.png or \.tif"):
        save_image(tmp_path / f"a{suffix}", GREY.astype(dtype) * 200)
    assert list(tmp_path.iterdir()) == []


# -- size from the header ---------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("compression", ["none", "default"])
def test_header_tells_the_size_that_decoding_gives(tmp_path, suffix, orientation, compression):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = (
        {"compression": "tiff_deflate"} if (suffix, compression) == (".tif", "default") else {}
    )
    Image.fromarray(COLOUR).save(path, exif=exif, **options)
    header = read_header(path)
    assert (header.height, header.width) == read_image(path).shape[:2]
    assert (header.width, header.height) == ((6, 9) if orientation > 4 else (9, 6))
    assert header.mode == "RGB"


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize("early", [True, False])
def test_header_sees_orientation_before_and_behind_the_pixels_of_a_png(tmp_path, early):
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "PNG")
    content = stream.getvalue()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    extra = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    place = 33 if early else len(content) - 12  # behind the header, or before the end
    path = tmp_path / "a.png"
    path.write_bytes(content[:place] + extra + content[place:])
    assert read_image(path).shape == (9, 6)
    assert read_header(path)[:2] == (6, 9)


def test_header_is_read_without_decoding(tmp_path):
    for suffix in (".png", ".jpg", ".tif"):
        path = tmp_path / f"a{suffix}"
        save_image(path, np.zeros((300, 400, 3), np.uint8))
        content = path.read_bytes()
        if suffix != ".tif":  # which has its header at the end
            path.write_bytes(content[: len(content) // 2])
        assert read_header(path)[:2] == (400, 300)


# -- no regular files -------------------------------------------------------------------------


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as endless:
        endless.bind(str(path))


def make_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
@pytest.mark.parametrize(
    ("make", "what"), [(make_fifo, "FIFO"), (make_socket, "socket"), (make_device, "device")]
)
@pytest.mark.parametrize("read", [read_image, read_header])
def test_only_regular_files_are_read(tmp_path, monkeypatch, make, what, read):
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    make(Path("x.png"))
    with pytest.raises(InputError, match=rf"^x\.png is a {what}; pass a regular image file$"):
        read("x.png")
    with pytest.raises(InputError, match=rf"^vi: x\.png is a {what}"):
        fuse_images(keep_vi, GREY, "x.png")


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileError, match=r"cannot be opened \(File name too long\); check"):
        read_image(tmp_path / ("x" * 5000))
    with pytest.raises(FileError, match=r"cannot be opened .*null"):
        read_image("a\0.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(MissingFileError, match="no such file; check the path"):
        read_image(tmp_path / "a.png" / "b.png")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_locked_file(tmp_path):
    save_image(tmp_path / "a.png", GREY)
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(FileError, match=r"a\.png cannot be opened \(Permission denied\); check"):
        read_image(tmp_path / "a.png")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write everywhere")
def test_locked_folder(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(FileError, match=r"a\.png cannot be written \(Permission denied\); "):
        save_image(tmp_path / "a.png", GREY)


# -- content ----------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 6\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("content", [EPS, b"", b"GRIB" + b"\0" * 40, b"\x89HDF\r\n\x1a\n" * 9])
def test_other_formats_are_not_handed_to_their_programs(tmp_path, monkeypatch, content):
    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    (tmp_path / "x.png").write_bytes(content)
    message = r"x\.png cannot be read as an image; it is damaged or of a format that is not read"
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "x.png")


def png_header(width, height):
    """A PNG that says how large it is, and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")  # Pillow's own limit does not speak up
@pytest.mark.parametrize("read", [read_image, read_header])
@pytest.mark.parametrize("size", [(13000, 13000), (1, 200_000_000), (65500, 65500)])
def test_too_many_pixels_are_refused(tmp_path, read, size):
    (tmp_path / "x.png").write_bytes(png_header(*size))
    message = rf"x\.png is {size[0]} x {size[1]} .*limit is 128,000,000; .*FUSIONZOO_MAX_PIXELS"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "x.png")


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    save_image(tmp_path / "x.tif", GREY)
    monkeypatch.setenv("FUSIONZOO_MAX_PIXELS", "53")
    with pytest.raises(InputError, match=r"x\.tif is 9 x 6 "):
        read_image(tmp_path / "x.tif")
    monkeypatch.setenv("FUSIONZOO_MAX_PIXELS", "54")
    assert read_image(tmp_path / "x.tif").shape == (6, 9)
    for text in ("many", "0", "-5", "1.5"):
        monkeypatch.setenv("FUSIONZOO_MAX_PIXELS", text)
        with pytest.raises(InputError, match=r"FUSIONZOO_MAX_PIXELS=.*set an integer"):
            read_image(tmp_path / "x.tif")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_only_our_limit_counts(tmp_path, monkeypatch, suffix):
    save_image(tmp_path / f"x{suffix}", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert read_image(tmp_path / f"x{suffix}").shape == (6, 9)
    assert Image.MAX_IMAGE_PIXELS == 20


def test_content_of_a_file(tmp_path):
    save_image(tmp_path / "a.png", COLOUR)
    content = (tmp_path / "a.png").read_bytes()
    stream = io.BytesIO(content)
    stream.seek(7)
    for kind in (content, bytearray(content), memoryview(content), stream):
        np.testing.assert_array_equal(read_image(kind), COLOUR)
        assert read_header(kind) == (9, 6, "RGB", "PNG")
        fused = fuse_images(keep_vi, kind, kind)
        assert isinstance(fused, Image.Image)
        np.testing.assert_array_equal(np.asarray(fused), COLOUR)
    assert stream.tell() == 7
    with pytest.raises(InputError, match=r"^ir cannot be read as an image"):
        fuse_images(keep_vi, content[:60], content)
    with pytest.raises(InputError, match=r"^vi\[1\] cannot be read as an image"):
        fuse_images(keep_vi, [content] * 2, [content, b""])


# -- TIFF that Pillow reads wrong --------------------------------------------------------------


def tiff(values, photometric=1, deflate=False):
    """A little-endian TIFF of one strip."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    pixels = values.astype(values.dtype.newbyteorder("<")).tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    height, width = values.shape
    tags = {
        **{256: width, 257: height, 258: values.itemsize * 8, 259: 8 if deflate else 1},
        **{262: photometric, 273: 8, 277: 1, 278: height, 279: len(pixels), 339: kind},
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + len(pixels)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", start) + pixels + directory


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32"])
def test_tiff_is_read_as_it_is(dtype, deflate):
    values = (GREY.astype(np.int64) * (1 if dtype == "uint8" else 100)).astype(dtype)
    again = read_image(tiff(values, deflate=deflate))
    np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("deflate", [False, True])
def test_negative_values_of_tiff(deflate):
    for dtype in (np.int16, np.int32):
        values = GREY.astype(dtype) - 100
        np.testing.assert_array_equal(read_image(tiff(values, deflate=deflate)), values)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_is_zero(dtype, deflate):
    values = GREY.astype(dtype) * (1 if dtype == "uint8" else 257)
    again = read_image(tiff(values, photometric=0, deflate=deflate))
    np.testing.assert_array_equal(again, np.iinfo(dtype).max - values)
    assert again.dtype == dtype


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    ("values", "photometric", "message"),
    [
        (GREY.astype(np.uint32) + 2**31, 1, r"unsigned 32-bit values of 2\^31 and more"),
        (GREY.view(np.int8), 1, "signed 8-bit values"),
        (GREY.astype(np.float32), 0, "32-bit values of which 0 is white"),
    ],
    ids=["uint32", "int8", "float32"],
)
def test_tiff_that_would_be_read_wrong_is_refused(
    tmp_path, monkeypatch, values, photometric, message, deflate
):
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric, deflate))
    monkeypatch.setattr("fusionzoo.readers.table.find_spec", lambda name: None)  # no tifffile
    with pytest.raises(InputError, match=rf"a\.tif holds {message}.*; save"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("suffix", "what"), [(".gif", "frames"), (".png", "frames")])
def test_only_the_first_page_is_read_and_that_is_said(tmp_path, suffix, what):
    path = tmp_path / f"a{suffix}"
    pages = [Image.fromarray(page) for page in (GREY, GREY // 2, GREY // 3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.warns(
        FusionZooWarning, match=rf"a\{suffix} holds several {what} and only the first"
    ):
        again = read_image(path)
    np.testing.assert_array_equal(again, GREY)


def test_a_stack_of_tiff_pages_needs_a_page(tmp_path):
    pages = [Image.fromarray(page) for page in (GREY, GREY // 2, GREY // 3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"a\.tif holds 3 pages; pass one of them: .*page=0"):
        read_image(tmp_path / "a.tif")
    again = open_image(tmp_path / "a.tif", page=2)
    np.testing.assert_array_equal(again.values, GREY // 3)
    with pytest.raises(InputError, match=r"a\.tif has no page 3; it holds 3"):
        open_image(tmp_path / "a.tif", page=3)


def test_a_warning_points_at_the_users_line(tmp_path):
    pages = [Image.fromarray(GREY)] * 2
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=[Image.fromarray(GREY // 2)])
    with pytest.warns(FusionZooWarning) as caught:
        fuse_images(keep_vi, GREY, tmp_path / "a.gif")
    assert caught[0].filename == __file__


def test_16_bit_colour_in_ppm_warns(tmp_path):
    pixels = (COLOUR.astype(">u2") * 257).tobytes()
    (tmp_path / "a.ppm").write_bytes(b"P6\n9 6\n65535\n" + pixels)
    with pytest.warns(FusionZooWarning, match="16-bit RGB is read at 8 bits"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.ppm"), COLOUR)


# -- colour profiles --------------------------------------------------------------------------

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_colour_profile_of_the_visible_image_is_kept(tmp_path, suffix):
    vi = Image.fromarray(COLOUR)
    vi.save(tmp_path / "vi.png", icc_profile=SRGB)
    for given in (tmp_path / "vi.png", Image.open(tmp_path / "vi.png")):
        fused = fuse_images(keep_vi, GREY, given)
        assert fused.info["icc_profile"] == SRGB
        if suffix == ".avif" and ".avif" not in Image.registered_extensions():
            continue
        save_image(tmp_path / f"fused{suffix}", fused)
        with Image.open(tmp_path / f"fused{suffix}") as again:
            assert again.info["icc_profile"] == SRGB


def test_colour_profile_goes_where_it_fits(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "vi.png", icc_profile=SRGB)
    grey = fuse_images(keep_vi, GREY, tmp_path / "vi.png", color=False)
    assert "icc_profile" not in grey.info
    Image.fromarray(GREY).save(tmp_path / "grey.png", icc_profile=GREY_PROFILE)
    assert fuse_images(keep_vi, GREY, tmp_path / "grey.png").info["icc_profile"] == GREY_PROFILE
    # The profile is that of the image which the result takes after.
    fused = fuse_images(keep_vi, tmp_path / "vi.png", tmp_path / "grey.png", color_from="ir")
    assert fused.info["icc_profile"] == SRGB
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    cmyk.info["icc_profile"] = SRGB[:16] + b"CMYK" + SRGB[20:]
    assert "icc_profile" not in fuse_images(keep_vi, GREY, cmyk).info
