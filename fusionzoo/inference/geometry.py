"""Sizes: padding for networks that need it, and scaling one image to another's size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


def padded_side(side: int, size_multiple: int, min_size: int) -> int:
    """The next multiple of ``size_multiple`` that is at least ``side`` and ``min_size``."""
    side = max(side, min_size)
    return side + -side % size_multiple


def pad_to(images: Tensor, size_multiple: int = 1, min_size: int = 1) -> Tensor:
    """Extend ``(B, C, H, W)`` at the bottom and right to sizes that a network takes.

    Both sides become the next multiple of ``size_multiple`` that is at least ``min_size``;
    ``padded[..., :H, :W]`` is the image again. The border is mirrored where the image is larger
    than what is added, repeated otherwise. Without need, the tensor itself is returned.
    """
    height, width = images.shape[-2:]
    down, right = (padded_side(side, size_multiple, min_size) - side for side in (height, width))
    if down:
        images = pad(images, (0, 0, 0, down), mode="reflect" if down < height else "replicate")
    if right:
        images = pad(images, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    return images


def scale_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale float ``(B, C, H, W)`` to ``(height, width)``: bilinear, without aliasing."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, size=tuple(size), mode="bilinear", antialias=True)


def scale_like(raw: Tensor, size: tuple[int, int], through: torch.dtype) -> Tensor:
    """:func:`scale_to` for raw values of any dtype: computed in ``through``, integers rounded."""
    scaled = scale_to(raw.to(through), size)
    return (scaled if raw.is_floating_point() else scaled.round()).to(raw.dtype)
