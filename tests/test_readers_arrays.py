"""NumPy's files and raw values: what is read, what is refused, and `fuse` with them."""

import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from readers_helpers import check_damage

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.data import FusionDataModule
from fusionzoo.errors import FusionZooError, InputError
from fusionzoo.inference import fuse_images, read_header, read_image, save_image

RNG = np.random.default_rng(0)
RADIANCE = RNG.normal(300, 40, (6, 9))


def npy(values, **options):
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i2", ">i4", "i8", "f2", ">f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_keep_their_values(tmp_path, dtype, order):
    values = np.asarray(np.abs(RADIANCE) % 250, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    reading = fusionzoo.open_image(tmp_path / "a.npy")
    assert (reading.kind, reading.unit, reading.range) == ("npy", None, None)
    assert reading.values.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(reading.values, values)
    assert fusionzoo.open_image(npy(values)).values.tolist() == values.tolist()


@pytest.mark.parametrize(("given", "kept"), [("int8", "int16"), ("uint32", "int64")])
def test_dtypes_that_fusing_lacks_become_wider_ones(given, kept):
    values = np.array([[1, 2], [100, np.iinfo(given).max]], given)
    again = fusionzoo.open_image(npy(values)).values
    assert again.dtype == kept
    np.testing.assert_array_equal(again, values)


def test_channels_last_are_colours_and_alpha_goes():
    colour = RNG.integers(0, 2**16, (6, 9, 4), dtype=np.uint16)
    for channels, kept in ((4, colour[..., :3]), (3, colour[..., :3]), (1, colour[..., 0])):
        np.testing.assert_array_equal(read_image(npy(colour[..., :channels])), kept)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stack_needs_a_page(tmp_path, order):
    stack = np.asarray(RNG.normal(size=(5, 6, 9)), order=order)
    np.save(tmp_path / "a.npy", stack)
    with pytest.raises(InputError, match=r"a\.npy holds 5 images; pass one .*page=0"):
        read_image(tmp_path / "a.npy")
    again = fusionzoo.open_image(tmp_path / "a.npy", page=3)
    np.testing.assert_array_equal(again.values, stack[3])
    with pytest.raises(InputError, match=r"no page 5; it holds 5 images"):
        fusionzoo.open_image(tmp_path / "a.npy", page=5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1, "a"]], dtype=object), "Python objects, which are not opened"),
        (np.ones((6, 9), complex), "complex128 values"),
        (np.ones((6, 9), bool), "bool values"),
        (np.ones((6, 9), "i4,i4"), "values"),
        (np.ones(9), r"shape \(9,\)"),
        (np.ones((3, 60, 90)), "move the channels last"),
        (np.full((6, 9), 2**63, np.uint64), r"2\^63"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, values, message):
    (tmp_path / "a.npy").write_bytes(npy(values))
    with pytest.raises(InputError, match=rf"a\.npy .*{message}"):
        read_image(tmp_path / "a.npy")


def header_of(shape):
    """A .npy file that only has its header, made by the format's description."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text + b"\n"


@pytest.mark.parametrize("shape", [(200_000, 200_000), (1, 200_000, 200_000)])
def test_size_is_refused_before_memory_is_taken(shape):
    with pytest.raises(InputError, match=r"200000 x 200000 .*the limit is 128,000,000"):
        read_image(header_of(shape))


def test_files_that_are_cut_off_are_refused():
    with pytest.raises(InputError, match="cut off"):
        read_image(header_of((600, 900)))
    # Of many small pages, whose size together is beyond any memory.
    with pytest.raises(InputError, match="cut off"):
        fusionzoo.open_image(header_of((10**12, 600, 900)), page=1)


def test_archives_of_one_and_of_named_arrays(tmp_path):
    np.savez(tmp_path / "one.npz", RADIANCE)
    np.savez_compressed(tmp_path / "two.npz", thermal=RADIANCE, mask=RADIANCE > 3)
    assert fusionzoo.open_image(tmp_path / "one.npz").kind == "npz"
    np.testing.assert_array_equal(read_image(tmp_path / "one.npz"), RADIANCE)
    with pytest.raises(InputError, match=r"two\.npz holds 2 arrays \(thermal, mask\); .*'thermal'"):
        read_image(tmp_path / "two.npz")
    for page in ("thermal", 0):
        again = fusionzoo.open_image(tmp_path / "two.npz", page=page)
        np.testing.assert_array_equal(again.values, RADIANCE)
    with pytest.raises(InputError, match="no array 'thermel'; did you mean 'thermal'"):
        fusionzoo.open_image(tmp_path / "two.npz", page="thermel")
    with pytest.raises(InputError, match=r"two\.npz\['mask'\] holds bool values"):
        fusionzoo.open_image(tmp_path / "two.npz", page="mask")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header_of((200_000, 100_000)) + bytes(10_000))
    with pytest.raises(InputError, match="the limit is 128,000,000"):
        read_image(tmp_path / "a.npz")


def test_damaged_arrays_give_an_error_or_numpys_values(tmp_path):
    content = npy(RADIANCE.astype(np.float32)[..., None])

    def library(path, reading):
        return np.load(path, allow_pickle=False)[..., 0]

    assert check_damage(tmp_path / "a.npy", content, library, count=400) > 20


def test_damaged_archives_give_an_error_or_numpys_values(tmp_path):
    stream = io.BytesIO()
    np.savez_compressed(stream, RADIANCE.astype(np.int16))

    def library(path, reading):
        with np.load(path, allow_pickle=False) as archive:
            return archive[archive.files[0]]

    check_damage(tmp_path / "a.npz", stream.getvalue(), library, count=400)


# Raw values ---------------------------------------------------------------------------------


def test_raw_values(tmp_path):
    values = list(range(1000, 1012))
    path = tmp_path / "a.raw"
    path.write_bytes(struct.pack("<12H", *values))
    again = fusionzoo.open_image(path, raw="4x3:uint16")
    assert (again.kind, again.values.dtype) == ("raw", np.uint16)
    assert again.values.tolist() == [values[:4], values[4:8], values[8:]]
    path.write_bytes(b"head" + struct.pack(">12h", *(-value for value in values)))
    again = fusionzoo.open_image(path, raw="2x3:int16be+4", page=1)
    assert again.values.tolist() == [[-1006, -1007], [-1008, -1009], [-1010, -1011]]
    path.write_bytes(bytes(range(18)))
    again = fusionzoo.open_image(path, raw="3x2x3:uint8")
    assert again.values[1, 2].tolist() == [15, 16, 17]


def test_raw_layouts_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(24))
    for layout in ("4x3:uint32", "5x3:uint16", "4x3:uint16+1", "4x3:uint16+9999"):
        with pytest.raises(InputError, match=r"a\.raw has .* bytes .* check width, height"):
            fusionzoo.open_image(path, raw=layout)
    for layout in ("4x3", "4x3:bool", "0x3:uint8", "4,3:uint8", "4x3:object"):
        with pytest.raises(InputError, match="such as 640x512:uint16"):
            fusionzoo.open_image(path, raw=layout)
    with pytest.raises(InputError, match="holds 2 images; pass one"):
        fusionzoo.open_image(path, raw="4x3:uint8")
    with pytest.raises(InputError, match="the limit is"):
        fusionzoo.open_image(path, raw="100000x100000:uint8")


# In use -------------------------------------------------------------------------------------


def keep_vi(ir, vi):
    return vi


def test_fusing_gives_readings_of_the_visible_dtype(tmp_path):
    np.save(tmp_path / "ir.npy", RADIANCE)
    np.save(tmp_path / "vi.npy", (RADIANCE * 100).astype(np.uint16))
    fused = fuse_images(keep_vi, tmp_path / "ir.npy", tmp_path / "vi.npy")
    assert isinstance(fused, fusionzoo.Reading)
    assert fused.values.dtype == np.uint16
    direct = fuse_images(keep_vi, RADIANCE, (RADIANCE * 100).astype(np.uint16))
    np.testing.assert_array_equal(np.asarray(fused), direct)
    again = fuse_images(
        keep_vi, *(fusionzoo.open_image(tmp_path / f"{n}.npy") for n in ("ir", "vi"))
    )
    np.testing.assert_array_equal(again.values, direct)
    fused.save(tmp_path / "fused.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "fused.npy"), direct)


def test_a_range_that_a_file_gives_is_the_default_and_no_more():
    reading = fusionzoo.Reading(RADIANCE, "flir", unit="°C", range=(250.0, 350.0))
    plain = fuse_images(lambda ir, vi: ir, RADIANCE, RADIANCE, ir_range=(250, 350))
    np.testing.assert_array_equal(fuse_images(lambda ir, vi: ir, reading, RADIANCE), plain)
    given = fuse_images(lambda ir, vi: ir, reading, RADIANCE, ir_range=(100, 500))
    assert not np.array_equal(given, plain)


def test_places_without_values_show_the_other_image():
    valid = np.ones((6, 9), bool)
    valid[:, :4] = False
    holes = np.where(valid, RADIANCE, np.nan)
    vi = RNG.uniform(size=(6, 9))
    ir = fusionzoo.Reading(holes, "geotiff", valid=valid)
    fused = fuse_images(lambda ir, vi: ir * 0 + 1, ir, vi)
    np.testing.assert_allclose(fused[:, :4], vi[:, :4], atol=1e-6)
    assert (fused[:, 4:] == 1).all()
    # The other way round, what is unknown stays so.
    back = fuse_images(keep_vi, vi, ir)
    assert np.isnan(back.values[:, :4]).all()
    assert not np.isnan(back.values[:, 4:]).any()


def test_units_become_a_picture_by_their_range(tmp_path):
    reading = fusionzoo.Reading(np.array([[0.0, 10.0], [20.0, 50.0]]), "flir", "°C", (0.0, 40.0))
    reading.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[0, 16384], [32768, 65535]]
    reading.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), reading.values)
    save_image(tmp_path / "a.jpg", reading)
    assert read_image(tmp_path / "a.jpg").dtype == np.uint8


def test_the_header_says_what_is_read(tmp_path):
    np.save(tmp_path / "a.npy", RADIANCE)
    header = read_header(tmp_path / "a.npy")
    assert (header.width, header.height, header.decoded_bytes) == (9, 6, 4 * 54)


@pytest.fixture
def folders(tmp_path):
    for side, scale in (("ir", 30), ("vi", 200)):
        (tmp_path / side).mkdir()
        for name in "ab":
            values = RNG.integers(0, scale, (32, 40), dtype=np.uint16)
            np.save(tmp_path / side / f"{name}.npy", values)
    return tmp_path


def test_data_modules_take_arrays(folders):
    for cache in (True, False):
        data = FusionDataModule(str(folders), ir_dir="ir", vi_dir="vi", batch_size=1, cache=cache)
        data.setup("validate")
        assert len(data.val_dataloader().dataset) == 2
        assert data.val_dataloader().dataset[0]["ir"].dtype == torch.float32


def test_the_command_fuses_arrays_and_evaluates_them(folders, capsys):
    arguments = ["fuse", "ir", "vi", "-o", "out", "--device", "cpu"]
    paths = [str(folders / word) if word in ("ir", "vi", "out") else word for word in arguments]
    assert main(paths) == 0
    places = ["--fused", str(folders / "out"), "--ir", paths[1], "--vi", paths[2]]
    fused = np.load(folders / "out" / "a.npy")
    assert (fused.dtype, fused.shape) == (np.uint16, (32, 40))
    assert main(["evaluate", *places]) == 0


def test_the_command_takes_a_page(tmp_path, capsys):
    stack = RNG.integers(0, 255, (5, 32, 40), dtype=np.uint8)
    np.save(tmp_path / "ir.npy", stack)
    np.savez(tmp_path / "vi.npz", first=stack[0], second=stack[1])
    files = [str(tmp_path / name) for name in ("ir.npy", "vi.npz")]
    out = ["-o", str(tmp_path / "out.png"), "--device", "cpu"]
    assert main(["fuse", *files, *out]) == 1
    assert "ir.npy holds 5 images" in capsys.readouterr().err
    assert main(["fuse", *files, *out, "--ir-page", "1", "--vi-page", "second"]) == 0
    fused = read_image(tmp_path / "out.png")
    assert main(["fuse", *files, *out, "--ir-page", "1", "--vi-page", "0"]) == 0
    assert not np.array_equal(read_image(tmp_path / "out.png"), fused)


def test_the_command_fuses_raw_values(tmp_path, capsys):
    for side, step in (("ir", 3), ("vi", 7)):
        (tmp_path / side).mkdir()
        values = [number * step % 5000 for number in range(32 * 40)]
        (tmp_path / side / "a.raw").write_bytes(struct.pack("<1280H", *values))
    raw = ["--raw", "40x32:uint16", "--device", "cpu"]
    files = [str(tmp_path / side / "a.raw") for side in ("ir", "vi")]
    assert main(["fuse", *files, "-o", str(tmp_path / "one.png"), *raw]) == 0
    assert read_image(tmp_path / "one.png").dtype == np.uint16
    patterns = [str(tmp_path / side / "*.raw") for side in ("ir", "vi")]
    assert main(["fuse", *patterns, "-o", str(tmp_path / "many"), *raw]) == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "many" / "a.npy"), read_image(tmp_path / "one.png")
    )
    assert main(["fuse", *patterns, "-o", str(tmp_path / "no"), "--raw", "40:uint16"]) == 2
    assert "640x512:uint16" in capsys.readouterr().err
    pictures = [str(tmp_path / "one.png")] * 2
    assert main(["fuse", *pictures, "-o", str(tmp_path / "two.png"), *raw]) == 2
    assert "--raw 40x32:uint16 is for files that end in .bin" in capsys.readouterr().err


def test_errors_name_the_argument(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\xff")
    with pytest.raises(FusionZooError, match=r"^ir: .*a\.npy cannot be read as a NumPy array"):
        fuse_images(keep_vi, tmp_path / "a.npy", RADIANCE)
    with pytest.raises(FusionZooError, match=r"^ir cannot be read as a NumPy array"):
        fuse_images(keep_vi, b"\x93NUMPY\x01\x00\xff", RADIANCE)
