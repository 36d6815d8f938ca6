"""Which values of an image are black and white: raw values to [0, 1] and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: How far beyond [0, 1] a float image may reach and still count as one in [0, 1]: rounding of
#: half floats and of earlier conversions, not more.
UNIT_TOLERANCE = 1e-3
PERCENTILES = (0.5, 99.5)

DTYPES = (torch.uint8, torch.uint16, torch.int32, torch.float16, torch.float32, torch.float64)

Limits = tuple[float, float]


def check_range(value_range: Any, name: str) -> Limits | None:
    """``value_range`` as two floats, or None.

    Raises:
        ValueError: it is not ``(lo, hi)`` with finite ``lo < hi``.
    """
    if value_range is None:
        return None
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}={value_range!r}; pass two finite numbers (lo, hi) with lo < hi")
    return low, high


def to_unit(stack: Tensor, limits: Limits | None, name: str) -> tuple[Tensor, list[Limits]]:
    """Raw values ``(B, C, H, W)`` to [0, 1], clipped, and each image's ``(lo, hi)``.

    The result never shares memory with ``stack``. ``limits`` holds for every image; None finds
    them for each image by :func:`fusionzoo.inference.fuse_images`' rules.

    Raises:
        ValueError: floats that are NaN or infinite.
    """
    exact = stack.dtype in (torch.int32, torch.float64) and stack.device.type != "mps"
    values = stack.to(torch.float64 if exact else torch.float32)
    extremes = None
    if stack.dtype.is_floating_point:
        extremes = _finite_extremes(values.detach(), name)
    if limits is not None:
        every = [limits] * len(stack)
    elif stack.dtype == torch.uint8:
        return values.div_(255), [(0.0, 255.0)] * len(stack)
    else:
        every = _find_limits(values.detach(), extremes)
    if all(one == (0.0, 1.0) for one in every):
        return values.clamp(0, 1), every
    low, span = _low_and_span(every, values)
    unit = (values if _is_zero(low) else values - low) / span
    return unit.clamp(0, 1), every


def from_unit(unit: Tensor, limits: list[Limits], dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`to_unit`: [0, 1] to ``limits``; rounded and clipped for integers."""
    low, span = _low_and_span(limits, unit)
    # From here on in place: the clamped copy is our own, and autograd allows it.
    values = unit.clamp(0, 1).mul_(span)
    if not _is_zero(low):
        values.add_(low)
    if not dtype.is_floating_point:
        values.round_()  # casting alone would truncate, and darken
        info = torch.iinfo(dtype)
        if any(low < info.min or high > info.max for low, high in limits):
            values.clamp_(info.min, info.max)
    return values.to(dtype)


def _finite_extremes(values: Tensor, name: str) -> list[Limits]:
    """Least and greatest value of each image; both are NaN where one value is."""
    low, high = values.amin((1, 2, 3)), values.amax((1, 2, 3))
    extremes = [(low, high) for low, high in torch.stack([low, high], 1).tolist()]
    if not all(math.isfinite(value) for pair in extremes for value in pair):
        raise ValueError(
            f"{name} contains NaN or infinite values; replace them first "
            "(e.g. with torch.nan_to_num or numpy.nan_to_num)"
        )
    return extremes


def _find_limits(values: Tensor, extremes: list[Limits] | None) -> list[Limits]:
    if extremes is None:
        return [_percentile_limits(image) for image in values]
    return [
        (0.0, 1.0)
        if low >= -UNIT_TOLERANCE and high <= 1 + UNIT_TOLERANCE
        else _percentile_limits(image)
        for image, (low, high) in zip(values, extremes, strict=True)
    ]


def _percentile_limits(image: Tensor) -> Limits:
    low, high = _percentiles(image.flatten())
    if low == high:  # a few odd pixels on an even background: keep them
        low, high = image.min().item(), image.max().item()
    if low == high:  # a constant image becomes mid grey, at a scale that fits its value
        reach = max(abs(low), 1.0)
        low, high = low - reach, low + reach
    return low, high


def _percentiles(values: Tensor) -> Limits:
    if values.device.type == "cpu":
        low, high = np.percentile(values.numpy(), PERCENTILES)
        return float(low), float(high)
    # Stays on the device; torch.quantile refuses more than 16 million values.
    ranks = [share / 100 * (len(values) - 1) for share in PERCENTILES]
    ordered = values.sort().values
    near = [ordered[[math.floor(rank), math.ceil(rank)]].tolist() for rank in ranks]
    low, high = (
        below + (above - below) * (rank - math.floor(rank))
        for (below, above), rank in zip(near, ranks, strict=True)
    )
    return low, high


def _low_and_span(limits: list[Limits], like: Tensor) -> tuple[Any, Any]:
    """``lo`` and ``hi - lo`` as numbers where all images agree, else as ``(B, 1, 1, 1)``."""
    if len(set(limits)) == 1:
        low, high = limits[0]
        return low, high - low
    pairs = torch.tensor(limits, dtype=torch.float64).to(like.dtype).to(like.device)
    low, high = pairs.view(-1, 2, 1, 1, 1).unbind(1)
    return low, high - low


def _is_zero(low: Any) -> bool:
    return isinstance(low, float) and low == 0
