"""Kernels with a model of human contrast perception: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionzoo.metrics._filters import gaussian, separable, sobel


def stretched(images: Tensor) -> Tensor:
    """Each image spread over 0...255 and rounded; a constant one becomes 0."""
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    span = images.amax(dim=(1, 2, 3), keepdim=True) - low
    flat = span == 0
    spread = (images - low) / torch.where(flat, 1.0, span) * 255
    return (spread + 0.5).floor()


def _radius(images: Tensor, per_height: float, per_width: float) -> Tensor:
    """Frequency radius for rfft2, where 1 in each direction is the Nyquist frequency."""
    height, width = images.shape[-2:]
    options = {"dtype": images.dtype, "device": images.device}
    v = torch.fft.fftfreq(height, **options) * 2 * per_height
    u = torch.fft.rfftfreq(width, **options) * 2 * per_width
    return torch.hypot(v[:, None], u[None])


def _filtered(images: Tensor, response: Tensor) -> Tensor:
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * response, s=images.shape[-2:])
    return filtered


def qcv(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    border: str = "replicate",
    pad_blocks: bool = False,
    window: int = 16,
) -> Tensor:
    """Chen and Varshney 2007: squared error seen through a contrast filter, by salient block.

    ``pad_blocks`` fills the last, partial blocks with zeros instead of averaging what is there.
    """
    height, width = fused.shape[-2:]
    sources = torch.cat([ir, vi])
    radius = _radius(fused, height / 8, width / 8)
    # Mannos and Sakrison 1974.
    seen = 2.6 * (0.0192 + 0.144 * radius) * torch.exp(-((0.144 * radius) ** 1.1))
    error = _filtered(sources - fused.repeat(2, 1, 1, 1), seen).square()
    along_w, along_h = sobel(sources, border)
    # Fifth power of the edge strength; divided by its largest value to stay in range.
    power = along_w.square() + along_h.square()
    strongest = power.view(2, len(fused), -1).amax(dim=(0, 2)).repeat(2).view(-1, 1, 1, 1)
    power = (power / torch.where(strongest > 0, strongest, 1.0)) ** 2.5
    rest = (0, -width % window, 0, -height % window)
    saliency = F.avg_pool2d(F.pad(power, rest), window) * window**2
    if pad_blocks:
        error = F.avg_pool2d(F.pad(error, rest), window)
    else:
        error = F.avg_pool2d(error, window, ceil_mode=True)
    # Nothing is salient in constant sources: every block counts the same.
    weight = torch.where(strongest > 0, saliency, 1.0)
    top = (weight * error).flatten(1).sum(1).view(2, -1).sum(0)
    return top / weight.flatten(1).sum(1).view(2, -1).sum(0)


def qcb(fused: Tensor, ir: Tensor, vi: Tensor, *, border: str = "replicate") -> Tensor:
    """Chen and Blum 2009: how much of the sources' perceived local contrast is kept."""
    height, width = fused.shape[-2:]
    images = torch.cat([fused, ir, vi])
    radius = _radius(images, height / 30, width / 30)
    sensitivity = torch.exp(-((radius / 15.3870) ** 2)) - 0.7622 * torch.exp(
        -((radius / 1.3456) ** 2)
    )
    images = _filtered(images, sensitivity)
    # Samples of the density on 31x31 pixels, not normalised: the wide one loses a little mass.
    narrow, wide = (gaussian(31, sigma, normalised=False) for sigma in (2, 4))
    mode = "constant" if border == "zero" else border
    images = F.pad(images, (15, 15, 15, 15), mode=mode)
    around, at = separable(images, wide), separable(images, narrow)
    dark = around == 0
    contrast = (at / torch.where(dark, 1.0, around) - 1).abs()
    contrast = torch.where(dark, 0.0, contrast)
    masked = contrast**3 / (contrast**2 + 0.0001)
    of_fused, of_ir, of_vi = masked.chunk(3)
    squares = of_ir.square() + of_vi.square()
    flat = squares == 0
    # Two regions without any contrast are equally salient.
    share_ir = torch.where(flat, 0.5, of_ir.square() / torch.where(flat, 1.0, squares))
    quality = share_ir * _kept(of_fused, of_ir) + (1 - share_ir) * _kept(of_fused, of_vi)
    return quality.flatten(1).mean(1)


def _kept(first: Tensor, second: Tensor) -> Tensor:
    """Smaller over larger contrast, 1 where both are 0."""
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    return torch.where(high > 0, low / torch.where(high > 0, high, 1.0), 1.0)
