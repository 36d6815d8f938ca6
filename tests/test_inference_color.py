"""Colour conversion and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.inference import normalise, pad_to, rgb_to_ycbcr, to_grey, ycbcr_to_rgb


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-7), (torch.float64, 1e-15)])
def test_round_trip_is_exact_to_rounding(dtype, tolerance):
    rgb = torch.rand(2, 3, 40, 50, dtype=dtype)
    back = ycbcr_to_rgb(rgb_to_ycbcr(rgb))
    torch.testing.assert_close(back, rgb, rtol=0, atol=tolerance)


def test_every_8_bit_colour_returns_unchanged():
    steps = torch.arange(0, 256, 5, dtype=torch.uint8)
    rgb = torch.cartesian_prod(steps, steps, steps).T.reshape(3, len(steps), -1)
    back = ycbcr_to_rgb(rgb_to_ycbcr(rgb / 255))
    assert torch.equal((back * 255).round().to(torch.uint8), rgb)


def test_agrees_with_pillow_within_its_rounding():
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(float)
    ours = rgb_to_ycbcr(normalise(rgb)).permute(1, 2, 0).numpy() * 255
    # Pillow centres chroma at 128 and we at 0.5, that is 127.5; it truncates somewhere inside.
    centred = np.clip(ours + np.array([0, 0.5, 0.5]), 0, 255)
    assert np.abs(centred - theirs).max() <= 1.1


def test_known_colours():
    red, white = torch.tensor([1.0, 0, 0]), torch.ones(3)
    colours = rgb_to_ycbcr(torch.stack([red, white], 1)[:, None])
    torch.testing.assert_close(colours[:, 0, 0], torch.tensor([0.299, 0.5 - 0.299 / 1.772, 1.0]))
    assert colours[:, 0, 1].tolist() == [1.0, 0.5, 0.5]


def test_grey_is_exact_both_ways():
    grey = torch.rand(1, 1, 30, 30)
    ycbcr = rgb_to_ycbcr(grey.expand(1, 3, 30, 30))
    assert torch.equal(ycbcr[:, :1], grey)
    assert (ycbcr[:, 1:] == 0.5).all()
    assert torch.equal(ycbcr_to_rgb(ycbcr), grey.expand(1, 3, 30, 30))
    assert torch.equal(to_grey(grey.expand(1, 3, 30, 30)), grey)
    assert to_grey(grey) is grey


def test_gradients():
    rgb = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ycbcr_to_rgb(rgb_to_ycbcr(x) ** 2), rgb)


@pytest.mark.parametrize("convert", [rgb_to_ycbcr, ycbcr_to_rgb, to_grey])
@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 5, 5)])
def test_wrong_shapes_are_refused(convert, shape):
    with pytest.raises(ValueError, match="shape"):
        convert(torch.rand(shape))


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"uint8.*floats"):
        rgb_to_ycbcr(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("size", [(33, 47), (16, 17), (17, 16), (2, 2), (1, 5), (32, 32)], ids=str)
def test_pad_to_mirrors_or_repeats_at_the_far_end(size):
    image = torch.rand(1, 2, *size)
    padded = pad_to(image, 8, 32)
    assert torch.equal(padded[..., : size[0], : size[1]], image)
    for axis, side in zip((2, 3), size, strict=True):
        extra = padded.shape[axis] - side
        assert padded.shape[axis] == max(32, -(-side // 8) * 8)
        if extra:
            first = padded.select(axis, side)
            mirrored = extra < side
            assert torch.equal(first, padded.select(axis, side - 2 if mirrored else side - 1))
            assert torch.equal(
                padded.select(axis, side + extra - 1),
                padded.select(axis, side - 1 - extra if mirrored else side - 1),
            )


def test_pad_to_without_need_returns_the_image():
    image = torch.rand(1, 1, 32, 40)
    assert pad_to(image, 8, 32) is image
    assert pad_to(image) is image


def test_pad_to_uses_the_multiple_above_the_minimum():
    assert pad_to(torch.rand(1, 1, 5, 45), 8, 20).shape == (1, 1, 24, 48)


def test_normalise():
    colour = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    unit = normalise(colour)
    assert unit.dtype == torch.float32
    np.testing.assert_array_equal(unit.permute(1, 2, 0).numpy(), colour[..., :3] / np.float32(255))
    assert normalise(np.zeros((5, 6))).shape == (1, 5, 6)
    thermal = np.arange(7000, 7030, dtype=np.uint16).reshape(5, 6)
    assert normalise(thermal).aminmax() == (0, 1)
    assert normalise(thermal, (0, 14058)).median() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match=r"batch of 2.*one by one"):
        normalise(torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match="pair 3: ir contains NaN"):
        normalise(np.full((4, 4), np.nan), name="pair 3: ir")
