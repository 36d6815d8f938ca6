"""Kernels on gradients and structural similarity: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionzoo.errors import InputError
from fusionzoo.metrics._filters import gaussian, separable, sobel
from fusionzoo.metrics._intensity import image_mean, safe_sqrt

# Wang, Simoncelli, Bovik 2003: exponents of the five scales.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GAUSSIAN_SIZE = 11


def need_size(images: Tensor, size: int, metric: str) -> None:
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise InputError(
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


def _ssim_maps(
    x: Tensor, y: Tensor, taps: tuple[float, ...], data_range: float, sample: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Map of SSIM and map of its contrast-structure factor, where the window fits."""
    # Variances do not change when a constant is taken off, and lose fewer digits then.
    shift = x.detach().mean(dim=(1, 2, 3), keepdim=True)
    x, y = x - shift, y - shift
    # Apart from each other: where y needs no gradient, none of its filters is recorded.
    mean_x, xx, xy = separable(torch.cat([x, x * x, x * y]), taps).chunk(3)
    mean_y, yy = separable(torch.cat([y, y * y]), taps).chunk(2)
    var_x = sample * (xx - mean_x.square())
    var_y = sample * (yy - mean_y.square())
    cov = sample * (xy - mean_x * mean_y)
    mean_x, mean_y = mean_x + shift, mean_y + shift
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance * structure, structure


def gaussian_ssim(fused: Tensor, source: Tensor, *, data_range: float = 255.0) -> Tensor:
    """SSIM in an 11x11 Gaussian window of sd 1.5.

    Equal to kornia's with padding="valid". torchmetrics averages over a reflected border too.
    """
    need_size(fused, GAUSSIAN_SIZE, "ssim")
    return image_mean(_ssim_maps(fused, source, gaussian(GAUSSIAN_SIZE, 1.5), data_range)[0])


def uniform_ssim(
    fused: Tensor, source: Tensor, *, data_range: float = 255.0, size: int = 7
) -> Tensor:
    """SSIM in a uniform window with sample (n-1) variances, as scikit-image has by default."""
    need_size(fused, size, "ssim")
    sample = size**2 / (size**2 - 1)
    return image_mean(_ssim_maps(fused, source, (1 / size,) * size, data_range, sample)[0])


def ms_ssim(fused: Tensor, source: Tensor, *, data_range: float = 255.0) -> Tensor:
    """Product over up to five scales, halved by 2x2 means; negative factors count as 0."""
    need_size(fused, GAUSSIAN_SIZE, "ms_ssim")
    taps = gaussian(GAUSSIAN_SIZE, 1.5)
    room = min(fused.shape[-2:]) // GAUSSIAN_SIZE
    weights = MS_SSIM_WEIGHTS[: room.bit_length()]
    product = fused.new_ones(())
    for scale, weight in enumerate(weights):
        if scale:
            fused, source = F.avg_pool2d(fused, 2), F.avg_pool2d(source, 2)
        whole, structure = _ssim_maps(fused, source, taps, data_range)
        factor = image_mean(whole if scale == len(weights) - 1 else structure)
        product = product * factor.clamp_min(0) ** (weight / sum(weights))
    return product


def mef_ms_ssim(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Structural similarity to the patch that both sources together would give.

    Ma, Zeng, Wang 2015, three scales. The desired patch is a weighted sum of the sources with
    means taken off, so its moments follow from those of the sources: a few filters do.
    """
    need_size(fused, GAUSSIAN_SIZE, "MS_SSIM")
    room = min(fused.shape[-2:]) // GAUSSIAN_SIZE
    weights = MS_SSIM_WEIGHTS[:3][: room.bit_length()]
    product = fused.new_ones(())
    for scale, weight in enumerate(weights):
        if scale:
            fused, ir, vi = (_halve(image) for image in (fused, ir, vi))
        product = product * _mef_ssim(fused, ir, vi).clamp_min(0) ** (weight / sum(weights))
    return product


def _halve(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return F.avg_pool2d(F.pad(images, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def _mef_ssim(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    f, a, b = (i - i.mean(dim=(1, 2, 3), keepdim=True) for i in (fused, ir, vi))
    maps = torch.cat([f, a, b, f * f, a * a, b * b, f * a, f * b, a * b])

    def moments(taps: tuple[float, ...]) -> tuple[Tensor, ...]:
        mf, ma, mb, ff, aa, bb, fa, fb, ab = separable(maps, taps).chunk(9)
        return (
            (ff - mf * mf).clamp_min(0),
            (aa - ma * ma).clamp_min(0),
            (bb - mb * mb).clamp_min(0),
            fa - mf * ma,
            fb - mf * mb,
            ab - ma * mb,
        )

    area = GAUSSIAN_SIZE**2
    _, aa, bb, _, _, ab = moments((1 / GAUSSIAN_SIZE,) * GAUSSIAN_SIZE)
    norm_a, norm_b = safe_sqrt(area * aa), safe_sqrt(area * bb)
    norm_sum = safe_sqrt((area * (aa + bb + 2 * ab)).clamp_min(0))
    tiny = torch.finfo(torch.float64).eps
    # 1 where both sources have the same structure; then the stronger one takes all.
    consistency = ((norm_sum + tiny) / (norm_a + norm_b + tiny)).clamp(0, 1)
    power = torch.tan(torch.pi / 2 * consistency).clamp(max=10)
    power = torch.where(consistency >= 1, 10.0, power)
    ed_a, ed_b = norm_a + 0.001, norm_b + 0.001
    # Ratio of the weights by logarithms: their powers leave float32.
    share_a = torch.sigmoid(power * (ed_a.log() - ed_b.log()))
    alpha, beta = share_a / ed_a, (1 - share_a) / ed_b
    length = area * (alpha**2 * aa + beta**2 * bb + 2 * alpha * beta * ab)
    length = safe_sqrt(length.clamp_min(0))
    stretch = torch.maximum(ed_a, ed_b) / torch.where(length > 0, length, 1.0)
    alpha, beta = alpha * stretch, beta * stretch

    ff, aa, bb, fa, fb, ab = moments(gaussian(GAUSSIAN_SIZE, 1.5))
    wanted = alpha**2 * aa + beta**2 * bb + 2 * alpha * beta * ab
    mixed = alpha * fa + beta * fb
    constant = (0.03 * 255) ** 2
    return image_mean((2 * mixed + constant) / (wanted + ff + constant))
