"""GeoTIFF as rasterio writes it: place, missing values, two grids, and what a result keeps."""

import numpy as np
import pytest
from readers_helpers import check_damage

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.errors import FusionZooWarning, InputError
from fusionzoo.inference import fuse_images, read_image

rasterio = pytest.importorskip("rasterio", reason="needs fusionzoo[geo]")
from rasterio.crs import CRS  # noqa: E402
from rasterio.transform import Affine  # noqa: E402
from rasterio.warp import transform as project  # noqa: E402

UTM = CRS.from_epsg(32632)
RNG = np.random.default_rng(2)
PLACE = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)  # pixels of 10 m
COLOUR = RNG.integers(0, 2**12, (48, 64, 3), dtype=np.uint16)


def write(path, values, *, transform=PLACE, crs=UTM, mask=None, **options):
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    with rasterio.open(
        path, "w", driver="GTiff", height=planes.shape[1], width=planes.shape[2],
        count=len(planes), dtype=planes.dtype, crs=crs, transform=transform, **options,
    ) as data:  # fmt: skip
        data.write(planes)
        data.update_tags(SENSOR="test")
        if mask is not None:
            data.write_mask(mask)
    return path


def keep_vi(ir, vi):
    return vi


def keep_ir(ir, vi):
    return ir


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 32}])
def test_values_and_place(tmp_path, dtype, layout):
    values = (COLOUR[..., 0] % 250).astype(dtype)
    reading = fusionzoo.open_image(write(tmp_path / "a.tif", values, **layout))
    assert (reading.kind, reading.valid, reading.range) == ("geotiff", None, None)
    assert reading.values.dtype == dtype
    np.testing.assert_array_equal(reading.values, values)
    assert (reading.source.crs, reading.source.transform) == (UTM, PLACE)
    np.testing.assert_array_equal(read_image((tmp_path / "a.tif").read_bytes()), values)


def test_colours_and_bands(tmp_path):
    path = write(tmp_path / "rgb.tif", COLOUR, photometric="RGB")
    np.testing.assert_array_equal(read_image(path), COLOUR)
    bands = np.dstack([COLOUR, COLOUR + 1, COLOUR + 2])[..., :5]
    path = write(tmp_path / "many.tif", bands)
    with pytest.raises(InputError, match=r"many\.tif holds 5 bands; pass one .*page=0"):
        read_image(path)
    np.testing.assert_array_equal(fusionzoo.open_image(path, page=3).values, bands[..., 3])


def test_places_without_values(tmp_path):
    values = COLOUR[..., 0].astype(np.float32)
    values[:, :20] = -9999
    reading = fusionzoo.open_image(write(tmp_path / "a.tif", values, nodata=-9999))
    assert not reading.valid[:, :20].any()
    assert reading.valid[:, 20:].all()
    values[:, :20] = np.nan
    assert (fusionzoo.open_image(write(tmp_path / "b.tif", values)).valid == reading.valid).all()
    mask = np.broadcast_to(reading.valid, (48, 64))
    masked = fusionzoo.open_image(write(tmp_path / "c.tif", COLOUR, mask=mask))
    assert (masked.valid == reading.valid).all()


def test_the_result_keeps_place_depth_nodata_and_tags(tmp_path):
    vi = COLOUR.copy()
    vi[:5] = 0
    write(tmp_path / "vi.tif", vi, photometric="RGB", nodata=0)
    write(tmp_path / "ir.tif", COLOUR[..., 0])
    fused = fuse_images(keep_vi, tmp_path / "ir.tif", tmp_path / "vi.tif", vi_range=(0, 4096))
    assert fused.values.dtype == np.uint16
    fused.save(tmp_path / "fused.tif")
    with rasterio.open(tmp_path / "fused.tif") as data:
        assert (data.crs, data.transform, data.nodata) == (UTM, PLACE, 0)
        assert data.tags()["SENSOR"] == "test"
        again = np.moveaxis(data.read(), 0, -1)
    np.testing.assert_allclose(again.astype(int), vi, atol=1)
    assert (again[:5] == 0).all()


def test_a_mask_without_nodata_value_is_kept_as_a_mask(tmp_path):
    mask = np.ones((48, 64), bool)
    mask[10:20] = False
    write(tmp_path / "vi.tif", COLOUR[..., 0], mask=mask)
    fused = fuse_images(keep_vi, COLOUR[..., 1], tmp_path / "vi.tif")
    fused.save(tmp_path / "fused.tif")
    with rasterio.open(tmp_path / "fused.tif") as data:
        assert ((data.dataset_mask() > 0) == mask).all()


def ramp(x, y):
    """A plane over the ground: bilinear warping keeps it."""
    return 0.002 * (x - 500_000) + 0.001 * (5_400_000 - y) + 5


def on_ground(transform, height, width):
    right, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return transform * (right, down)


def test_infrared_is_warped_onto_the_visible_grid(tmp_path):
    # A coarser grid, turned by 20 degrees, that covers all of the visible image.
    turned = Affine(25, 0, 499_800, 0, -25, 5_400_400) * Affine.rotation(20)
    coarse = ramp(*on_ground(turned, 60, 60)).astype(np.float32)
    write(tmp_path / "ir.tif", coarse, transform=turned)
    write(tmp_path / "vi.tif", COLOUR[..., 0])
    seen = fuse_images(
        keep_ir, tmp_path / "ir.tif", tmp_path / "vi.tif", ir_range=(0, 10), vi_range=(0, 10_000)
    )
    expected = ramp(*on_ground(PLACE, 48, 64)) * 1000
    assert seen.values.shape == (48, 64)
    known = seen.values != 0
    shown = np.abs(seen.values.astype(float) - expected) < 2
    assert shown[known].mean() > 0.97
    assert known.mean() > 0.6


def test_infrared_of_another_reference_system(tmp_path):
    (west, east), (south, north) = project(
        UTM, CRS.from_epsg(4326), [499_900, 500_800], [5_399_400, 5_400_100]
    )
    degrees = Affine((east - west) / 90, 0, west, 0, -(north - south) / 70, north)
    right, down = np.meshgrid(np.arange(90) + 0.5, np.arange(70) + 0.5)
    lon, lat = degrees * (right, down)
    x, y = project(CRS.from_epsg(4326), UTM, lon.ravel().tolist(), lat.ravel().tolist())
    values = ramp(np.array(x), np.array(y)).reshape(70, 90)
    write(tmp_path / "ir.tif", values, transform=degrees, crs=CRS.from_epsg(4326))
    write(tmp_path / "vi.tif", COLOUR[..., 0])
    seen = fuse_images(
        keep_ir, tmp_path / "ir.tif", tmp_path / "vi.tif", ir_range=(0, 10), vi_range=(0, 10_000)
    )
    np.testing.assert_allclose(seen.values, ramp(*on_ground(PLACE, 48, 64)) * 1000, atol=3)


def test_beyond_the_infrared_the_visible_image_stays(tmp_path):
    half = PLACE * Affine.translation(32, 0)
    write(tmp_path / "ir.tif", COLOUR[..., 1], transform=half)
    write(tmp_path / "vi.tif", COLOUR[..., 0])
    fused = fuse_images(keep_ir, tmp_path / "ir.tif", tmp_path / "vi.tif", vi_range=(0, 4096))
    np.testing.assert_allclose(fused.values[:, :31].astype(int), COLOUR[:, :31, 0], atol=1)
    assert not np.allclose(fused.values[:, 34:], COLOUR[:, 34:, 0], atol=1)
    far = PLACE * Affine.translation(5000, 0)
    write(tmp_path / "far.tif", COLOUR[..., 1], transform=far)
    with pytest.raises(InputError, match="do not overlap"):
        fuse_images(keep_ir, tmp_path / "far.tif", tmp_path / "vi.tif")


def test_the_command_keeps_the_place(tmp_path):
    write(tmp_path / "vi.tif", COLOUR, photometric="RGB")
    write(tmp_path / "ir.tif", COLOUR[::2, ::2, 0].copy(), transform=PLACE * Affine.scale(2))
    files = [str(tmp_path / name) for name in ("ir.tif", "vi.tif")]
    assert main(["fuse", *files, "-o", str(tmp_path / "out.tif"), "--device", "cpu"]) == 0
    with rasterio.open(tmp_path / "out.tif") as data:
        assert (data.crs, data.transform, data.dtypes) == (UTM, PLACE, ("uint16",) * 3)


def test_without_the_library_it_is_a_tiff_with_a_warning(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", COLOUR[..., 0])
    monkeypatch.setattr("fusionzoo.readers.table.find_spec", lambda name: None)
    with pytest.warns(FusionZooWarning, match=r"pip install 'fusionzoo\[geo\]'"):
        np.testing.assert_array_equal(read_image(path), COLOUR[..., 0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}]
)
def test_damaged_files_give_an_error_or_the_librarys_values(tmp_path, layout):
    def library(path, reading):
        if reading.kind != "geotiff":
            return None
        with rasterio.open(path) as data:
            return data.read(1)

    write(tmp_path / "whole.tif", COLOUR[:32, :32, 0].copy(), **layout)
    content = (tmp_path / "whole.tif").read_bytes()
    assert check_damage(tmp_path / "a.tif", content, library, count=200) > 5
