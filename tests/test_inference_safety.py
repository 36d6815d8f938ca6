"""`fuse_images`: what it refuses, what it leaves alone, threads and gradients."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fusionzoo.errors import InputError
from fusionzoo.inference import fuse_images

# What is fused here are random values; tests/test_inference_hints.py has the warnings.
pytestmark = pytest.mark.filterwarnings("ignore::fusionzoo.errors.FusionZooWarning")


def mean(ir, vi):
    return (ir + vi) / 2


def random_array(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


GREY = random_array((6, 8))
TENSOR = torch.from_numpy(GREY)


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["ir", "vi"])
@pytest.mark.parametrize(
    ("image", "error", "remedy"),
    [
        (GREY > 3, TypeError, "bool; convert it to uint8"),
        (TENSOR > 3, TypeError, "bool; convert it to uint8"),
        (GREY * 1j, TypeError, "complex128; convert it"),
        (TENSOR * 1j, TypeError, "complex64; convert it"),
        (GREY.astype(np.uint32), TypeError, "uint32; convert it to uint8, uint16, int16"),
        (GREY.astype(np.int8), TypeError, "int8; convert it"),
        (TENSOR.to(torch.bfloat16), TypeError, "bfloat16; convert it"),
        (GREY.astype(object), TypeError, "object; convert it"),
        (GREY.astype(np.longdouble), TypeError, "convert it"),
        (None, TypeError, "NoneType; pass a path, PIL image"),
        (7, TypeError, "int; pass a path"),
        (iter([GREY]), TypeError, "pass a path, PIL image.* or a list"),
        (GREY[0], ValueError, r"shape \(8,\); an array is"),
        (GREY[..., None][..., [0, 0]], ValueError, r"\(6, 8, 2\); an array is"),
        (random_array((3, 6, 8)), ValueError, r"\(3, 6, 8\).*move the channels last"),
        (random_array((2, 3, 6, 8)), ValueError, r"as a batch.*move the channels last"),
        (random_array((20, 30, 8)), ValueError, r"\(20, 30, 8\); an array is"),
        (np.ma.masked_greater(GREY, 200), ValueError, r"masked array.*\.filled"),
        (torch.rand(2, 6, 8), ValueError, r"\(2, 6, 8\); a tensor is"),
        (torch.rand(6, 8, 3), ValueError, r"\(6, 8, 3\).*move the channels first"),
        (torch.rand(1, 1, 1, 6, 8), ValueError, "a tensor is"),
        (torch.rand(6), ValueError, "a tensor is"),
        (torch.rand(0, 1, 6, 8), ValueError, "batch of 0"),
        (np.zeros((0, 8), np.uint8), ValueError, "0 x 8.*at least 2 x 2"),
        (np.zeros((6, 0, 3), np.uint8), ValueError, "6 x 0.*at least 2 x 2"),
        (torch.rand(1, 0, 0), ValueError, "0 x 0.*at least 2 x 2"),
        (np.zeros((1, 1), np.uint8), ValueError, "1 x 1.*at least 2 x 2"),
        (np.zeros((1, 8), np.uint8), ValueError, "1 x 8.*at least 2 x 2"),
        (torch.rand(3, 8, 1), ValueError, "8 x 1.*at least 2 x 2"),
        (Image.new("L", (1, 1)), ValueError, "1 x 1.*at least 2 x 2"),
        (Image.new("RGB", (0, 5)), ValueError, "at least 2 x 2"),
        (np.full((6, 8), np.nan), ValueError, "NaN or infinite.*nan_to_num"),
        (np.full((6, 8, 3), np.inf, np.float16), ValueError, "NaN or infinite"),
        (torch.full((6, 8), -torch.inf), ValueError, "NaN or infinite"),
        (torch.full((4, 6, 8), 0.5).index_fill(0, torch.tensor(3), torch.nan), ValueError, "NaN"),
        (Image.fromarray(np.full((6, 8), np.nan, np.float32)), ValueError, "NaN or infinite"),
        ("no/such.png", FileNotFoundError, r"no/such\.png: no such file; check the path"),
    ],
)
def test_bad_images_are_refused_by_name(argument, image, error, remedy):
    images = {"ir": GREY, "vi": GREY} | {argument: image}
    with pytest.raises(error, match=rf"^{argument}\b.*{remedy}"):
        fuse_images(mean, **images)


def test_one_nan_in_a_large_batch_is_found_even_with_a_given_range():
    batch = torch.rand(3, 1, 6, 8)
    batch[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="vi contains NaN"):
        fuse_images(mean, torch.rand(3, 1, 6, 8), batch, vi_range=(0, 1))


def test_differing_sizes_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"ir is 6 x 8 .*vi 6 x 9.*resize='ir' or resize='vi'"):
        fuse_images(mean, GREY, random_array((6, 9)))


@pytest.mark.parametrize(
    ("ir", "vi", "message"),
    [
        ([GREY], GREY, "ir is a list and vi is not"),
        (GREY, [GREY], "vi is a list and ir is not"),
        ([GREY, GREY], [GREY], "ir lists 2 images and vi 1"),
        (torch.rand(2, 1, 6, 8), torch.rand(3, 1, 6, 8), "ir holds 2 images and vi 3"),
        (GREY, torch.rand(3, 1, 6, 8), "ir holds 1 images and vi 3"),
        ([GREY, GREY], [GREY, random_array((9, 9))], r"ir\[1\] is 6 x 8 .*vi\[1\] 9 x 9"),
        ([GREY, np.full((6, 8), np.nan)], [GREY, GREY], r"ir\[1\] contains NaN"),
    ],
)
def test_mismatched_lists_and_batches_are_refused(ir, vi, message):
    with pytest.raises(ValueError, match=message):
        fuse_images(mean, ir, vi)


@pytest.mark.parametrize(
    "options",
    [
        {"resize": "both"},
        {"resize": True},
        {"ir_range": (1, 1)},
        {"ir_range": (5, 2)},
        {"vi_range": (0, float("nan"))},
        {"vi_range": (0, float("inf"))},
        {"vi_range": 255},
        {"vi_range": (0, 1, 2)},
        {"vi_range": "ab"},
        {"value_range": (1, 0)},
        {"vi_range": ("0", "1")},
        {"vi_range": (-1e308, 1e308)},
        {"color": "no"},
        {"color": 0},
        {"grad": 1},
        {"color_from": "rgb"},
        {"device": "cuda:99"},
        {"device": "gpu"},
        {"device": "meta"},
        {"device": 1.5},
        {"batch_size": True},
        {"batch_size": 0},
        {"batch_size": 2.0},
        {"size_multiple": 0},
        {"min_size": -1},
        {"dtype": torch.uint8},
        {"dtype": torch.float8_e4m3fn},
        {"dtype": "float32"},
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}(=.*; pass | must be one of)"):
        fuse_images(mean, GREY, GREY, **options)
    with pytest.raises(InputError, match=f"^{name}"):  # before any file is read
        fuse_images(mean, "no/such.png", "no/such.png", **options)


def test_damaged_file_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"^vi: .*a\.png cannot be read"):
        fuse_images(mean, GREY, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^ir\[1\]: .*a\.png cannot be read"):
        fuse_images(mean, [GREY, tmp_path / "a.png"], [GREY, GREY])


def test_network_that_breaks_its_promise_is_reported():
    with pytest.raises(RuntimeError, match="network gave NaN"):
        fuse_images(lambda ir, vi: vi * torch.nan, GREY, GREY)
    with pytest.raises(RuntimeError, match=r"network gave \(1, 2, 6, 8\) for \(1, 1, 6, 8\)"):
        fuse_images(lambda ir, vi: torch.cat([ir, vi], 1), GREY, GREY)
    with pytest.raises(RuntimeError, match="network gave tuple"):
        fuse_images(lambda ir, vi: (ir, vi), GREY, GREY)


def test_infinite_output_is_clipped():
    assert (fuse_images(lambda ir, vi: vi + torch.inf, GREY, GREY) == 255).all()


# -- side effects -----------------------------------------------------------------------------


def spoil(ir, vi):
    """A network that overwrites its inputs."""
    fused = (ir + vi) / 2
    ir.fill_(0.3)
    vi.fill_(0.7)
    return fused


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("as_array", [True, False])
def test_inputs_are_not_modified_and_do_not_share_memory(dtype, channels, as_array):
    ir = (torch.rand(1, 6, 8) * (1 if dtype.is_floating_point else 200)).to(dtype)
    vi = (torch.rand(channels, 6, 8) * (1 if dtype.is_floating_point else 200)).to(dtype)
    if as_array:
        ir, vi = ir[0].numpy(), vi.permute(1, 2, 0).contiguous().numpy()
    before = ir.copy() if as_array else ir.clone(), vi.copy() if as_array else vi.clone()
    expected = fuse_images(mean, ir, vi)
    fused = fuse_images(spoil, ir, vi)
    np.testing.assert_array_equal(np.asarray(fused), np.asarray(expected))
    for network in (lambda ir, vi: vi, lambda ir, vi: ir):
        fused = fuse_images(network, ir, vi)
        fused[...] = 0
        np.testing.assert_array_equal(np.asarray(ir), np.asarray(before[0]))
        np.testing.assert_array_equal(np.asarray(vi), np.asarray(before[1]))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad])
def test_global_state_is_as_before(grad, outside):
    vi = torch.rand(3, 6, 8)
    random_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    try:
        with outside():
            enabled = torch.is_grad_enabled()
            fused = fuse_images(mean, vi, vi, grad=grad)
            with pytest.raises(ValueError, match="NaN"):
                fuse_images(mean, vi, vi * torch.nan, grad=grad)
            assert torch.is_grad_enabled() == enabled
        assert torch.get_default_dtype() == torch.float64
        assert fused.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_pil_image_stays_as_it_was():
    image = Image.fromarray(random_array((6, 8, 3))).quantize(8)
    image.getexif()[0x0112] = 6
    pixels = np.asarray(image).copy()
    fuse_images(mean, random_array((8, 6)), image)
    assert (image.mode, image.size) == ("P", (8, 6))
    assert image.getexif()[0x0112] == 6
    np.testing.assert_array_equal(np.asarray(image), pixels)


def small_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 3, padding=1)
        )
    return layers.eval()


def test_same_bits_again_and_from_threads():
    layers = small_network()

    def network(ir, vi):
        return layers(torch.cat([ir, vi], 1)).sigmoid()

    pairs = [
        (random_array((40 + i % 5, 50), seed=i), random_array((40 + i % 5, 50, 3), seed=100 + i))
        for i in range(24)
    ]
    alone = [fuse_images(network, ir, vi, size_multiple=4) for ir, vi in pairs]
    with ThreadPoolExecutor(6) as pool:
        threaded = list(
            pool.map(lambda pair: fuse_images(network, *pair, size_multiple=4), pairs * 3)
        )
    for expected, fused in zip(alone * 3, threaded, strict=True):
        np.testing.assert_array_equal(fused, expected)


def test_batch_size_changes_only_rounding():
    layers = small_network()

    def network(ir, vi):
        return layers(torch.cat([ir, vi], 1)).sigmoid()

    ir, vi = torch.rand(5, 1, 20, 30), torch.rand(5, 3, 20, 30)
    one, all_at_once = (fuse_images(network, ir, vi, batch_size=size) for size in (1, 5))
    torch.testing.assert_close(one, all_at_once, rtol=0, atol=1e-6)


# -- devices ----------------------------------------------------------------------------------


def test_device_may_be_a_name():
    vi = torch.rand(1, 6, 8)
    assert fuse_images(mean, vi, vi, device="cpu").device == vi.device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_cuda(dtype, channels):
    vi = (torch.rand(2, channels, 40, 50) * (1 if dtype.is_floating_point else 250)).to(dtype)
    ir = (torch.rand(2, 1, 40, 50) * 250).to(torch.uint8)
    expected = fuse_images(mean, ir, vi)
    tolerance = 1e-5 if dtype.is_floating_point else 1
    on_device = fuse_images(mean, ir.cuda(), vi.cuda())
    assert on_device.device.type == "cuda"
    torch.testing.assert_close(on_device.cpu().double(), expected.double(), rtol=0, atol=tolerance)
    from_host = fuse_images(mean, ir, vi, device="cuda")
    assert from_host.device.type == "cpu"
    torch.testing.assert_close(from_host.double(), expected.double(), rtol=0, atol=tolerance)


# -- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"color": False},
        {"size_multiple": 4, "min_size": 12},
        {"value_range": (-1, 1)},
        {"vi_range": (-1, 3), "ir_range": (-2, 2)},
        {"batch_size": 2},
    ],
    ids=str,
)
def test_gradients_are_right(channels, options):
    generator = torch.Generator().manual_seed(0)
    # Away from 0 and 1, where clipping has a kink.
    ir = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator) * 0.2 + 0.4
    vi = torch.rand(2, channels, 4, 5, dtype=torch.float64, generator=generator) * 0.2 + 0.4

    def fuse(ir, vi):
        return fuse_images(
            lambda ir, vi: ir * vi / 4 + vi / 2, ir, vi, dtype=torch.float64, grad=True, **options
        )

    assert torch.autograd.gradcheck(fuse, (ir.requires_grad_(), vi.requires_grad_()))


@pytest.mark.parametrize("resize", ["ir", "vi"])
def test_gradients_pass_through_resizing(resize):
    ir = torch.rand(1, 4, 5, requires_grad=True)
    vi = torch.rand(3, 8, 7, requires_grad=True)
    fuse_images(mean, ir, vi, resize=resize, grad=True).sum().backward()
    assert ir.grad.abs().sum() > 0
    assert vi.grad.abs().sum() > 0


def test_gradients_reach_radiance_and_network():
    weight = nn.Parameter(torch.tensor(0.5))
    ir = torch.rand(6, 8, requires_grad=True)
    vi = (torch.rand(3, 6, 8) * 300).requires_grad_()
    fused = fuse_images(lambda ir, vi: vi + weight * (ir - vi), ir, vi, grad=True)
    fused.sum().backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in (weight, ir, vi))


def test_gradients_of_lists():
    vis = [torch.rand(1, 6, 8, requires_grad=True), torch.rand(3, 9, 8, requires_grad=True)]
    irs = [random_array((6, 8)), torch.rand(9, 8)]
    for fused in fuse_images(mean, irs, vis, grad=True):
        fused.sum().backward()
    assert all(vi.grad is not None for vi in vis)


def test_without_grad_results_are_ordinary_tensors():
    vi = torch.rand(3, 6, 8, requires_grad=True)
    fused = fuse_images(mean, vi, vi)
    assert not fused.requires_grad
    assert not fused.is_inference()
    weight = torch.ones(1, requires_grad=True)
    (fused * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("vi", [GREY, TENSOR, Image.fromarray(GREY)], ids=["array", "uint8", "pil"])
def test_grad_needs_a_float_tensor(vi):
    with pytest.raises(ValueError, match="grad=True needs vi as a float tensor"):
        fuse_images(mean, GREY, vi, grad=True)
