"""Luma and chroma: full-range BT.601 (JPEG/JFIF) on float tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionzoo.errors import InputError

# Luma weights of ITU-R BT.601. All other constants follow from these two without rounding, so
# that converting there and back is exact to float rounding.
RED, BLUE = 0.299, 0.114
GREEN = 1 - RED - BLUE
CB_SPAN = 2 * (1 - BLUE)
CR_SPAN = 2 * (1 - RED)


def luma(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """BT.601 luma of three like-shaped planes; exactly their value where all three are equal."""
    # Written as differences: the weights' sum is not exactly 1 in floats, zero differences are 0.
    return green + RED * (red - green) + BLUE * (blue - green)


def to_grey(image: Tensor) -> Tensor:
    """Luma of ``(..., 3, H, W)`` as ``(..., 1, H, W)``; ``(..., 1, H, W)`` is returned as it is.

    Float tensors of any value range. Equal channels give exactly their common value.

    Raises:
        InputError: a ValueError: for other channel counts.
    """
    channels = image.shape[-3] if image.ndim >= 3 else 0
    if channels == 1:
        return image
    if channels != 3:
        raise InputError(
            f"image has shape {tuple(image.shape)}; to_grey takes (..., 1, H, W) or (..., 3, H, W)"
        )
    return luma(*_planes(image))


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """RGB ``(..., 3, H, W)`` in [0, 1] to full-range BT.601 YCbCr in [0, 1].

    Y, Cb and Cr are stacked in that order; Cb and Cr are 0.5, exactly, where the image is grey.
    Float tensors; differentiable; :func:`ycbcr_to_rgb` is the inverse to float rounding.

    Raises:
        InputError: a ValueError: for other channel counts.
    """
    red, green, blue = _three_planes(rgb, "rgb")
    y = luma(red, green, blue)
    return torch.cat([y, (blue - y) / CB_SPAN + 0.5, (red - y) / CR_SPAN + 0.5], dim=-3)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Full-range BT.601 YCbCr ``(..., 3, H, W)`` (Cb, Cr around 0.5) to RGB.

    Float tensors; differentiable. Not clamped: a Y that was replaced may lead outside [0, 1],
    so clamp before writing. Cb = Cr = 0.5 gives three channels equal to Y, exactly.

    Raises:
        InputError: a ValueError: for other channel counts.
    """
    y, cb, cr = _three_planes(ycbcr, "ycbcr")
    toward_blue, toward_red = (cb - 0.5) * CB_SPAN, (cr - 0.5) * CR_SPAN
    green = y - (RED / GREEN) * toward_red - (BLUE / GREEN) * toward_blue
    return torch.cat([y + toward_red, green, y + toward_blue], dim=-3)


def _three_planes(image: Tensor, name: str) -> tuple[Tensor, ...]:
    if image.ndim < 3 or image.shape[-3] != 3:
        raise InputError(f"{name} has shape {tuple(image.shape)}; pass (..., 3, H, W)")
    if not image.is_floating_point():
        raise InputError(f"{name} is {image.dtype}; pass floats in [0, 1]")
    return _planes(image)


def _planes(image: Tensor) -> tuple[Tensor, ...]:
    return tuple(image.narrow(-3, channel, 1) for channel in range(3))
