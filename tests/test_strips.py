"""Windows of an image: they tile it, fit their budget, and give what the whole image gives."""

import itertools

import pytest
import torch
from torch import nn

from fusionzoo.strips import (
    WHOLE,
    convolve,
    in_windows,
    pixels_within,
    trim,
    windows,
)

SIZES = [(1, 1), (1, 300), (40, 30), (97, 83), (300, 2)]


def size(index):
    _, rows, columns = index
    return rows.stop - rows.start, columns.stop - columns.start


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("halo", [0, 1, 5])
@pytest.mark.parametrize("pixels", [1, 500, 10**9])
def test_windows_tile_the_image_and_reach_as_far_as_the_halo(shape, halo, pixels):
    times = torch.zeros(shape, dtype=torch.int)
    for window in windows(*shape, halo, pixels):
        times[window.place] += 1
        reach = []
        for length, place, around in zip(shape, window.place[1:], window.around[1:], strict=True):
            for inside, end in ((place.start, 0), (length - place.stop, length)):
                expected = halo if inside else 0
                found = place.start - around.start if end == 0 else around.stop - place.stop
                assert found == expected, "a halo is whole, or the image ends there"
                reach.append(int(not inside))
        top, bottom, left, right = reach
        assert window.edges == (left, right, top, bottom)
    assert (times == 1).all()


@pytest.mark.parametrize("halo", [0, 3, 12])
@pytest.mark.parametrize("pixels", [4000, 10_000, 40_000])
@pytest.mark.parametrize("shape", [(480, 640), (100, 3000)], ids=str)
def test_windows_fit_their_budget(shape, halo, pixels):
    sizes = [size(window.around) for window in windows(*shape, halo, pixels)]
    assert max(rows * columns for rows, columns in sizes) <= pixels
    assert len(sizes) > 1


def test_windows_of_too_small_a_budget_are_two_halos_wide():
    assert {size(w.place) for w in windows(40, 60, 5, 1)} == {(10, 10)}
    assert [size(w.place) for w in windows(7, 8, 5, 1)] == [(7, 8)], "the image is smaller"


def test_strips_of_whole_rows_where_these_are_high_beside_their_halo():
    strips = list(windows(480, 640, 1, 30_000))
    assert len(strips) > 1
    assert all(window.place[2] == slice(0, 640) for window in strips)
    squares = [size(window.around) for window in windows(480, 640, 12, 30_000)]
    assert max(rows / columns + columns / rows for rows, columns in squares) < 2.5


def test_pixels_within_a_budget():
    image = torch.zeros(2, 1, 5, 5)
    assert pixels_within(image, channels=8, budget=6400) == 100
    assert pixels_within(image.double(), channels=8, budget=6400) == 50
    assert pixels_within(image, channels=8, budget=1) == 1
    assert pixels_within(image, channels=16) == 2**25 // (2 * 16 * 4)


class Net(nn.Module):
    """Two convolutions, one of them dilated, and a residual: reaches 4 pixels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=3, dilation=3, groups=2)

    def forward(self, x, edges=WHOLE):
        inner = convolve(self.first, x, edges).relu()
        outer = convolve(self.second, inner, edges)
        return outer + trim(inner, *outer.shape[2:], edges)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("pixels", [1, 900, 10**9])
def test_a_network_gives_the_same_in_windows(shape, pixels):
    torch.manual_seed(0)
    net = Net().double()
    x = torch.rand(2, 2, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = net.second(net.first(x).relu()) + net.first(x).relu()
        kept_small = in_windows(net, x, halo=4, pixels=pixels)
        # A network that knows nothing of edges pads everywhere; the halo is cut off afterwards.
        cut_off = in_windows(lambda part, _: net(part), x, halo=4, pixels=pixels)
        assert torch.allclose(kept_small, expected, atol=1e-12)
        assert torch.allclose(cut_off, expected, atol=1e-12)
        total = torch.ones_like(expected)
        assert in_windows(net, x, halo=4, pixels=pixels, add_to=total) is total
        assert torch.allclose(total, expected + 1, atol=1e-12)


def test_too_short_a_halo_shows():
    torch.manual_seed(0)
    net, x = Net(), torch.rand(1, 2, 60, 50)
    with torch.no_grad():
        found = in_windows(lambda part, _: net(part), x, halo=3, pixels=900)
        assert not torch.allclose(found, net(x), atol=1e-4)


def test_several_images_are_cut_alike():
    one, two = torch.rand(2, 1, 3, 40, 50)
    found = in_windows(lambda a, b, _: a - b, one, two, halo=0, pixels=100)
    assert torch.equal(found, one - two)


def test_layers_compute_nothing_that_is_cut_off():
    heights = []

    class Watched(Net):
        def forward(self, x, edges=WHOLE):
            y = super().forward(x, edges)
            heights.append((y.shape[2], y.shape[3]))
            return y

    image = torch.rand(1, 2, 90, 40)
    places = [size(window.place) for window in windows(90, 40, 4, 1200)]
    with torch.no_grad():
        in_windows(Watched(), image, halo=4, pixels=1200)
    assert heights == places
    assert sum(itertools.starmap(int.__mul__, heights)) == 90 * 40
