"""Large images go through the network tile by tile, and nobody sees it."""

import contextlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import fusionzoo
from fusionzoo import strips
from fusionzoo.errors import InputError, OutOfMemoryError, ResultError
from fusionzoo.inference import engine, fuse_images, memory, tiles
from fusionzoo.inference.memory import AllocatedBytes, measured_bytes_per_pixel
from fusionzoo.inference.tiles import halo_of
from fusionzoo.models import MODELS
from fusionzoo.network import CompiledNetwork, ready_copy

ASSETS = "tests/assets"


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request):
    return fusionzoo.load(request.param)


def pair(height, width, of="tno"):
    """A real pair, repeated or cropped to a size: ``(1, 1, H, W)`` in [0, 1] each."""
    for side in ("ir", "vi"):
        with Image.open(f"{ASSETS}/data_{of}_{side}.png") as image:
            values = np.asarray(image.convert("L"), dtype=np.float32) / 255
        times = [
            -(-length // have) for length, have in zip((height, width), values.shape, strict=True)
        ]
        yield torch.from_numpy(np.tile(values, times)[None, None, :height, :width].copy())


# -- the models -------------------------------------------------------------------------------


def test_tiles_give_what_the_whole_image_gives(model):
    network = model.network
    # Two tiles: as small as they get.
    height = 4 * halo_of(network.reach, network.size_multiple, network.min_size)
    ir, vi = pair(height, 16)
    calls = []
    whole = model.fuse(ir, vi, tile="off")
    original = tiles._inner_of

    def counted(tile):
        calls.append(tile)
        return original(tile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_inner_of", counted)
        tiled = model.fuse(ir, vi, tile=1)
    assert len({str(tile.place) for tile in calls}) >= 2
    assert (tiled - whole).abs().max() < 1e-5


def test_networks_take_no_more_memory_than_they_declare(model, monkeypatch):
    # Tensors without values count for the memory and cost no time.
    monkeypatch.setitem(strips._BUDGET, "meta", strips._BUDGET["cpu"])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    network = ready_copy(model.network, torch.device("meta"), torch.float32)
    images = torch.empty(2, 1, 1, 320, 480, device="meta")
    with AllocatedBytes() as allocated:
        network(*images)
    # Beside what grows with the image there are windows, whose size does not.
    declared = model.network.bytes_per_pixel * images[0].numel()
    assert 0.15 * declared < allocated.peak <= declared + memory.ALWAYS_THERE / 2
    if hasattr(network, "fuse_part"):  # as in tiles
        with AllocatedBytes() as allocated:
            network.fuse_part(*images, lambda *measures, **_: strips.at_once(*measures))
        assert allocated.peak <= declared + memory.ALWAYS_THERE / 2


# -- three kinds of network -------------------------------------------------------------------


class Local(nn.Module):
    """Sees five pixels far, or eight where pixels of the pooled maps begin elsewhere."""

    value_range, size_multiple, min_size = (-1.0, 1.0), 4, 8
    reach = 12

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, ir, vi):
        maps = F.max_pool2d(self.first(torch.cat([ir, vi], 1)), 4)
        return F.interpolate(self.second(maps), scale_factor=4).tanh()


class Global(Local):
    """Also asks for three things of the whole image, of which the second depends on the first."""

    def forward(self, ir, vi):
        return self.finish(self.fuse_part(ir, vi, strips.at_once), strips.at_once)

    def fuse_part(self, ir, vi, over):
        maps = F.max_pool2d(self.first(torch.cat([ir, vi], 1)), 4)
        mean, square = over(
            lambda inner: inner(maps).mean((2, 3), True),
            lambda inner: inner(maps).square().mean((2, 3), True),
        )
        maps = (maps - mean) / (square - mean.square()).sqrt()
        (top,) = over(lambda inner: inner(maps).amax((2, 3), True), how="max")
        (least,) = over(lambda inner: inner(maps).amin((2, 3), True), how="min")
        (count,) = over(lambda inner: inner(ir, (..., slice(0, ir.shape[2]), slice(0, ir.shape[3])))
                        .gt(0).float().sum((2, 3), True), how="sum")  # fmt: skip
        maps = self.second((maps - least) / (top - least)) + count.log() / 10
        return F.interpolate(maps, scale_factor=4)

    def finish(self, fused, over):
        (mean,) = over(lambda inner: inner(fused).mean((2, 3), True))
        return (1.5 * (fused - mean)).tanh()


class Normalised(Local):
    """Statistics of the whole image, and nobody is told."""

    reach = None

    def forward(self, ir, vi):
        return F.instance_norm(torch.cat([ir, vi], 1)).mean(1, keepdim=True).tanh()


def how_of(network):
    names = ("value_range", "size_multiple", "min_size", "reach")
    return {name: getattr(network, name) for name in names}


@pytest.mark.parametrize("kind", [Local, Global])
@pytest.mark.parametrize("size", [(99, 130), (48, 300), (20, 20)], ids=str)
@pytest.mark.parametrize("tile", [1, 40])
def test_exact_tiles(kind, size, tile):
    network = kind().double()
    ir, vi = (image.double() for image in pair(*size))
    how = {**how_of(network), "dtype": torch.float64}
    whole = fuse_images(network, ir, vi, tile="off", **how)
    assert whole.std() > 0.01
    assert torch.allclose(fuse_images(network, ir, vi, tile=tile, **how), whole, atol=1e-12)


def test_too_short_a_reach_or_no_statistics_would_show():
    ir, vi = pair(99, 130)
    network = Local()
    whole = fuse_images(network, ir, vi, tile="off", **how_of(network))
    short = fuse_images(network, ir, vi, tile=1, **how_of(network) | {"reach": 0})
    assert (short - whole).abs().max() > 1e-3
    network = Global()
    how = how_of(network)
    whole = fuse_images(network, ir, vi, tile="off", **how)
    alone = fuse_images(lambda ir, vi: network(ir, vi), ir, vi, tile=1, **how)
    assert (alone - whole).abs().max() > 1e-2


def seams(fused, whole, halo):
    """Mean step between columns at the bounds of tiles and elsewhere, in what tiling changes."""
    steps = (fused - whole).diff(dim=-1).abs().mean((0, 1, 2))
    width = whole.shape[-1]
    bounds = {w.place[2].start for w in strips.windows(*whole.shape[-2:], halo, 1)} - {0}
    at = torch.tensor([column - 1 for column in bounds])
    inside = torch.ones(width - 1, dtype=torch.bool)
    inside[at] = False
    return steps[at].mean(), steps[inside].mean()


def test_blended_tiles_have_no_seams(monkeypatch):
    monkeypatch.setattr(tiles, "BLENDED", 16)
    network = Normalised()
    how = how_of(network)
    ir, vi = pair(128, 192)
    whole = fuse_images(network, ir, vi, tile="off", **how)
    fused = fuse_images(network, ir, vi, tile=1, **how)
    at, inside = seams(fused, whole, 16)
    assert at <= inside * 1.1
    steps = [image.diff(dim=-1).abs().mean() for image in (fused, whole)]
    assert 0.8 < steps[0] / steps[1] < 1.5, "and nothing is smoothed away"

    # Tiles side by side would be seen.
    def hard(length, halo, starts, ends):
        weights = torch.ones(length)
        weights[: 0 if starts else halo] = 0
        weights[length if ends else length - halo :] = 0
        return weights

    monkeypatch.setattr(tiles, "_fade", hard)
    at, inside = seams(fuse_images(network, ir, vi, tile=1, **how), whole, 16)
    assert at > 3 * inside


def test_blended_tiles_of_a_local_network_are_exact():
    network = Local()
    how = how_of(network)
    ir, vi = pair(260, 270)
    whole = fuse_images(network, ir, vi, tile="off", **how)
    assert torch.allclose(
        fuse_images(network, ir, vi, tile=1, **how | {"reach": None}), whole, atol=1e-6
    )


def test_what_a_network_gives_is_checked_in_tiles_too():
    ir, vi = pair(99, 130)
    for run in (lambda ir, vi: vi[..., 1:], lambda ir, vi: None):
        with pytest.raises(ResultError, match="for a tile of"):
            fuse_images(run, ir, vi, tile=1, reach=3)
    with pytest.raises(ResultError, match="NaN"):
        fuse_images(lambda ir, vi: vi * torch.nan, ir, vi, tile=1, reach=3)


def test_arguments_stay_as_they_are_in_tiles():
    ir, vi = pair(60, 50)
    copies = ir.clone(), vi.clone()

    def spoil(ir, vi):
        return ir.mul_(0.5).add_(vi.mul_(0.5))

    fused = fuse_images(spoil, ir, vi, tile=1, reach=3)
    assert torch.equal(ir, copies[0])
    assert torch.equal(vi, copies[1])
    assert torch.allclose(fused, (ir + vi) / 2)


def test_a_compiled_network_has_its_parts_beside_it():
    network, made = Global(), []

    def make():
        made.append(1)
        return network

    compiled = CompiledNetwork(lambda ir, vi: network(ir, vi), make)
    ir, vi = pair(99, 130)
    how = how_of(network)
    whole = fuse_images(compiled, ir, vi, tile="off", **how)
    assert not made
    assert torch.allclose(fuse_images(compiled, ir, vi, tile=1, **how), whole, atol=1e-5)
    assert made == [1]
    assert not hasattr(CompiledNetwork(Local(), Local), "fuse_part")


# -- when images are cut ----------------------------------------------------------------------


def sizes_seen(ir, vi, **how):
    seen = []

    def run(ir, vi):
        seen.append(vi.shape[-2] * vi.shape[-1])
        return (ir + vi) / 2

    expected = (ir + vi) / 2
    assert torch.allclose(fuse_images(run, ir, vi, **how), expected, atol=1e-6)
    return seen


def test_images_are_cut_as_far_as_the_memory_wants(monkeypatch):
    ir, vi = pair(300, 400)
    how = {"reach": 4, "bytes_per_pixel": 1e4}
    for free, most in ((3e9, 120_000), (None, 120_000), (2e9, 99_760), (1e9, 49_760)):
        monkeypatch.setattr(memory, "available_memory", lambda free=free: free)
        seen = sizes_seen(ir, vi, **how)
        assert (len(seen) == 1) == (most == 120_000)
        assert max(seen) <= most
    assert len(sizes_seen(ir, vi, **how, memory=2e9)) == 1
    assert max(sizes_seen(ir, vi, **how, memory=1e8)) <= (1e8 - 20 * 120_000) / 1e4
    with pytest.raises(OutOfMemoryError, match=r"400 x 300 .* however it is cut"):
        sizes_seen(ir, vi, **how, memory=1e6)
    assert max(sizes_seen(ir, vi, **how, tile=100)) <= 100**2
    assert len(sizes_seen(ir, vi, **how, tile=347)) == 1


def test_float64_takes_twice_the_memory():
    ir, vi = pair(300, 400)
    how = {"reach": 4, "bytes_per_pixel": 1e3, "memory": 2e8}
    assert len(sizes_seen(ir, vi, **how)) == 1
    assert len(sizes_seen(ir, vi, **how, dtype=torch.float64)) > 1


def test_memory_of_networks_that_do_not_say_is_measured(monkeypatch):
    def hungry(ir, vi):
        maps = vi.repeat(1, 1000, 1, 1)
        return maps.mul(2).mean(1, keepdim=True)

    ir, vi = pair(24, 24)
    assert 8000 <= measured_bytes_per_pixel(hungry, ir, vi) < 8100
    assert measured_bytes_per_pixel(lambda ir, vi: vi, ir, vi) == memory.DEFAULT_BYTES_PER_PIXEL
    seen = []

    def run(ir, vi):
        seen.append(vi.shape[-1])
        return hungry(ir, vi)

    monkeypatch.setattr(engine, "_SAMPLE", 32)
    ir, vi = pair(16, 400)
    fuse_images(run, ir, vi, reach=4, memory=4e7)
    assert seen[0] == 32, "the first call is the measurement"
    assert max(seen[1:]) < 400


def test_memory_that_is_freed_does_not_count():
    with AllocatedBytes() as allocated:
        x = torch.zeros(1000)
        for _ in range(5):
            x = x + 1
        view = x[10:]
        x.add_(1)
        del view
    assert allocated.peak == 8000
    assert allocated.now == 4000


def test_whole_images_are_few(monkeypatch):
    monkeypatch.setattr(engine, "_AT_ONCE", 1 << 12)
    rng = np.random.default_rng(0)
    vi = rng.integers(0, 256, (300, 250, 3), np.uint8)
    ir = rng.integers(0, 256, (300, 250), np.uint8)
    how = {"reach": 2, "tile": 32}
    with AllocatedBytes() as allocated:
        fused = fuse_images(lambda ir, vi: (ir + vi) / 2, ir, vi, **how)
    # Of the result 3 bytes, of what the engine holds the rest.
    assert allocated.peak / ir.size <= memory.BYTES_BESIDE
    monkeypatch.undo()
    assert np.array_equal(fused, fuse_images(lambda ir, vi: (ir + vi) / 2, ir, vi))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("color", [True, False])
def test_rows_are_converted_as_whole_images_are(monkeypatch, dtype, color):
    rng = np.random.default_rng(0)
    vi = (rng.random((70, 50, 4)) * 200).astype(dtype)
    ir = (rng.random((70, 50)) * 200).astype(dtype)
    run = lambda ir, vi: ir * 0.3 + vi * 0.7  # noqa: E731
    expected = fuse_images(run, ir, vi, color=color)
    monkeypatch.setattr(engine, "_AT_ONCE", 1000)
    fused = fuse_images(run, ir, vi, color=color)
    assert fused.flags.c_contiguous
    assert np.array_equal(fused, expected)


@pytest.mark.parametrize(
    "option",
    [
        *({"tile": value} for value in (0, "on", 2.5, None)),
        *({"memory": value} for value in (0, "2GB", True)),
    ],
    ids=str,
)
def test_wrong_options_are_refused(option):
    (name,) = option
    with pytest.raises(InputError, match=f"^{name}="):
        fuse_images(lambda ir, vi: vi, "no/such.png", "no/such.png", **option)
