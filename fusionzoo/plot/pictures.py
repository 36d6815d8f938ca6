"""Pictures as arrays ``(H, W, 3)`` of bytes: cut out, fitted to a width, with a magnified part."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

#: left, top, right, bottom in pixels; right and bottom lie just outside.
Box = tuple[int, int, int, int]

_FRAME = np.array((255, 200, 0), dtype=np.uint8)
_LINE = 2  # pixels
_INSET_SHARE = 0.45  # of the picture's width and height, at most


def as_picture(image: Tensor) -> np.ndarray:
    """``(1 or 3, H, W)`` in [0, 1] as bytes, rounded the way `fuse` rounds 8-bit results."""
    levels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return levels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def check_box(box: Any, around: Box, name: str) -> Box:
    """The box as whole numbers.

    Raises:
        ValueError: it is no box of at least one pixel within ``around``.
    """
    try:
        left, top, right, bottom = (int(value) for value in box)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {box!r} is no (left, top, right, bottom) in pixels") from None
    inside = around[0] <= left < right <= around[2] and around[1] <= top < bottom <= around[3]
    if not inside:
        raise ValueError(
            f"{name}: {box!r} does not lie within {around}, (left, top, right, bottom) of what is "
            "drawn"
        )
    return left, top, right, bottom


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
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
    """Frame a part of a picture and put its pixels, enlarged, into the corner farthest from it.

    Args:
        shown: the picture as it is drawn.
        part: the same before it was fitted to a width.
        box: in pixels of ``part``.

    Raises:
        ValueError: the box is so large that it would not stand larger in a corner.
    """
    region = cut(part, box)
    room = [int(_INSET_SHARE * side) - 2 * _LINE for side in shown.shape[:2]]
    factor = min(room[0] // region.shape[0], room[1] // region.shape[1])
    height, width = shown.shape[:2]
    across, down = width / part.shape[1], height / part.shape[0]
    if factor <= max(across, down):
        raise ValueError(
            f"zoom: a part of {region.shape[1]} x {region.shape[0]} pixels does not fit, "
            f"enlarged, into a corner of {room[1]} x {room[0]}; choose a smaller part"
        )
    out = shown.copy()
    framed = (
        round(box[0] * across), round(box[1] * down), round(box[2] * across), round(box[3] * down)
    )  # fmt: skip
    _frame(out, framed)
    inset = np.pad(enlarged(region, factor), ((_LINE, _LINE), (_LINE, _LINE), (0, 0)))
    _frame(inset, (_LINE, _LINE, inset.shape[1] - _LINE, inset.shape[0] - _LINE))
    top = 0 if framed[1] + framed[3] > height else height - inset.shape[0]
    left = 0 if framed[0] + framed[2] > width else width - inset.shape[1]
    out[top : top + inset.shape[0], left : left + inset.shape[1]] = inset
    return out


def _frame(picture: np.ndarray, box: Box) -> None:
    """Draw a frame just outside the box, as far as the picture reaches."""
    left, top, right, bottom = box
    outer_left, outer_top = max(left - _LINE, 0), max(top - _LINE, 0)
    picture[outer_top:top, outer_left : right + _LINE] = _FRAME
    picture[bottom : bottom + _LINE, outer_left : right + _LINE] = _FRAME
    picture[outer_top : bottom + _LINE, outer_left:left] = _FRAME
    picture[outer_top : bottom + _LINE, right : right + _LINE] = _FRAME
