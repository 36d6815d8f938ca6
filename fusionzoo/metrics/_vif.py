"""Kernels of pixel-domain visual information fidelity: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fusionzoo.metrics._filters import gaussian, separable
from fusionzoo.metrics._intensity import centred
from fusionzoo.metrics._structure import need_size

# Window sizes 2^(5-s)+1 of the four scales; the standard deviation is a fifth of the size.
WINDOWS = (17, 9, 5, 3)
_TINY = 1e-10


class ScaleMaps(NamedTuple):
    """Information maps of one source at one scale, each (N,1,h,w)."""

    kept: Tensor  # what the fused image tells about the source
    present: Tensor  # what the source tells
    gain: Tensor  # regression of the fused image on the source


def scale_maps(
    fused: Tensor, sources: tuple[Tensor, ...], noise: float, *, saturate_first: bool = False
) -> Iterator[list[ScaleMaps]]:
    """For each scale that fits into the image, one ScaleMaps per source.

    ``saturate_first`` cuts the products of the first scale to 255, as uint8 arithmetic does.
    """
    need_size(fused, WINDOWS[0], "VIF")
    count, times = fused.shape[0], (len(sources), 1, 1, 1)
    # Apart from each other: where sources need no gradient, none of their filters is recorded.
    images, originals = fused, torch.cat(sources)
    for scale, size in enumerate(WINDOWS):
        taps = gaussian(size, size / 5)
        if scale:
            if min(images.shape[-2:]) < size:
                return
            images = separable(images, taps, stride=2)
            originals = separable(originals, taps, stride=2)
        if min(images.shape[-2:]) < size:
            return
        saturate = saturate_first and scale == 0
        # Variances do not change when the mean is taken off, and lose fewer digits then.
        distorted, reference = (
            (images, originals) if saturate else (centred(images), centred(originals))
        )
        mixed = distorted.repeat(times) * reference
        power, source_power = distorted.square(), reference.square()
        if saturate:
            mixed, power, source_power = (i.clamp(max=255) for i in (mixed, power, source_power))
        moments = separable(torch.cat([distorted, power, mixed]), taps)
        means, power, mixed = torch.split(moments, [count, count, len(mixed)])
        source_means, source_power = separable(torch.cat([reference, source_power]), taps).chunk(2)
        variance = (power - means.square()).clamp_min(0).repeat(times)
        source_variance = (source_power - source_means.square()).clamp_min(0)
        covariance = mixed - means.repeat(times) * source_means
        maps = _information(covariance, source_variance, variance, noise)
        by_source = (torch.split(values, count) for values in maps)
        yield [ScaleMaps(*part) for part in zip(*by_source, strict=True)]


def _information(
    covariance: Tensor, source_variance: Tensor, fused_variance: Tensor, noise: float
) -> ScaleMaps:
    gain = covariance / (source_variance + _TINY)
    residual = fused_variance - gain * covariance
    flat_source = source_variance < _TINY
    flat_fused = fused_variance < _TINY
    source_variance = source_variance.masked_fill(flat_source, 0)
    unrelated = flat_source | flat_fused | (gain < 0)
    gain = gain.masked_fill(unrelated, 0)
    # Where the gain is dropped, all of the fused image's variance is distortion.
    residual = torch.where(unrelated, fused_variance, residual).clamp_min(_TINY)
    kept = (gain.square() * source_variance / (residual + noise)).log1p()
    present = (source_variance / noise).log1p()
    return ScaleMaps(kept, present, gain)


def vif(
    fused: Tensor,
    sources: tuple[Tensor, ...],
    *,
    noise: float = 2.0,
    saturate_first: bool = False,
) -> list[Tensor]:
    """Fidelity to each source; 1 for a constant source, which has nothing to keep."""
    kept = [fused.new_zeros(())] * len(sources)
    present = [fused.new_zeros(())] * len(sources)
    for maps in scale_maps(fused, sources, noise, saturate_first=saturate_first):
        for i, at in enumerate(maps):
            kept[i] = kept[i] + at.kept.flatten(1).sum(1)
            present[i] = present[i] + at.present.flatten(1).sum(1)
    return [
        torch.where(p > 0, k / torch.where(p > 0, p, 1.0), 1.0)
        for k, p in zip(kept, present, strict=True)
    ]


def viff(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Han et al. 2013: at every position the source with the smaller gain counts."""
    total = fused.new_zeros(())
    weights = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)
    used = 0.0
    for weight, (of_ir, of_vi) in zip(
        weights, scale_maps(fused, (ir, vi), 0.005 * 255**2), strict=False
    ):
        take_ir = of_ir.gain < of_vi.gain
        kept = torch.where(take_ir, of_ir.kept, of_vi.kept).flatten(1).sum(1)
        present = torch.where(take_ir, of_ir.present, of_vi.present).flatten(1).sum(1)
        ratio = torch.where(present > 0, kept / torch.where(present > 0, present, 1.0), 1.0)
        total = total + weight * ratio
        used += weight
    # Scales that do not fit into a small image are left out.
    return total / used
