"""TIFF as tifffile, an independent library, writes it: depths, colours, tiles, pages, metadata."""

import io
import struct

import numpy as np
import pytest
from readers_helpers import check_damage

import fusionzoo
from fusionzoo.errors import FusionZooWarning, InputError
from fusionzoo.inference import fuse_images, read_header, read_image, save_image

tifffile = pytest.importorskip("tifffile", reason="needs fusionzoo[tiff]")

RNG = np.random.default_rng(1)
DEEP = RNG.integers(0, 2**16, (40, 60, 3), dtype=np.uint16)
THERMAL = RNG.integers(3000, 9000, (40, 60), dtype=np.uint16)


def tiff(values, **options):
    stream = io.BytesIO()
    options.setdefault("photometric", "rgb" if values.shape[-1:] in ((3,), (4,)) else "minisblack")
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def keep_vi(ir, vi):
    return vi


LAYOUTS = [
    {},
    {"bigtiff": True},
    {"tile": (16, 16)},
    {"tile": (32, 16), "compression": "zlib", "bigtiff": True},
    {"compression": "zlib", "predictor": True},
    {"rowsperstrip": 7},
    {"byteorder": ">"},
    {"byteorder": ">", "compression": "zlib"},
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64"]
)
def test_grey_of_every_depth_and_layout(layout, dtype):
    if "float" in dtype:  # tifffile predicts floats with imagecodecs only
        layout = {key: value for key, value in layout.items() if key != "predictor"}
    values = THERMAL % 250 if dtype == "uint8" else THERMAL.astype(int) - 4000
    values = values.astype(dtype)
    again = read_image(tiff(values, **layout))
    np.testing.assert_array_equal(again, values)
    # Pillow has no signed 16 bits: they come as 32, the same values.
    assert again.dtype == ("int32" if dtype == "int16" and again.dtype != "int16" else dtype)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", [*LAYOUTS, {"planarconfig": "separate"}], ids=str)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_colour_keeps_its_depth(layout, dtype):
    if "float" in dtype:  # tifffile predicts floats with imagecodecs only
        layout = {key: value for key, value in layout.items() if key != "predictor"}
    values = DEEP.astype(dtype)
    content = tiff(
        values.transpose(2, 0, 1) if "planarconfig" in layout else values,
        **{"photometric": "rgb", **layout},
    )
    reading = fusionzoo.open_image(content)
    assert (reading.kind, reading.values.dtype) == ("tiff", dtype)
    np.testing.assert_array_equal(reading.values, values)
    assert read_header(content)[:2] == (60, 40)


def test_alpha_goes_and_white_may_be_zero():
    deep = np.dstack([DEEP, THERMAL])
    np.testing.assert_array_equal(read_image(tiff(deep, extrasamples=["unassalpha"])), DEEP)
    white = tiff(THERMAL.astype(np.uint32), photometric="miniswhite")
    np.testing.assert_array_equal(read_image(white), (2**32 - 1) - THERMAL.astype(np.int64))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colour_is_turned_upright_as_pillow_does(tmp_path, orientation):
    eight = (DEEP >> 8).astype(np.uint8)
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "8.tif", eight, photometric="rgb", extratags=[tag])
    tifffile.imwrite(tmp_path / "16.tif", eight.astype("u2"), photometric="rgb", extratags=[tag])
    upright = read_image(tmp_path / "8.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "16.tif"), upright)
    assert upright.shape == ((60, 40, 3) if orientation > 4 else (40, 60, 3))


@pytest.mark.parametrize(
    "values", [THERMAL, THERMAL.astype(np.float64), DEEP], ids=["u2", "f8", "rgb"]
)
def test_pages(tmp_path, values):
    path = tmp_path / "a.tif"
    rgb = {"photometric": "rgb" if values.ndim == 3 else "minisblack"}
    tifffile.imwrite(path, np.stack([values, values // 2, values // 4]), **rgb)
    with pytest.raises(InputError, match=r"a\.tif holds 3 pages; pass one of them?: .*page=0"):
        read_image(path)
    for page in range(3):
        again = fusionzoo.open_image(path, page=page)
        np.testing.assert_array_equal(again.values, values // 2**page)
    with pytest.raises(InputError, match=r"a\.tif has no page 3; it holds 3"):
        fusionzoo.open_image(path, page=3)


@pytest.mark.filterwarnings("ignore::fusionzoo.errors.FusionZooWarning")
@pytest.mark.parametrize("values", [THERMAL, DEEP], ids=["u2", "rgb"])
def test_thumbnails_behind_the_image_are_passed_over(tmp_path, values):
    rgb = {"photometric": "rgb" if values.ndim == 3 else "minisblack"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values, **rgb)
        writer.write(values[::2, ::2], subfiletype=1, **rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values)


def test_deep_colour_in_gives_deep_colour_out_with_its_metadata(tmp_path):
    kept = {"resolution": (118.5, 237.0), "resolutionunit": 3, "datetime": "2026:01:02 03:04:05"}
    icc = bytes(16) + b"RGB " + bytes(112)
    tifffile.imwrite(
        tmp_path / "vi.tif", DEEP, photometric="rgb", metadata=None, description="Line 4",
        iccprofile=icc, **kept,
    )  # fmt: skip
    fused = fuse_images(keep_vi, THERMAL, tmp_path / "vi.tif", vi_range=(0, 65535))
    assert fused.values.dtype == np.uint16
    np.testing.assert_allclose(fused.values.astype(int), DEEP, atol=1)
    fused.save(tmp_path / "fused.tif")
    with tifffile.TiffFile(tmp_path / "fused.tif") as again:
        page = again.pages[0]
        np.testing.assert_array_equal(page.asarray(), fused.values)
        assert (page.description, page.iccprofile) == ("Line 4", icc)
        assert page.resolution == (118.5, 237.0)
        assert page.tags["DateTime"].value == "2026:01:02 03:04:05"


def test_thermal_tiff_keeps_depth_and_metadata_too(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", THERMAL, resolution=(100, 200), resolutionunit=3, description="Line 4",
        metadata=None,
    )  # fmt: skip
    fused = fuse_images(keep_vi, THERMAL, tmp_path / "a.tif")
    save_image(tmp_path / "fused.tif", fused)
    with tifffile.TiffFile(tmp_path / "fused.tif") as again:
        page = again.pages[0]
        assert (page.dtype, page.description, page.resolution) == ("uint16", "Line 4", (100, 200))


def test_without_the_library_bits_are_lost_with_a_warning_that_names_it(monkeypatch, tmp_path):
    for module in ("table", "pictures"):
        monkeypatch.setattr(f"fusionzoo.readers.{module}.find_spec", lambda name: None)
    with pytest.warns(FusionZooWarning, match=r"pip install 'fusionzoo\[tiff\]'"):
        assert read_image(tiff(DEEP)).dtype == np.uint8
    for values, options in ((DEEP.astype("f4"), {}), (THERMAL.astype("f8"), {})):
        with pytest.raises(InputError, match=r"pip install 'fusionzoo\[tiff\]'"):
            read_image(tiff(values, **options))
    swapped = tiff(THERMAL.astype("f4"), byteorder=">", compression="zlib")
    with pytest.raises(InputError, match=r"big-endian .* pip install 'fusionzoo\[tiff\]'"):
        read_image(swapped)


def of_size(width, height, samples):
    """A TIFF that declares a size and holds nearly nothing."""
    tags = {
        **{256: width, 257: height, 258: 16, 259: 1, 262: 2 if samples == 3 else 1},
        **{273: 8, 277: samples, 278: height, 279: 64},
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + directory


def test_size_is_refused_before_memory_is_taken():
    with pytest.raises(InputError, match="the limit is 128,000,000"):
        read_image(of_size(200_000, 200_000, 3))
    with pytest.raises(InputError):
        read_image(of_size(10_000, 10_000, 3))


def test_pixels_that_are_not_there_are_an_error(tmp_path):
    content = tiff(DEEP)
    assert content.endswith(DEEP.tobytes())
    (tmp_path / "a.tif").write_bytes(content[:-1000])
    with pytest.raises(InputError, match=r"a\.tif is cut off"):
        read_image(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("values", "options"),
    [
        (DEEP, {}),
        (DEEP, {"compression": "zlib", "tile": (16, 16), "bigtiff": True}),
        (THERMAL.astype("f8"), {"rowsperstrip": 9, "byteorder": ">"}),
    ],
    ids=["colour", "tiles", "double"],
)
def test_damaged_files_give_an_error_or_the_librarys_values(tmp_path, values, options):
    crop = values[:16, :24]

    def library(path, reading):
        if reading.kind != "tiff":
            return None  # a changed tag may make it one that Pillow reads
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            image = page.asarray()
            if page.tags.valueof(274, 1) != 1 or page.photometric == 0 or image.ndim != values.ndim:
                return None
            return image[..., :3] if image.ndim == 3 else image

    read = check_damage(tmp_path / "a.tif", tiff(crop, **options), library, count=250)
    assert read > 2
