"""Images and arrays through a transform: bilinear, values and dtype kept, in strips of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from fusionzoo.alignment.geometry import Size, transformed

Interpolation = Literal["bilinear", "nearest"]

#: How many pixels are computed at once: bounds the memory beside input and output.
_AT_ONCE = 1 << 20
#: Coordinates so near to a pixel's centre count as it, so that whole shifts keep every bit.
_EXACT = 1e-6
_DOUBLE = (torch.int32, torch.int64, torch.uint32, torch.uint64, torch.float64)


def warped(
    planes: Tensor,
    transform: Tensor,
    size: Size,
    fill: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Return planes ``(N, H, W)`` of any dtype as ``transform`` puts them into another image.

    Args:
        planes: what to warp; integers come back rounded, bool by majority.
        transform: 3 x 3, from pixels of ``planes`` to those of the result.
        size: height and width of the result.
        fill: value outside.
        interpolation: "nearest" for labels.
    """
    out = planes.new_full((len(planes), *size), fill)
    for rows, points in _strips(transform, size, len(planes)):
        out[:, rows] = _sampled(planes, points, fill, interpolation)
    return out


def covered(ir: Size, transform: Tensor, vi: Size) -> Tensor:
    """Return where in the visible image the infrared one lies, as bool ``(H, W)``."""
    out = torch.empty(vi, dtype=torch.bool)
    for rows, points in _strips(transform, vi, 1):
        out[rows] = _inside(points[..., 0], points[..., 1], ir)
    return out


def _strips(transform: Tensor, size: Size, planes: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the result, few at a time, and where their pixels come from."""
    height, width = size
    back = torch.linalg.inv(transform)
    step = max(1, _AT_ONCE // (width * max(1, planes)))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        yield slice(top, bottom), source_points(back, (top, bottom), width)


def source_points(back: Tensor, rows: tuple[int, int], width: int) -> Tensor:
    """Return where pixels of some rows come from: ``(rows, width, 2)``, x and y."""
    y = torch.arange(*rows, dtype=torch.float64)
    x = torch.arange(width, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    points = transformed(back, grid)
    nearest = points.round()
    return torch.where((points - nearest).abs() < _EXACT, nearest, points)


def _inside(x: Tensor, y: Tensor, size: Size) -> Tensor:
    return (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)


def _sampled(planes: Tensor, points: Tensor, fill: float, interpolation: str) -> Tensor:
    height, width = planes.shape[-2:]
    x, y = points.nan_to_num(-9, -9, -9).unbind(-1)
    inside = _inside(x, y, (height, width)).to(planes.device)
    if interpolation == "nearest":
        values = _at(planes, x.round(), y.round())
        return torch.where(inside, values, torch.full_like(values, fill))
    exact = torch.float64 if planes.dtype in _DOUBLE else torch.float32
    left, top = x.floor(), y.floor()
    across, down = (part.to(planes.device, exact) for part in (x - left, y - top))
    upper = _between(planes, left, top, across, exact)
    lower = _between(planes, left, top + 1, across, exact)
    # A weight of 0 is left out, so that no value beside an exact place counts, NaN or not.
    values = torch.where(down > 0, upper * (1 - down) + lower * down, upper)
    values = torch.where(inside, values, fill)
    if planes.dtype == torch.bool:
        return values >= 0.5
    return (values if planes.is_floating_point() else values.round()).to(planes.dtype)


def _between(planes: Tensor, left: Tensor, y: Tensor, across: Tensor, exact: torch.dtype) -> Tensor:
    one = _at(planes, left, y).to(exact)
    other = _at(planes, left + 1, y).to(exact)
    return torch.where(across > 0, one * (1 - across) + other * across, one)


def _at(planes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    height, width = planes.shape[-2:]
    place = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
    flat = planes.reshape(len(planes), -1)
    return flat[:, place.reshape(-1).to(planes.device)].reshape(len(planes), *place.shape)
