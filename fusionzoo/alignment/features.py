"""What infrared and visible images share: where edges are and which way they run.

Gradients lose their sign between the two, and their strength. So each edge counts by how much it
stands out where it is, and its direction by the double and the fourfold of its angle, under which
opposite gradients agree. Maps of oriented gradients of this kind are what CFOG compares (Ye et
al., Fast and robust matching for multimodal remote sensing image registration, TGRS 2019); the
double angle is that of the structure tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

#: Width of the first smoothing, against noise, in pixels of the level.
FINE = 1.0
#: Width of the neighbourhood in which an edge has to stand out.
WIDE = 10.0
#: How strong an edge must be, against all of the image, to count at all.
FLOOR = 0.3
#: What the fourfold angle and the strength count beside the double angle.
FOURFOLD, STRENGTH = 0.7, 0.5
#: How many pixels beside missing ones tell nothing.
MARGIN = 3

CHANNELS = 5


def edge_features(images: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps of edges ``(B, 5, H, W)`` of images ``(B, H, W)``, and where they hold.

    Channels: cosine and sine of the double angle, of the fourfold angle, and the strength less its
    local mean. All are 0 where nothing is known.

    Args:
        images: grey, in [0, 1].
        known: 1 where the image shows something, else 0.
    """
    smooth = blurred(images, FINE)
    padded = pad(smooth[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    sure = shrunk(known, MARGIN)
    energy = (across.square() + down.square()) * sure
    share = blurred(sure, WIDE).clamp(min=0.05)
    usual = energy.sum((1, 2), keepdim=True) / sure.sum((1, 2), keepdim=True).clamp(min=1)
    weight = energy / (energy + blurred(energy, WIDE) / share + FLOOR * usual + 1e-9)
    # cos 2a = cos^2 a - sin^2 a, and so on; without any trigonometry.
    total = energy + 1e-12
    cos2 = (across.square() - down.square()) * sure / total
    sin2 = 2 * across * down * sure / total
    maps = torch.stack(
        [
            weight * cos2,
            weight * sin2,
            FOURFOLD * weight * (cos2.square() - sin2.square()),
            FOURFOLD * weight * 2 * cos2 * sin2,
            STRENGTH * weight,
        ],
        1,
    )
    maps = blurred(maps, FINE)
    maps[:, 4] -= blurred(maps[:, 4], WIDE) / share
    return maps * sure[:, None], sure


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Smooth ``(..., H, W)`` by a Gaussian; wide ones work on a quarter of the resolution."""
    height, width = maps.shape[-2:]
    if sigma > 4:
        small = pad(
            maps.reshape(-1, 1, height, width), (0, -width % 4, 0, -height % 4), "replicate"
        )
        small = blurred(avg_pool2d(small, 4), sigma / 4)
        large = interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)
        return large[..., :height, :width].reshape(maps.shape)
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-torch.arange(radius + 1.0).square() / (2 * sigma * sigma))
    weights = (kernel / (2 * kernel.sum() - 1)).tolist()
    for _ in range(2):
        maps = _smoothed_rows(maps, weights).transpose(-1, -2)
    return maps.contiguous()


def _smoothed_rows(maps: Tensor, weights: list[float]) -> Tensor:
    radius, width = len(weights) - 1, maps.shape[-1]
    wide = pad(maps.reshape(1, -1, *maps.shape[-2:]), (radius, radius, 0, 0), "replicate")[0]
    total = weights[0] * wide[..., radius : radius + width]
    for away in range(1, radius + 1):
        left = wide[..., radius - away : radius - away + width]
        right = wide[..., radius + away : radius + away + width]
        total.add_(left + right, alpha=weights[away])
    return total.reshape(maps.shape)


def shrunk(known: Tensor, pixels: int) -> Tensor:
    """Take a margin off what is known ``(B, H, W)``; beyond the border nothing is."""
    for _ in range(2):
        wide, width = pad(known, (pixels, pixels)), known.shape[-1]
        least = wide[..., :width]
        for away in range(1, 2 * pixels + 1):
            least = torch.minimum(least, wide[..., away : away + width])
        known = least.transpose(-1, -2)
    return known.contiguous()
