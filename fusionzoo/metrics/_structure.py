"""Kernels on gradients and structural similarity: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    structural_similarity_index_measure as _torchmetrics_ssim,
)

from fusionzoo.metrics._filters import separable, sobel
from fusionzoo.metrics._intensity import image_mean, safe_sqrt

# Wang, Simoncelli, Bovik 2003: exponents of the five scales.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GAUSSIAN_SIZE = 11


def need_size(images: Tensor, size: int, metric: str) -> None:
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(
            f"{metric} needs images of at least {size}x{size} pixels, got {height}x{width}; "
            "leave this metric out or measure larger images"
        )


def spatial_frequency(fused: Tensor, *, over_all_pixels: bool = False) -> Tensor:
    """Root of the mean squared differences along W plus those along H.

    ``over_all_pixels`` divides both sums by H*W, although there are fewer differences.
    """
    need_size(fused, 2, "spatial_frequency")
    along_w = (fused[..., 1:] - fused[..., :-1]).square()
    along_h = (fused[..., 1:, :] - fused[..., :-1, :]).square()
    if over_all_pixels:
        pixels = fused.shape[-1] * fused.shape[-2]
        return safe_sqrt((along_w.flatten(1).sum(1) + along_h.flatten(1).sum(1)) / pixels)
    return safe_sqrt(image_mean(along_w) + image_mean(along_h))


def average_gradient(fused: Tensor, *, halved: bool = True, inner_count: bool = False) -> Tensor:
    """Mean length of the central-difference gradient (one-sided at the border).

    ``halved`` puts the 1/2 under the root; ``inner_count`` divides by (H-1)(W-1), not H*W.
    """
    need_size(fused, 2, "average_gradient")
    along_h, along_w = torch.gradient(fused, dim=(2, 3))
    power = along_h.square() + along_w.square()
    mean = image_mean(safe_sqrt(power / 2 if halved else power))
    if inner_count:
        height, width = fused.shape[-2:]
        mean = mean * (height * width / ((height - 1) * (width - 1)))
    return mean


def edge_intensity(fused: Tensor) -> Tensor:
    along_w, along_h = sobel(fused, "replicate")
    return image_mean(safe_sqrt(along_w.square() + along_h.square()))


def grey_level_difference(fused: Tensor) -> Tensor:
    need_size(fused, 2, "grey_level_difference")
    along_w = (fused[..., :-1, 1:] - fused[..., :-1, :-1]).abs()
    along_h = (fused[..., 1:, :-1] - fused[..., :-1, :-1]).abs()
    return image_mean(along_w + along_h)


def gaussian_ssim(fused: Tensor, source: Tensor, *, data_range: float = 255.0) -> Tensor:
    """SSIM in an 11x11 Gaussian window of sd 1.5, where the window fits (torchmetrics)."""
    need_size(fused, GAUSSIAN_SIZE, "ssim")
    values = _torchmetrics_ssim(fused, source, data_range=data_range, reduction="none")
    return values.view(-1)


def uniform_ssim(
    fused: Tensor, source: Tensor, *, data_range: float = 255.0, size: int = 7
) -> Tensor:
    """SSIM in a uniform window with sample (n-1) variances, where the window fits.

    torchmetrics has the uniform window, but only with population variances.
    """
    need_size(fused, size, "ssim")
    # Variances do not change when a constant is taken off, and lose fewer digits then.
    shift = fused.detach().mean(dim=(1, 2, 3), keepdim=True)
    x, y = fused - shift, source - shift
    maps = torch.cat([x, y, x * x, y * y, x * y])
    mean_x, mean_y, xx, yy, xy = separable(maps, (1 / size,) * size).chunk(5)
    sample = size**2 / (size**2 - 1)
    var_x = sample * (xx - mean_x.square())
    var_y = sample * (yy - mean_y.square())
    cov = sample * (xy - mean_x * mean_y)
    mean_x, mean_y = mean_x + shift, mean_y + shift
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    below = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return image_mean(above / below)


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of the five scales of MS-SSIM an image has room for."""
    scales = 1
    while scales < len(MS_SSIM_WEIGHTS) and min(height, width) >= GAUSSIAN_SIZE * 2**scales:
        scales += 1
    return scales
