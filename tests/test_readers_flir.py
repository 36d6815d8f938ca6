"""FLIR's radiometric JPEG: temperatures, the photograph, and both fused from one file."""

import io
import struct

import numpy as np
import pytest
from flir_helpers import (
    CAMERA,
    PHOTOGRAPH,
    RAW,
    camera_record,
    celsius,
    encoded,
    photo,
    raw_of,
    raw_record,
    rjpeg,
    scene,
)
from PIL import Image
from readers_helpers import check_damage

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.errors import FusionZooWarning, InputError
from fusionzoo.inference import fuse_images, read_header, read_image

flyr = pytest.importorskip("flyr", reason="needs fusionzoo[flir]")


@pytest.mark.parametrize("png", [False, True], ids=["plain", "png"])
def test_temperatures_by_plancks_law(tmp_path, png):
    (tmp_path / "a.jpg").write_bytes(photo(png=png))
    reading = fusionzoo.open_image(tmp_path / "a.jpg")
    assert (reading.kind, reading.unit) == ("flir", "°C")
    np.testing.assert_allclose(reading.values, celsius(raw_of(scene())), atol=1e-3)
    np.testing.assert_allclose(reading.values, scene(), atol=0.05)
    low, high = reading.range
    assert 17.9 < low < 18.2
    assert 35.9 < high < 36.1
    assert reading.source.camera["emissivity"] == 1
    assert read_header(tmp_path / "a.jpg")[:2] == (80, 60)


def test_emissivity_of_the_file_counts():
    # What shines less by itself is hotter than it looks; the rest is reflected.
    plain = read_image(photo())
    metal = read_image(photo(camera=camera_record(emissivity=0.6, reflected=280.0)))
    assert (metal > plain).all()
    expected = raw_of(20.0) + 0.0  # S = e S_object + (1 - e) S_reflected
    object_signal = (expected - 0.4 * raw_of(280.0 - 273.15)) / 0.6
    at_20 = np.abs(plain - 20).argmin()
    assert abs(metal.flat[at_20] - celsius(object_signal)) < 0.3


def test_data_in_several_segments():
    raw = raw_of(scene(240, 320))
    content = photo(raw, chunk=50000)
    assert content.count(b"FLIR\0\x01") > 3
    np.testing.assert_allclose(read_image(content), celsius(raw), atol=1e-3)


def test_the_photograph_is_cut_to_what_the_thermal_image_shows():
    whole = fusionzoo.open_image(photo())
    assert whole.visible.shape == (120, 160, 3)
    # Half as wide as the photograph, its centre 10 right and 6 above.
    cut = fusionzoo.open_image(photo(pip=(2.0, 10, -6)))
    assert cut.visible.shape == (60, 80, 3)
    np.testing.assert_array_equal(cut.visible, whole.visible[24:84, 50:130])
    np.testing.assert_array_equal(cut.source.photograph, whole.visible)
    # Slightly beyond the edge the last pixels are repeated; far beyond, nothing is cut.
    edge = fusionzoo.open_image(photo(pip=(2.0, 45, 0)))
    assert edge.visible.shape == (60, 80, 3)
    np.testing.assert_array_equal(edge.visible[:, -1], edge.visible[:, -5])
    assert fusionzoo.open_image(photo(pip=(2.0, 500, 0))).visible.shape == (120, 160, 3)
    for ratio in (0.0, float("nan"), -3.0):
        assert fusionzoo.open_image(photo(pip=(ratio, 0, 0))).visible.shape == (120, 160, 3)


def test_photographs_in_png_hold_luma_and_chroma():
    colours = np.zeros((120, 160, 3), np.uint8)
    colours[:, :80], colours[:, 80:] = (200, 30, 40), (20, 60, 220)
    stored = np.array(Image.fromarray(colours).convert("YCbCr"))
    raw = raw_record(raw_of(scene()))
    record = bytes(32) + encoded(stored, "PNG")
    reading = fusionzoo.open_image(rjpeg({RAW: raw, CAMERA: camera_record(), PHOTOGRAPH: record}))
    np.testing.assert_allclose(reading.visible.astype(int), colours, atol=2)


def test_photographs_of_unknown_kind_are_left_out_with_a_warning():
    raw = raw_record(raw_of(scene()))
    content = rjpeg({RAW: raw, CAMERA: camera_record(), PHOTOGRAPH: bytes(500)})
    with pytest.warns(FusionZooWarning, match="of a kind that is not read"):
        assert fusionzoo.open_image(content).visible is None


def test_fusing_takes_temperatures_and_photograph(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(photo(pip=(2.0, 0, 0)))
    reading = fusionzoo.open_image(path)
    seen = []

    def run(ir, vi):
        seen.append(ir)
        return vi

    for given in (path, reading):
        fused = fuse_images(run, given, given, ir_range=(10, 40))
        assert isinstance(fused, Image.Image)
        np.testing.assert_allclose(np.asarray(fused), reading.visible, atol=1)
    np.testing.assert_allclose(seen[0][0, 0], (reading.values - 10) / 30, atol=1e-6)
    other = np.zeros((60, 80, 3), np.uint8)
    by_default = fuse_images(lambda ir, vi: ir, path, other)
    assert by_default.max() == 255
    # With a photograph of another camera the temperatures are the infrared image as well.
    np.testing.assert_array_equal(by_default, fuse_images(lambda ir, vi: ir, reading, other))


def test_the_command_fuses_one_file(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.jpg").write_bytes(photo())
    device = ["--device", "cpu"]
    one = ["fuse", str(tmp_path / "in" / "a.jpg"), "-o", str(tmp_path / "fused.png"), *device]
    assert main([*one, "--ir-range", "10", "40"]) == 0
    warm = read_image(tmp_path / "fused.png")
    assert warm.shape == (120, 160, 3)
    assert main([*one, "--ir-range", "36", "90"]) == 0
    assert not np.array_equal(read_image(tmp_path / "fused.png"), warm)
    assert main(["fuse", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *device]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    (tmp_path / "c.jpg").write_bytes(photo(visible=False))
    capsys.readouterr()
    assert main(["fuse", str(tmp_path / "c.jpg"), "-o", str(tmp_path / "c.png"), *device]) == 1
    assert "c.jpg holds no visible photograph" in capsys.readouterr().err


def test_without_the_library_the_error_names_it(monkeypatch):
    monkeypatch.setattr("fusionzoo.readers.table.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs flyr; run: pip install 'fusionzoo\[flir\]'"):
        read_image(photo())


def test_pictures_without_raw_values_are_pictures():
    shown = np.full((48, 64, 3), 50, np.uint8)
    content = rjpeg({CAMERA: camera_record()}, shown)
    assert fusionzoo.open_image(content).kind == "image"
    np.testing.assert_allclose(read_image(content), shown, atol=2)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({RAW: raw_record(raw_of(scene()))}, "without the camera's constants"),
        ({RAW: raw_record(raw_of(scene()))[:-50], CAMERA: camera_record()}, "cut off within"),
        (
            {RAW: struct.pack("<HHH26x", 2, 60000, 60000), CAMERA: camera_record()},
            "the limit is 128,000,000",
        ),
        (
            {
                RAW: struct.pack("<HHH26x", 2, 80, 60)
                + encoded(np.zeros((2000, 3000), np.uint16), "PNG"),
                CAMERA: camera_record(),
            },
            "two sizes",
        ),
        (
            {
                RAW: raw_record(raw_of(scene())),
                CAMERA: camera_record(),
                PHOTOGRAPH: bytes(32) + b"\xff\xd8\xff no photograph",
            },
            "its visible photograph cannot be read",
        ),
        (
            {RAW: raw_record(raw_of(scene())), CAMERA: camera_record(emissivity=float("nan"))},
            "give no temperatures",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, records, message):
    (tmp_path / "a.jpg").write_bytes(rjpeg(records))
    with pytest.raises(InputError, match=rf"a\.jpg.*{message}"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("png", [False, True], ids=["plain", "png"])
def test_damaged_files_give_an_error_or_the_librarys_values(tmp_path, png):
    def library(path, reading):
        if reading.kind != "flir":
            return None  # without its raw values it is a picture
        with np.errstate(all="ignore"):
            return flyr.unpack(str(path)).celsius

    content = photo(raw_of(scene(24, 32)), png=png)
    assert check_damage(tmp_path / "a.jpg", content, library, count=150) > 10


def test_dji_is_read_as_a_picture_with_a_warning():
    shown = np.full((48, 64, 3), 50, np.uint8)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[271] = "DJI"
    Image.fromarray(shown).save(stream, format="JPEG", exif=exif)
    plain = stream.getvalue()
    segments = b"".join(bytes([0xFF, kind]) + b"\0\x0a" + bytes(8) for kind in (0xE3, 0xE4, 0xE5))
    place = 2 + 2 + int.from_bytes(plain[4:6], "big")
    with pytest.warns(FusionZooWarning, match=r"DJI's radiometric JPEG .* convert it to TIFF"):
        values = read_image(plain[:place] + segments + plain[place:])
    np.testing.assert_allclose(values, shown, atol=2)
