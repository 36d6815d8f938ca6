"""Separable filters and local moments; images are (N,1,H,W) and every filter keeps N."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=64)
def _gaussian_taps(size: int, sigma: float, normalised: bool) -> tuple[float, ...]:
    # In float64 on the host: the taps must not depend on the precision of the image.
    position = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-position.square() / (2 * sigma**2))
    taps = taps / (taps.sum() if normalised else (2 * torch.pi) ** 0.5 * sigma)
    return tuple(taps.tolist())


def gaussian(size: int, sigma: float, *, normalised: bool = True) -> tuple[float, ...]:
    """Taps of a Gaussian window; without ``normalised`` samples of the density itself."""
    return _gaussian_taps(size, float(sigma), normalised)


def separable(
    images: Tensor,
    column: tuple[float, ...],
    row: tuple[float, ...] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Tensor:
    """Correlate with ``column`` along H and ``row`` (default: the same) along W.

    Without padding the result shrinks by the number of taps less one ("valid").
    """
    row = column if row is None else row
    count = images.shape[0]
    down = images.new_tensor(column).view(1, 1, -1, 1).expand(count, 1, -1, 1)
    across = images.new_tensor(row).view(1, 1, 1, -1).expand(count, 1, 1, -1)
    # One image a channel: the depthwise kernels are several times faster than N x one channel.
    folded = images.transpose(0, 1)
    folded = F.conv2d(folded, down, stride=(stride, 1), padding=(padding, 0), groups=count)
    folded = F.conv2d(folded, across, stride=(1, stride), padding=(0, padding), groups=count)
    return folded.transpose(0, 1)


def sobel(images: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """Sobel responses along W and along H, same size as the image, weights summing to 4.

    ``border`` is ``"zero"``, or a mode of ``torch.nn.functional.pad``.
    """
    if border == "zero":
        padded = F.pad(images, (1, 1, 1, 1))
    else:
        padded = F.pad(images, (1, 1, 1, 1), mode=border)
    smooth_down = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    smooth_across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    along_w = smooth_down[..., 2:] - smooth_down[..., :-2]
    along_h = smooth_across[..., 2:, :] - smooth_across[..., :-2, :]
    return along_w, along_h
