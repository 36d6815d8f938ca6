"""Contrast of an image or of features about their mean, which several papers' ``gain`` sets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionzoo.errors import InputError
from fusionzoo.strips import Over, at_once

__all__ = ["check_gain", "spread"]


def spread(x: Tensor, gain: float, reach: float | None = None, over: Over = at_once) -> Tensor:
    """Multiply every map's deviation from its own mean by ``gain``; means stay.

    Weighted means of two sources have less contrast than either source: a gain above 1 gives it
    back. No paper has this step; 1 leaves ``x`` as it is.

    Args:
        x: ``(B, C, H, W)``; the mean is that of each of the B · C maps.
        gain: factor, above 0; see :func:`check_gain`.
        reach: in the unit of ``x``. Deviations ``d`` far above it keep their own size and gain no
            more than ``(gain - 1) · reach``: ``d + (gain - 1) · reach · tanh(d / reach)``. So hot
            targets in a dark scene do not burn out. By default the factor is the same everywhere.
        over: finds the mean where ``x`` is only a part of the image.

    Returns:
        ``(B, C, H, W)``.
    """
    if gain == 1.0:
        return x
    (mean,) = over(lambda inner: inner(x).mean((2, 3), keepdim=True))
    if reach is None:
        return torch.lerp(mean, x, gain)
    return x + (gain - 1) * reach * torch.tanh((x - mean) / reach)


def check_gain(gain: float) -> None:
    """Refuse a gain that :func:`spread` has no use for.

    Raises:
        InputError: ``gain`` is not above 0, or not finite.
    """
    if not 0 < gain < math.inf:
        raise InputError(f"gain must be above 0 and finite, not {gain}")
