"""Histogram contrast and Otsu's threshold against literal loops, and their edge cases."""

import pytest
import torch

from fusionzoo.saliency import histogram_contrast, otsu_threshold


def images(seed: int = 0) -> torch.Tensor:
    """Four 9 x 11 images: noise, dark noise with a bright patch, two levels, few levels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(4, 1, 9, 11, generator=generator)
    noise[1] *= 0.3
    noise[1, :, 2:5, 3:6] += 0.6
    noise[2] = (noise[2] > 0.7).float() * 0.5 + 0.2
    noise[3] = (noise[3] * 5).floor() / 5
    return noise


def grey_levels(image: torch.Tensor) -> list[int]:
    return [round(value * 255) for value in image.flatten().tolist()]


def contrast_by_hand(image: torch.Tensor) -> torch.Tensor:
    levels = grey_levels(image)
    saliency = [float(sum(abs(a - b) for b in levels)) for a in levels]
    return torch.tensor(saliency).div(max(*saliency, 1.0)).view(image.shape)


def between_variance(levels: list[int], threshold: float) -> float:
    dark = [level for level in levels if level / 255 <= threshold]
    bright = [level for level in levels if level / 255 > threshold]
    if not dark or not bright:
        return 0.0
    means = sum(dark) / len(dark), sum(bright) / len(bright)
    return len(dark) * len(bright) / len(levels) ** 2 * (means[0] - means[1]) ** 2


def test_histogram_contrast_is_the_distance_to_all_pixels():
    batch = images()
    expected = torch.stack([contrast_by_hand(image) for image in batch])
    torch.testing.assert_close(histogram_contrast(batch), expected)
    assert (expected.amax((1, 2, 3)) == 1).all()


def test_histogram_contrast_takes_each_image_by_itself():
    batch = images()
    alone = torch.cat([histogram_contrast(image[None]) for image in batch])
    assert torch.equal(histogram_contrast(batch), alone)


def test_histogram_contrast_does_not_tell_bright_from_dark():
    batch = images()
    torch.testing.assert_close(histogram_contrast(1 - batch), histogram_contrast(batch))


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_flat_images_have_no_saliency_and_nothing_above_the_threshold(value):
    flat = torch.full((2, 1, 6, 5), value)
    flat[1, 0, 2, 3] = 0.7  # its neighbour in the batch is not flat
    assert (histogram_contrast(flat)[0] == 0).all()
    assert histogram_contrast(flat)[1].amax() == 1
    assert not (flat[0] > otsu_threshold(flat)[0]).any()


def test_otsu_finds_the_largest_variance_between_classes():
    batch = images()
    for image, threshold in zip(batch, otsu_threshold(batch).tolist(), strict=True):
        levels = grey_levels(image)
        best = max(between_variance(levels, (level + 0.5) / 255) for level in range(255))
        assert between_variance(levels, threshold) == pytest.approx(best, rel=1e-6)
        assert best > 0


def test_otsu_lies_midway_between_the_classes():
    image = torch.full((1, 1, 4, 4), 20 / 255)
    image[..., 2:] = 90 / 255
    assert otsu_threshold(image).item() == pytest.approx(55 / 255)


@pytest.mark.parametrize("function", [histogram_contrast, otsu_threshold])
def test_results_are_float32_without_gradient_whatever_autocast_says(function):
    batch = images().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = function(batch)
    assert inside.dtype == torch.float32
    assert not inside.requires_grad
    assert torch.equal(inside, function(batch))
    assert function(batch.detach().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("function", [histogram_contrast, otsu_threshold])
def test_values_outside_the_range_are_clipped(function):
    batch = images() * 3 - 1
    assert torch.equal(function(batch), function(batch.clamp(0, 1)))


@pytest.mark.parametrize("function", [histogram_contrast, otsu_threshold])
@pytest.mark.parametrize(
    "image",
    [
        torch.rand(1, 3, 4, 4),
        torch.rand(4, 4),
        torch.rand(0, 1, 4, 4),
        torch.zeros(1, 1, 4, 4, dtype=torch.uint8),
    ],
    ids=["colour", "plain", "empty", "bytes"],
)
def test_bad_input_names_the_argument(function, image):
    with pytest.raises(ValueError, match="image must be"):
        function(image)
