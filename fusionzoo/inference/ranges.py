"""Which values of an image are black and white: raw values to [0, 1] and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionzoo.errors import InputError
from fusionzoo.readers.reading import UNIT_TOLERANCE

PERCENTILES = (0.5, 99.5)

DTYPES = (
    *(torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)
#: Values beyond this are refused: the difference of two of them has to be a float as well.
LARGEST = 1e300
# Up to here float32 suffices for the values and the width of a range.
_SINGLE = 1e30

Limits = tuple[float, float]


def check_range(value_range: Any, name: str) -> Limits | None:
    """``value_range`` as two floats, or None.

    Raises:
        InputError: a ValueError: it is not ``(lo, hi)`` with ``lo < hi`` and both within
            ±1e300.
    """
    if value_range is None:
        return None
    try:
        low, high = value_range
        if isinstance(low, str | bytes) or isinstance(high, str | bytes):
            raise TypeError("text is no number")
        low, high = float(low), float(high)
    except (TypeError, ValueError, OverflowError):
        low = high = math.nan
    if not -LARGEST <= low < high <= LARGEST:
        raise InputError(f"{name}={value_range!r}; pass two finite numbers (lo, hi) with lo < hi")
    return low, high


def to_unit(stack: Tensor, limits: Limits | None, name: str) -> tuple[Tensor, list[Limits]]:
    """Raw values ``(B, C, H, W)`` to [0, 1], clipped, and each image's ``(lo, hi)``.

    The result never shares memory with ``stack``. See :func:`scale_of`.
    """
    scale = scale_of(stack, limits, name)
    return scale(stack), scale.limits


@dataclass(frozen=True)
class Scale:
    """Raw values to [0, 1], clipped: for a whole stack of images, or some of its rows.

    Attributes:
        limits: each image's ``(lo, hi)``.
        dtype: of the result.
        eight_bit: values are 0 ... 255, all of them.
    """

    limits: list[Limits]
    dtype: torch.dtype
    eight_bit: bool

    def __call__(self, stack: Tensor) -> Tensor:
        """Scale ``(B, C, h, W)``; the result never shares memory with it."""
        values = stack.to(self.dtype)
        if self.eight_bit:
            return values.div_(255)
        if all(one == (0.0, 1.0) for one in self.limits):
            return values.clamp(0, 1)
        low, span = _low_and_span(self.limits, values)
        unit: Tensor = (values if _is_zero(low) else values - low) / span
        return unit.clamp(0, 1)


def scale_of(stack: Tensor, limits: Limits | None, name: str) -> Scale:
    """How raw values ``(B, C, H, W)`` become values in [0, 1].

    ``limits`` holds for every image; None finds them for each image by
    :func:`fusionzoo.inference.fuse_images`' rules.

    Raises:
        InputError: a ValueError: floats that are NaN, infinite or beyond ±1e300.
    """
    extremes = None
    if stack.dtype.is_floating_point:
        extremes = _finite_extremes(stack.detach(), name)
    dtype = _working_dtype(stack, limits, extremes)
    if limits is not None:
        return Scale([limits] * len(stack), dtype, False)
    if stack.dtype == torch.uint8:
        return Scale([(0.0, 255.0)] * len(stack), dtype, True)
    return Scale(_find_limits(stack.detach().to(dtype), extremes), dtype, False)


def from_unit(unit: Tensor, limits: list[Limits], dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`to_unit`: [0, 1] to ``limits``, clipped to what ``dtype`` holds.

    Integers are rounded.
    """
    low, span = _low_and_span(limits, unit)
    # From here on in place: the clamped copy is our own, and autograd allows it.
    values = unit.clamp(0, 1).mul_(span)
    if not _is_zero(low):
        values.add_(low)
    least, greatest = _ends(dtype, values.dtype)
    if not dtype.is_floating_point:
        values.round_()  # casting alone would truncate, and darken
    if any(low < least or high > greatest for low, high in limits):
        values.clamp_(least, greatest)
    return values.to(dtype)


def find_limits(stack: Tensor, name: str) -> list[Limits]:
    """Return the ``(lo, hi)`` that :func:`to_unit` finds for each image of ``(B, C, H, W)``.

    Raises:
        InputError: a ValueError: floats that are NaN, infinite or beyond ±1e300.
    """
    if stack.dtype == torch.uint8:
        return [(0.0, 255.0)] * len(stack)
    stack = stack.detach()
    extremes = _finite_extremes(stack, name) if stack.dtype.is_floating_point else None
    return _find_limits(stack.to(_working_dtype(stack, None, extremes)), extremes)


def _working_dtype(
    stack: Tensor, limits: Limits | None, extremes: list[Limits] | None
) -> torch.dtype:
    """The dtype to compute in: float32, or float64 where float32 would round or overflow."""
    if stack.device.type == "mps":  # has no float64
        return torch.float32
    if stack.dtype in (torch.int32, torch.int64, torch.float64):
        return torch.float64
    given = [] if limits is None else [limits]
    for low, high in [*given, *(extremes or [])]:
        if max(-low, high) > _SINGLE:
            return torch.float64
    if limits is not None and limits[1] - limits[0] < 1 / _SINGLE:
        return torch.float64
    return torch.float32


def _ends(dtype: torch.dtype, working: torch.dtype) -> Limits:
    """The least and greatest value of the working dtype that ``dtype`` holds."""
    if dtype.is_floating_point:
        return torch.finfo(dtype).min, torch.finfo(dtype).max
    info = torch.iinfo(dtype)
    greatest = torch.tensor(info.max, dtype=torch.int64).to(working)
    if greatest.item() > info.max:  # rounded up, as 2^63 - 1 is
        greatest = torch.nextafter(greatest, torch.zeros_like(greatest))
    return float(info.min), float(greatest.item())


def _finite_extremes(values: Tensor, name: str) -> list[Limits]:
    """Least and greatest value of each image; both are NaN where one value is."""
    low, high = values.amin((1, 2, 3)), values.amax((1, 2, 3))
    extremes = [(low, high) for low, high in torch.stack([low, high], 1).tolist()]
    if not all(math.isfinite(value) for pair in extremes for value in pair):
        raise InputError(
            f"{name} contains NaN or infinite values; replace them first "
            "(e.g. with torch.nan_to_num or numpy.nan_to_num)"
        )
    if any(max(-low, high) > LARGEST for low, high in extremes):
        raise InputError(f"{name} contains values beyond ±{LARGEST:g}; scale them down")
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
        low, high = float(image.min()), float(image.max())
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
    limits: list[float] = [
        below + (above - below) * (rank - math.floor(rank))
        for (below, above), rank in zip(near, ranks, strict=True)
    ]
    return limits[0], limits[1]


def _low_and_span(limits: list[Limits], like: Tensor) -> tuple[Any, Any]:
    """``lo`` and ``hi - lo`` as numbers where all images agree, else as ``(B, 1, 1, 1)``."""
    if len(set(limits)) == 1:
        low, high = limits[0]
        return low, high - low
    spans = [(low, high - low) for low, high in limits]
    pairs = torch.tensor(spans, dtype=torch.float64).to(like.dtype).to(like.device)
    pairs = pairs.view(-1, 2, 1, 1, 1)
    return pairs[:, 0], pairs[:, 1]


def _is_zero(low: Any) -> bool:
    return isinstance(low, float) and low == 0
