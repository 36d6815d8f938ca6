"""`fuse_images` with networks whose results are known: kinds, values, colour, sizes, batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.errors import InputError
from fusionzoo.inference import fuse_images, rgb_to_ycbcr, save_image

NUMPY_DTYPES = (
    *("uint8", "uint16", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
ARRAY_SHAPES = ((5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4))
BATCH_SHAPES = (
    (2, 5, 7),
    (1, 5, 7),
    *((2, 5, 7, c) for c in (1, 3, 4)),
    (3, 5, 7, 1),
    (2, 5, 3, 1),
)
TENSOR_SHAPES = (
    (5, 7),
    *((c, 5, 7) for c in (1, 3, 4)),
    *((b, c, 5, 7) for b in (1, 2) for c in (1, 3, 4)),
)
LIMITS = {
    "uint8": (0, 255),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int32": (-70000, 70000),
    "int64": (-70000, 70000),
}

# What is fused here are random values; tests/test_inference_hints.py has the warnings.
pytestmark = pytest.mark.filterwarnings("ignore::fusionzoo.errors.FusionZooWarning")


def keep_vi(ir, vi):
    return vi


def keep_ir(ir, vi):
    return ir


def mean(ir, vi):
    return (ir + vi) / 2


def random_array(shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    if dtype in LIMITS:
        low, high = LIMITS[dtype]
        return rng.integers(low, high, shape, endpoint=True).astype(dtype)
    return rng.random(shape).astype(dtype)


def full_range(dtype):
    return LIMITS.get(dtype, (0, 1))


def grey_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


# -- kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ARRAY_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_array_comes_back_as_it_was(dtype, shape):
    vi = random_array(shape, dtype)
    fused = fuse_images(keep_vi, random_array((5, 7)), vi, vi_range=full_range(dtype))
    assert isinstance(fused, np.ndarray)
    assert fused.dtype == vi.dtype
    assert fused.flags.c_contiguous
    # The network computes in float32; integers up to 18 bits survive that exactly.
    tolerance = 0 if dtype in LIMITS else 2e-7 if dtype != "float16" else 0
    np.testing.assert_allclose(fused, vi, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_batch_of_arrays_comes_back_as_it_was(dtype, shape):
    vi = random_array(shape, dtype)
    ir = random_array(shape[:3] + (1,) * (shape[2] < 5))
    fused = fuse_images(keep_vi, ir, vi, vi_range=full_range(dtype))
    assert fused.dtype == vi.dtype
    assert fused.shape == vi.shape
    np.testing.assert_allclose(fused, vi, rtol=0, atol=2e-7 if dtype.startswith("float") else 0)


@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
def test_batch_of_arrays_is_fused_image_by_image(shape):
    ir, vi = random_array(shape, "uint16", seed=1), random_array(shape, "uint16")
    fused = fuse_images(mean, ir, vi, batch_size=2)
    alone = [fuse_images(mean, one, other) for one, other in zip(ir, vi, strict=True)]
    np.testing.assert_array_equal(fused, np.stack(alone))
    grey = fuse_images(mean, ir, vi, color=False)
    assert grey.shape == (shape[:3] if shape[3:] in ((3,), (4,)) else shape)


def test_three_dimensions_with_1_3_or_4_last_are_one_image():
    for channels in (1, 3, 4):
        vi = random_array((6, 8, channels))
        fused = fuse_images(keep_vi, random_array((6, 8)), vi)
        np.testing.assert_array_equal(fused, vi)


@pytest.mark.parametrize("shape", TENSOR_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_tensor_comes_back_as_it_was(dtype, shape):
    vi = torch.from_numpy(random_array(shape, dtype))
    ir = torch.from_numpy(random_array((shape[0], 1, 5, 7) if len(shape) == 4 else (5, 7)))
    fused = fuse_images(keep_vi, ir, vi, vi_range=full_range(dtype))
    assert isinstance(fused, torch.Tensor)
    assert fused.dtype == vi.dtype
    assert fused.device == vi.device
    tolerance = 2e-7 if dtype in ("float32", "float64") else 0
    np.testing.assert_allclose(fused.numpy(), vi.numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        ("L", "L"),
        ("LA", "LA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("1", "L"),
        ("P", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
    ],
)
def test_pil_image_comes_back_as_pil_image(mode, back):
    vi = Image.fromarray(random_array((6, 9, 4))).convert("RGB" if mode != "RGBA" else "RGBA")
    vi = vi.quantize(16) if mode == "P" else vi.convert(mode)
    fused = fuse_images(keep_vi, random_array((6, 9)), vi)
    assert (fused.mode, fused.size) == (back, vi.size)
    np.testing.assert_array_equal(np.asarray(fused), np.asarray(vi.convert(back)))


@pytest.mark.parametrize(("dtype", "mode"), [("uint16", "I;16"), ("int32", "I"), ("float32", "F")])
def test_deep_pil_images_keep_their_mode(dtype, mode):
    values = random_array((6, 9), dtype)
    vi = (
        Image.frombytes("I;16", (9, 6), values.astype("<u2").tobytes())
        if dtype == "uint16"
        else Image.fromarray(values)
    )
    fused = fuse_images(keep_vi, values, vi, vi_range=full_range(dtype))
    assert fused.mode == mode
    np.testing.assert_allclose(np.asarray(fused), values, atol=2e-7, rtol=0)


def test_big_endian_16_bit_pil_image():
    values = random_array((6, 9), "uint16")
    vi = Image.frombytes("I;16B", (9, 6), values.astype(">u2").tobytes())
    fused = fuse_images(keep_vi, values, vi, vi_range=(0, 65535))
    assert fused.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(fused), values)


def test_grey_palette_is_grey_and_transparency_is_alpha():
    grey = Image.fromarray(random_array((6, 9)))
    assert fuse_images(keep_vi, grey, grey.convert("P")).mode == "L"
    see_through = Image.fromarray(random_array((6, 9, 3))).quantize(8)
    see_through.info["transparency"] = 0
    fused = fuse_images(keep_vi, grey, see_through)
    assert fused.mode == "RGBA"
    np.testing.assert_array_equal(
        np.asarray(fused)[..., 3], np.where(np.asarray(see_through) == 0, 0, 255)
    )


@pytest.mark.parametrize("kind", [str, Path])
def test_path_gives_pil_image(tmp_path, kind):
    vi = random_array((6, 9, 3))
    save_image(tmp_path / "vi.png", vi)
    fused = fuse_images(keep_vi, random_array((6, 9)), kind(tmp_path / "vi.png"))
    assert isinstance(fused, Image.Image)
    np.testing.assert_array_equal(np.asarray(fused), vi)


def test_kinds_of_ir_and_vi_are_independent(tmp_path):
    values = random_array((6, 9))
    save_image(tmp_path / "ir.png", values)
    expected = fuse_images(mean, values, random_array((6, 9, 3), seed=1))
    for ir in (
        tmp_path / "ir.png",
        Image.fromarray(values),
        torch.from_numpy(values),
        values[..., None],
        grey_rgb(values),
        np.dstack([grey_rgb(values), random_array((6, 9), seed=5)]),  # with alpha
        np.asfortranarray(values),
        values[::-1][::-1],
    ):
        fused = fuse_images(mean, ir, random_array((6, 9, 3), seed=1))
        np.testing.assert_array_equal(fused, expected)


def test_odd_memory_layouts_are_read_right():
    values = random_array((6, 9, 3), "uint16")
    expected = fuse_images(mean, values, values)
    read_only = values.copy()
    read_only.flags.writeable = False
    for same in (values.astype(">u2"), np.asfortranarray(values), read_only):
        fused = fuse_images(mean, same, same)
        assert fused.dtype == same.dtype
        np.testing.assert_array_equal(fused, expected)
    turned = fuse_images(mean, values[::-1, ::-1], values[::-1, ::-1])
    np.testing.assert_array_equal(turned, expected[::-1, ::-1])
    channels_last = torch.from_numpy(values)[None].permute(0, 3, 1, 2)
    np.testing.assert_array_equal(
        fuse_images(mean, channels_last, channels_last)[0].permute(1, 2, 0).numpy(), expected
    )


def test_exif_orientation_is_applied(tmp_path):
    values = random_array((6, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(values).save(tmp_path / "vi.png", exif=exif)
    upright = np.rot90(values, -1)
    fused = fuse_images(keep_vi, upright, tmp_path / "vi.png")
    assert fused.size == (6, 9)
    np.testing.assert_array_equal(np.asarray(fused), upright)
    with Image.open(tmp_path / "vi.png") as opened:
        np.testing.assert_array_equal(np.asarray(fuse_images(keep_vi, upright, opened)), upright)
        assert opened.size == (9, 6)


# -- colour -----------------------------------------------------------------------------------


def test_colour_is_fused_in_luma_and_keeps_its_chroma():
    # Mid colours, so that nothing is clipped.
    vi = np.random.default_rng(3).uniform(0.4, 0.6, (8, 9, 3))
    ir = np.random.default_rng(4).uniform(0.4, 0.6, (8, 9))
    fused = fuse_images(keep_ir, ir, vi, dtype=torch.float64)
    # BT.601 written out once more, as matrices.
    luma = np.array([0.299, 0.587, 0.114])
    to_chroma = np.stack([(np.eye(3)[2] - luma) / 1.772, (np.eye(3)[0] - luma) / 1.402])
    np.testing.assert_allclose(fused @ luma, ir, atol=1e-12)
    np.testing.assert_allclose(fused @ to_chroma.T, vi @ to_chroma.T, atol=1e-12)


def test_colour_result_is_rounded_not_truncated():
    vi = random_array((16, 16, 3))
    ir = random_array((16, 16), seed=1)
    exact = fuse_images(mean, ir / 255, vi / 255, dtype=torch.float64) * 255
    fused = fuse_images(mean, ir, vi)
    assert np.abs(fused - exact).max() <= 0.5 + 1e-4
    assert abs((fused - exact).mean()) < 0.05


@pytest.mark.parametrize("network", [mean, keep_ir, keep_vi])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_grey_in_colour_channels_stays_grey_and_equal_to_single_channel(dtype, network):
    grey, ir = random_array((32, 33), dtype), random_array((32, 33), seed=1)
    fused = fuse_images(network, ir, grey_rgb(grey), vi_range=full_range(dtype))
    expected = fuse_images(network, ir, grey, vi_range=full_range(dtype))
    np.testing.assert_array_equal(fused, grey_rgb(expected))


def test_infrared_colour_is_reduced_to_luma():
    ir = random_array((5, 6, 3))
    fused = fuse_images(keep_ir, ir, np.zeros((5, 6), np.uint8))
    np.testing.assert_array_equal(fused, np.rint(ir @ [0.299, 0.587, 0.114]))


@pytest.mark.parametrize("colour", ["array", "tensor", "batch", "pil", "alpha"])
def test_color_false_gives_one_channel(colour):
    vi = random_array((5, 6, 4 if colour == "alpha" else 3))
    grey = np.rint(vi[..., :3] @ [0.299, 0.587, 0.114])
    channels_first = torch.from_numpy(vi).permute(2, 0, 1)
    kinds = {
        "array": (vi, (5, 6)),
        "alpha": (vi, (5, 6)),
        "tensor": (channels_first, (1, 5, 6)),
        "batch": (channels_first[None], (1, 1, 5, 6)),
        "pil": (Image.fromarray(vi), (5, 6)),
    }
    given, shape = kinds[colour]
    fused = fuse_images(keep_vi, np.zeros((5, 6), np.uint8), given, color=False)
    assert type(fused) is type(given)
    if colour == "pil":
        assert fused.mode == "L"
    assert tuple(np.asarray(fused).shape) == shape
    np.testing.assert_array_equal(np.asarray(fused).reshape(5, 6), grey)


def test_color_false_leaves_grey_shapes_alone():
    ir = random_array((5, 6))
    for shape in ((5, 6), (5, 6, 1)):
        assert fuse_images(mean, ir, random_array(shape), color=False).shape == shape
    transparent = Image.fromarray(random_array((5, 6, 2)))
    assert fuse_images(mean, ir, transparent, color=False).mode == "L"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_alpha_comes_back_untouched(dtype):
    vi = random_array((5, 6, 4), dtype)
    fused = fuse_images(mean, random_array((5, 6), seed=1), vi)
    np.testing.assert_array_equal(fused[..., 3], vi[..., 3])
    np.testing.assert_array_equal(
        fused[..., :3], fuse_images(mean, random_array((5, 6), seed=1), vi[..., :3])
    )


# -- values -----------------------------------------------------------------------------------


def seen_by_network(ir, vi=None, **options):
    """What of `ir` and `vi` reaches the network."""
    seen = {}

    def network(ir, vi):
        seen["ir"], seen["vi"] = ir.double().numpy().copy(), vi.double().numpy().copy()
        return vi

    vi = np.zeros(np.shape(ir)[-2:], np.uint8) if vi is None else vi
    fuse_images(network, ir, vi, **options)
    return seen


def test_eight_bit_is_divided_by_255():
    values = random_array((5, 6))
    np.testing.assert_allclose(seen_by_network(values)["ir"][0, 0], values / 255, atol=1e-7)


@pytest.mark.parametrize("dtype", [name for name in NUMPY_DTYPES if name != "uint8"])
def test_deep_values_are_mapped_by_percentiles(dtype):
    # Thermal counts: a narrow band far from the ends of the range.
    values = np.random.default_rng(0).normal(7500, 60, (60, 80)).astype(dtype)
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    expected = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    seen = seen_by_network(values)["ir"][0, 0]
    np.testing.assert_allclose(seen, expected, atol=1e-4)
    assert seen.mean() > 0.4  # not black


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_given_range_is_used_and_clips(dtype):
    values = np.arange(200).reshape(10, 20).astype(dtype)
    seen = seen_by_network(values, values, ir_range=(50, 150), vi_range=(0, 400))
    np.testing.assert_allclose(
        seen["ir"][0, 0], np.clip((values.astype(float) - 50) / 100, 0, 1), atol=1e-6
    )
    np.testing.assert_allclose(seen["vi"][0, 0], values.astype(float) / 400, atol=1e-6)


def test_floats_in_unit_range_stay_and_give_or_take_a_thousandth():
    values = random_array((5, 6), "float32")
    np.testing.assert_array_equal(seen_by_network(values)["ir"][0, 0], values)
    values[0, 0], values[0, 1] = -0.0005, 1.0005
    np.testing.assert_array_equal(seen_by_network(values)["ir"][0, 0], values.clip(0, 1))


def test_result_is_mapped_back_by_the_range_of_vi():
    vi = np.random.default_rng(0).normal(7500, 60, (60, 80)).astype(np.uint16)
    low, high = np.percentile(vi, (0.5, 99.5))
    ir = random_array((60, 80))
    fused = fuse_images(keep_ir, ir, vi)
    np.testing.assert_array_equal(fused, np.rint(low + ir / 255 * (high - low)))
    np.testing.assert_array_equal(fuse_images(keep_vi, ir, vi), np.rint(vi.clip(low, high)))


def test_result_is_clipped_to_what_the_dtype_holds():
    ir = np.array([[0, 255], [0, 255]], np.uint8)
    fused = fuse_images(keep_ir, ir, ir, vi_range=(-100, 500))
    np.testing.assert_array_equal(fused, ir)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_floats_are_clipped_to_what_the_dtype_holds(dtype, as_tensor):
    ir = np.array([[0, 255], [128, 255]], np.uint8)
    vi = np.array([[0.2, 0.4], [0.6, 0.8]], dtype)
    ends = {"float16": 65504.0, "float32": float(np.finfo(np.float32).max), "float64": 1e300}
    fused = fuse_images(
        keep_ir, ir, torch.from_numpy(vi) if as_tensor else vi, vi_range=(-1e300, 1e300)
    )
    fused = np.asarray(fused).astype(np.float64)
    assert fused.max() == pytest.approx(ends[dtype])
    assert fused.min() == pytest.approx(-ends[dtype])


def test_a_constant_float16_image_near_its_end_stays_finite():
    vi = np.full((4, 5), 60000, np.float16)
    fused = fuse_images(lambda ir, vi: vi + 1, vi, vi)
    assert (fused == np.float16(65504)).all()


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", 3e38), ("float64", 3e38), ("float64", 9e299), ("float32", 1e-40)],
)
def test_extreme_values_come_back(dtype, scale):
    unit = np.random.default_rng(0).random((8, 9)) * 2 - 1
    unit[0, 0], unit[0, 1] = -1, 1
    vi = (unit * scale).astype(dtype)
    fused = fuse_images(keep_vi, vi, vi, vi_range=(-scale, scale), ir_range=(-scale, scale))
    np.testing.assert_allclose(fused / scale, vi / scale, atol=2e-7)
    if scale > 1:
        low, high = np.percentile(vi.astype(np.float64) / scale, (0.5, 99.5))
        fused = fuse_images(keep_vi, vi, vi)
        np.testing.assert_allclose(fused / scale, np.clip(vi / scale, low, high), atol=1e-6)


def test_too_extreme_values_are_refused():
    with pytest.raises(InputError, match=r"^vi contains values beyond ±1e\+300; scale them down"):
        fuse_images(keep_vi, np.zeros((4, 4), np.uint8), np.full((4, 4), 1.7e308))


def test_the_ends_of_int64_do_not_wrap_around():
    vi = np.array([[-(2**63), 2**63 - 1], [0, 1]])
    fused = fuse_images(keep_vi, vi, vi, vi_range=(-1e19, 1e19))
    assert fused[0, 0] < -9e18
    assert fused[0, 1] > 9e18
    bright = fuse_images(lambda ir, vi: vi + 1, vi, vi, vi_range=(-1e19, 1e19))
    assert (bright > 9e18).all()


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("value", [0, 1, 3, 60000])
def test_constant_images_work(dtype, value):
    value = min(value, LIMITS.get(dtype, (0, 60000))[1])
    constant = np.full((4, 5), value, dtype)
    fused = fuse_images(keep_vi, constant, constant)
    np.testing.assert_allclose(fused.astype(float), constant.astype(float), rtol=1e-6)
    seen = seen_by_network(constant)["ir"]
    if ("int" in dtype[:4] and dtype != "uint8") or (value > 1 and dtype != "uint8"):
        assert np.all(seen == 0.5)


def test_few_hot_pixels_on_an_even_background_are_kept():
    values = np.full((50, 50), 1000, np.uint16)
    values[3, 4] = 1400  # 0.04 % of all pixels: beyond both percentiles
    seen = seen_by_network(values)["ir"][0, 0]
    assert seen[3, 4] == 1
    assert seen.sum() == 1


def test_percentiles_join_colour_channels_and_leave_out_alpha():
    vi = random_array((30, 30, 4), "uint16")
    vi[..., 2] //= 8
    vi[..., 3] = 65535
    low, high = np.percentile(vi[..., :3], (0.5, 99.5))
    luma = np.clip((vi[..., :3] - low) / (high - low), 0, 1) @ [0.299, 0.587, 0.114]
    seen = seen_by_network(random_array((30, 30)), vi)["vi"][0, 0]
    np.testing.assert_allclose(seen, luma, atol=1e-5)


def test_percentiles_of_a_batch_are_those_of_each_image():
    batch = torch.from_numpy(random_array((3, 1, 20, 30), "int32"))
    batch[1] //= 100
    batch[2] = 12
    together = fuse_images(mean, batch, batch)
    alone = torch.cat([fuse_images(mean, one[None], one[None]) for one in batch])
    assert torch.equal(together, alone)


def test_percentiles_on_other_devices_agree_with_numpy(monkeypatch):
    from fusionzoo.inference import ranges

    class Elsewhere:
        type = "cuda"

    class OnDevice:
        """A CPU tensor that says it is on another device."""

        def __init__(self, values):
            self.values, self.device = values, Elsewhere()

        def __len__(self):
            return len(self.values)

        def sort(self):
            return self.values.sort()

    values = torch.rand(1003) * 70
    expected = np.percentile(values.numpy(), (0.5, 99.5))
    np.testing.assert_allclose(ranges._percentiles(OnDevice(values)), expected, rtol=1e-6)


# -- the network's side -----------------------------------------------------------------------


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_network_gets_and_gives_its_own_range(value_range):
    low, high = value_range
    vi = np.array([[0, 255], [51, 204]], np.uint8)

    def network(ir, vi):
        expected = torch.tensor([[0, 1], [0.2, 0.8]]) * (high - low) + low
        torch.testing.assert_close(vi[0, 0], expected)
        return vi

    np.testing.assert_array_equal(fuse_images(network, vi, vi, value_range=value_range), vi)


def test_output_is_clipped_to_the_range():
    vi = random_array((5, 6, 3))
    bright = fuse_images(lambda ir, vi: vi + 7, vi, vi[..., 0])
    assert np.all(bright == 255)
    dark = fuse_images(lambda ir, vi: vi - 7, vi, vi[..., 0], value_range=(-1, 1))
    assert np.all(dark == 0)
    # Overshoot is clipped in luma, before colour: the same as a network that stops at 1.
    np.testing.assert_array_equal(
        fuse_images(lambda ir, vi: vi * 0 + 9, vi, vi),
        fuse_images(lambda ir, vi: vi * 0 + 1, vi, vi),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_network_runs_in_dtype(dtype):
    vi = random_array((7, 9))

    def network(ir, vi):
        assert ir.dtype == vi.dtype == dtype
        return vi

    fused = fuse_images(network, vi, vi, dtype=dtype, size_multiple=8, min_size=32)
    assert np.abs(fused.astype(int) - vi).max() <= (1 if dtype == torch.bfloat16 else 0)


@pytest.mark.parametrize("size", [(33, 47), (64, 1000), (2, 2), (2, 65), (32, 31)], ids=str)
@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1)])
def test_padding_meets_the_networks_needs_and_is_removed(size, value_range):
    vi = random_array((*size, 3))
    ir = random_array(size, seed=1)
    sizes = []

    def network(ir, vi):
        assert ir.shape == vi.shape
        assert vi.shape[:2] == (1, 1)
        sizes.append(tuple(vi.shape[2:]))
        return vi

    fused = fuse_images(network, ir, vi, size_multiple=8, min_size=32, value_range=value_range)
    np.testing.assert_array_equal(fused, vi)
    for side, padded in zip(size, sizes[0], strict=True):
        assert padded % 8 == 0
        assert padded == max(32, -(-side // 8) * 8)


# -- resize -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_resize_scales_the_named_image(kind):
    ir, vi = random_array((20, 30), kind), random_array((40, 50, 4), kind, seed=1)
    to_vi = fuse_images(keep_vi, ir, vi, resize="ir", vi_range=full_range(kind))
    np.testing.assert_allclose(to_vi, vi, atol=2e-7, rtol=0)
    to_ir = fuse_images(keep_ir, ir, vi, resize="vi")
    assert to_ir.shape == (20, 30, 4)
    assert to_ir.dtype == vi.dtype


def test_resize_of_smooth_images_keeps_values():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (32, 1))
    half = ramp.reshape(16, 2, 32, 2).mean((1, 3))
    fused = fuse_images(keep_ir, half, ramp, resize="ir")
    np.testing.assert_allclose(fused[:, 2:-2], ramp[:, 2:-2], atol=1e-3)
    fused = fuse_images(keep_vi, half, ramp, resize="vi")
    np.testing.assert_allclose(fused[:, 2:-2], half[:, 2:-2], atol=1e-3)


def test_resized_alpha_is_rounded():
    vi = random_array((20, 20, 4))
    vi[..., 3] = np.where(np.arange(20) % 4, 11, 10)
    fused = fuse_images(mean, random_array((5, 5)), vi, resize="vi")
    assert np.all(fused[..., 3] == 11)


def test_resize_keeps_grey_grey():
    vi = grey_rgb(random_array((20, 31)))
    fused = fuse_images(mean, random_array((33, 17), seed=1), vi, resize="vi")
    np.testing.assert_array_equal(fused, grey_rgb(fused[..., 0]))


def test_resize_without_need_changes_nothing():
    ir, vi = random_array((5, 6), seed=1), random_array((5, 6, 3))
    expected = fuse_images(mean, ir, vi)
    for resize in ("ir", "vi"):
        np.testing.assert_array_equal(fuse_images(mean, ir, vi, resize=resize), expected)


# -- lists and batches ------------------------------------------------------------------------


def mixed_pairs(tmp_path):
    save_image(tmp_path / "vi.png", random_array((9, 8, 3), seed=2))
    vis = [
        random_array((5, 6)),
        random_array((9, 8, 3), seed=1),
        tmp_path / "vi.png",
        Image.fromarray(random_array((5, 6, 4), seed=3)),
        torch.from_numpy(random_array((2, 3, 9, 8), seed=4)),
        random_array((5, 6), "uint16", seed=5),
        torch.rand(1, 9, 8),
    ]
    sizes = [(5, 6), (9, 8), (9, 8), (5, 6), (2, 1, 9, 8), (5, 6), (9, 8)]
    irs = [torch.from_numpy(random_array(size, seed=9)) for size in sizes]
    return irs, vis


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("container", [list, tuple])
def test_list_gives_list_and_each_result_is_as_alone(tmp_path, batch_size, container):
    irs, vis = mixed_pairs(tmp_path)
    batches = []

    def network(ir, vi):
        batches.append(len(vi))
        return (ir + vi) / 2

    fused = fuse_images(network, container(irs), container(vis), batch_size=batch_size)
    assert isinstance(fused, list)
    assert len(fused) == len(vis)
    assert max(batches) == min(batch_size, 5)  # five images are 9 x 8
    assert sum(batches) == 8
    for result, ir, vi in zip(fused, irs, vis, strict=True):
        alone = fuse_images(mean, ir, vi)
        assert type(result) is type(alone)
        np.testing.assert_array_equal(np.asarray(result), np.asarray(alone))


def test_batch_tensor_is_split_by_batch_size():
    vi, ir = torch.rand(5, 3, 8, 8), torch.rand(5, 1, 8, 8)
    seen = []

    def network(ir, vi):
        seen.append(len(vi))
        return (ir + vi) / 2

    whole = fuse_images(network, ir, vi, batch_size=3)
    assert seen == [3, 2]
    torch.testing.assert_close(whole, fuse_images(mean, ir, vi), rtol=0, atol=1e-7)


def test_empty_lists_give_an_empty_list():
    assert fuse_images(mean, [], []) == []


def test_luma_of_the_contract_is_that_of_the_public_function():
    vi = torch.rand(3, 6, 7)
    fused = fuse_images(keep_vi, vi, vi, color=False)
    torch.testing.assert_close(fused, rgb_to_ycbcr(vi)[:1])
