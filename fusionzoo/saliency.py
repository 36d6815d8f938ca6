"""What stands out in an image: saliency by histogram contrast, and Otsu's threshold.

Both work on images quantised to 256 levels and count in whole numbers, so that neither autocast
nor the precision of matrix products touches them. DIDFuse's fusion layer has a histogram contrast
of its own (unscaled, on feature channels): networks import no other room.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionzoo.errors import InputError

_LEVELS = 256


@torch.no_grad()
def histogram_contrast(image: Tensor) -> Tensor:
    """Return the saliency of every pixel: how far its grey level lies from all other pixels'.

    A level's saliency is the sum over all levels of count times absolute difference (Zhai and
    Shah, Visual attention detection in video sequences, 2006; for grey images the histogram
    contrast of Cheng et al., 2011), divided by the largest one that occurs in the image. It does
    not tell bright from dark: whatever is far from the bulk of the pixels stands out.

    Args:
        image: ``(B, 1, H, W)`` of values in [0, 1]; what lies outside is clipped.

    Returns:
        float32 of that shape in [0, 1], without gradient: 1 at each image's most salient pixels,
        zeros throughout where an image is flat.

    Raises:
        InputError: if the image is no floating-point tensor ``(B, 1, H, W)`` with pixels.
    """
    levels, counts = _histogram(image)
    grey = torch.arange(_LEVELS, device=image.device)
    # From one level to the next the distance grows by 1 to all pixels at or below, and shrinks
    # by 1 to all above.
    below = counts.cumsum(1)
    steps = 2 * below - levels.shape[1]
    contrast = (counts * grey).sum(1, keepdim=True) + steps.cumsum(1) - steps
    largest = contrast.where(counts > 0, 0).amax(1, keepdim=True).clamp_min(1)
    return (contrast.float() / largest.float()).gather(1, levels).view(image.shape)


@torch.no_grad()
def otsu_threshold(image: Tensor) -> Tensor:
    """Return the value of each image that parts its pixels into two classes best (Otsu, 1979).

    Args:
        image: ``(B, 1, H, W)`` of values in [0, 1]; what lies outside is clipped.

    Returns:
        float32 ``(B,)``, midway between the two occupied levels that the best split lies between:
        ``image > threshold`` is the bright class. No pixel of a flat image lies above its
        threshold, which can hence exceed 1 by half a level.

    Raises:
        InputError: if the image is no floating-point tensor ``(B, 1, H, W)`` with pixels.
    """
    levels, counts = _histogram(image)
    grey = torch.arange(_LEVELS, device=image.device)
    below, total = counts.cumsum(1), levels.shape[1]
    sums = (counts * grey).cumsum(1)
    # The variance between the classes "at most this level" and "above", times total squared.
    distance = (total * sums - below * sums[:, -1:]).float()
    pairs = (below * (total - below)).float()
    between = torch.where(pairs > 0, distance.square() / pairs.clamp_min(1), 0.0)
    # Over empty levels the split stays the same: take the middle of that stretch.
    best = below.gather(1, between.argmax(1, keepdim=True))
    same = ((below == best) & (pairs > 0)).long()
    middle = (same * (2 * grey + 1)).sum(1).float() / (2 * same.sum(1)).clamp_min(1)
    highest = levels.amax(1) + 0.5
    return torch.where(same.any(1), middle, highest) / (_LEVELS - 1)


def _histogram(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels' grey levels ``(B, H * W)`` and how often each occurs ``(B, 256)``."""
    if image.ndim != 4 or image.shape[1] != 1 or 0 in image.shape or not image.is_floating_point():
        raise InputError(
            "image must be a floating-point tensor (B, 1, H, W) of values in [0, 1], not "
            f"{image.dtype} of shape {tuple(image.shape)}; give colour images' luminance"
        )
    top = _LEVELS - 1
    levels = (image.float() * top).round().clamp(0, top).long().flatten(1)
    offsets = torch.arange(len(levels), device=image.device).unsqueeze(1) * _LEVELS
    counts = torch.bincount((levels + offsets).flatten(), minlength=len(levels) * _LEVELS)
    return levels, counts.view(-1, _LEVELS)


__all__ = ["histogram_contrast", "otsu_threshold"]
