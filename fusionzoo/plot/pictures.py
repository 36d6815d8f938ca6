"""Pictures as arrays ``(H, W, 3)`` of bytes: cut out, fitted to a width, with a magnified part."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fusionzoo.errors import InputError

#: left, top, right, bottom in pixels; right and bottom lie just outside.
Box = tuple[int, int, int, int]

_FRAME = np.array((255, 200, 0), dtype=np.uint8)
_LINE = 2  # pixels
_INSET_SHARE = 0.48  # of the picture's width and height, at most


def as_picture(image: Tensor) -> np.ndarray:
    """``(1 or 3, H, W)`` in [0, 1] as bytes, rounded the way `fuse` rounds 8-bit results."""
    levels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return levels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def check_box(box: Any, around: Box, name: str) -> Box:
    """Return the box as whole numbers.

    Raises:
        InputError: it is no box of at least one pixel within ``around``.
    """
    try:
        left, top, right, bottom = (int(value) for value in box)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {box!r} is no (left, top, right, bottom) in pixels") from None
    inside = around[0] <= left < right <= around[2] and around[1] <= top < bottom <= around[3]
    if not inside:
        raise InputError(
            f"{name}: {box!r} does not lie within {around}, (left, top, right, bottom) of what is "
            "drawn"
        )
    return left, top, right, bottom


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of a picture inside a box, without a copy."""
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    """Each pixel as a square of ``factor`` x ``factor``."""
    return picture.repeat(factor, 0).repeat(factor, 1)


def fitted(picture: np.ndarray, width: int | None) -> np.ndarray:
    """Reduced to ``width``, or enlarged by the whole factor that comes nearest below it."""
    height, across = picture.shape[:2]
    if width is None or across == width:
        return picture
    if across < width:
        return enlarged(picture, width // across)
    size = (width, max(1, round(height * width / across)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def with_inset(shown: np.ndarray, part: np.ndarray, box: Box) -> np.ndarray:
    """Frame a part of a picture and put its pixels, enlarged, into a corner.

    The corner farthest from the part, and the largest whole factor that leaves the part and more
    than half of the picture's width and height free. If none does, the smallest that enlarges.

    Args:
        shown: the picture as it is drawn.
        part: the same before it was fitted to a width.
        box: in pixels of ``part``.

    Raises:
        InputError: the box is so large that not even that fits.
    """
    region = cut(part, box)
    height, width = shown.shape[:2]
    scale = width / part.shape[1], height / part.shape[0]
    framed = tuple(round(value * scale[n % 2]) for n, value in enumerate(box))
    least = int(max(scale)) + 1
    if not _fits(region, least, shown, 1.0):
        raise InputError(
            f"zoom: a part of {region.shape[1]} x {region.shape[0]} pixels, enlarged {least} "
            f"times, is larger than the picture of {width} x {height}; choose a smaller part"
        )
    factors = [n for n in range(least, width) if _fits(region, n, shown, _INSET_SHARE)]
    places = [
        (factor, place)
        for factor in reversed(factors or [least])
        for place in _corners(region, factor, shown, framed)
    ]
    free = [(factor, place) for factor, place in places if not _overlap(place, framed)]
    factor, (left, top, right, bottom) = (free or places[-4:])[0]

    out: np.ndarray = shown.copy()
    _frame(out, framed)
    out[top:bottom, left:right] = _FRAME
    inner = np.s_[top + _LINE : bottom - _LINE, left + _LINE : right - _LINE]
    out[inner] = enlarged(region, factor)
    return out


def _inset_size(region: np.ndarray, factor: int) -> tuple[int, int]:
    return region.shape[1] * factor + 2 * _LINE, region.shape[0] * factor + 2 * _LINE


def _fits(region: np.ndarray, factor: int, shown: np.ndarray, share: float) -> bool:
    across, down = _inset_size(region, factor)
    return bool(across <= share * shown.shape[1] and down <= share * shown.shape[0])


def _corners(region: np.ndarray, factor: int, shown: np.ndarray, framed: Box) -> list[Box]:
    """Where an inset can lie, the corner farthest from the framed part first."""
    height, width = shown.shape[:2]
    across, down = _inset_size(region, factor)
    places = [
        (left, top, left + across, top + down)
        for left in (width - across, 0)
        for top in (height - down, 0)
    ]

    def distance(place: Box) -> float:
        gaps = [place[n] + place[n + 2] - framed[n] - framed[n + 2] for n in (0, 1)]
        return gaps[0] ** 2 + gaps[1] ** 2

    return sorted(places, key=distance, reverse=True)


def _overlap(one: Box, other: Box) -> bool:
    return all(one[n] < other[n + 2] + _LINE and other[n] - _LINE < one[n + 2] for n in (0, 1))


def _frame(picture: np.ndarray, box: Box) -> None:
    """Draw a frame just outside the box, as far as the picture reaches."""
    left, top, right, bottom = box
    outer_left, outer_top = max(left - _LINE, 0), max(top - _LINE, 0)
    picture[outer_top:top, outer_left : right + _LINE] = _FRAME
    picture[bottom : bottom + _LINE, outer_left : right + _LINE] = _FRAME
    picture[outer_top : bottom + _LINE, outer_left:left] = _FRAME
    picture[outer_top : bottom + _LINE, right : right + _LINE] = _FRAME
