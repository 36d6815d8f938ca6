"""Frames as what a network takes and gives: luma in and out, chroma kept as it is.

Video is stored as luma and chroma already, so that the colour of the visible stream is kept by
copying its chroma: no conversion to RGB and back, in whatever of BT.601, BT.709 and BT.2020, full
or limited range, the stream is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fusionzoo.errors import InputError
from fusionzoo.inference.ranges import Limits
from fusionzoo.video.pyav import import_av

__all__ = [
    "Tags",
    "canvas",
    "check_pix_fmt",
    "deep_values",
    "grey_values",
    "luma_limits",
    "neutral",
    "own_pix_fmt",
    "plane",
    "rgb_of",
    "tag",
    "tags_of",
    "with_luma",
]

_UNSPECIFIED, _LIMITED, _FULL = 0, 1, 2  # of FFmpeg's color_range
_BT709 = 1  # the same number for matrix, primaries and transfer
_NOT_TOLD = 2


class Tags(NamedTuple):
    """What a stream says of its colours, in FFmpeg's numbers."""

    colorspace: int
    color_range: int
    color_primaries: int
    color_trc: int


def check_pix_fmt(name: str) -> None:
    """Refuse a pixel format whose luma cannot be replaced by itself.

    Raises:
        InputError: it is unknown, RGB, packed, has alpha or another byte order.
    """
    if not _is_luma_first(name):
        raise InputError(
            f"the pixel format {name!r} cannot be written; use one of luma and chroma in planes, "
            "such as yuv420p, yuv444p, yuv420p10le or gray"
        )


def _is_luma_first(name: str) -> bool:
    av = import_av()
    try:
        format = av.VideoFormat(name)
    except ValueError:
        return False
    parts = format.components
    return (
        len(parts) in (1, 3)
        and all(part.is_luma == (part.plane == 0) for part in parts)
        and [part.plane for part in parts] == list(range(len(parts)))
        and 8 <= parts[0].bits <= 16
        and not (format.is_rgb or format.has_palette or format.is_big_endian)
        and "f16" not in name
    )


def own_pix_fmt(image: Any) -> str:
    """Return the pixel format that holds a frame without loss, as far as one is written."""
    if isinstance(image, np.ndarray):
        return "yuv444p" if image.ndim == 3 else "gray" if image.dtype == np.uint8 else "gray16le"
    name = _layout(image.format.name)
    if _is_luma_first(name):
        return name
    parts = image.format.components
    return "gray16le" if len(parts) == 1 and parts[0].bits > 8 else "yuv444p"


def deep_values(image: Any) -> np.ndarray | None:
    """Return the values ``(H, W)`` of a frame without nominal black and white, else None.

    Such are grey frames of more than 8 bits (thermal cameras), and float images.
    """
    if isinstance(image, np.ndarray):
        return image if image.ndim == 2 and image.dtype != np.uint8 else None
    parts = image.format.components
    if len(parts) > 1 or image.format.is_rgb or image.format.has_palette or parts[0].bits <= 8:
        return None
    if image.format.name == "grayf32le":
        return np.array(plane(image, 0, np.dtype(np.float32)))
    if not _is_luma_first(image.format.name):
        image = image.reformat(format="gray16le")
    return np.array(plane(image, 0))


def grey_values(image: Any) -> np.ndarray:
    """Return a frame as grey ``(H, W)``, full range: uint8, or uint16 of more than 8 bits."""
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            return image
        image = _frame_of(image)
    bits = max(part.bits for part in image.format.components)
    if image.format.name == "gray":
        return np.array(plane(image, 0))
    grey = image.reformat(
        format="gray" if bits <= 8 or image.format.has_palette else "gray16le",
        src_color_range=_range_of(image),
        dst_color_range=_FULL,
    )
    return np.array(plane(grey, 0))


def canvas(image: Any, pix_fmt: str, size: tuple[int, int] | None = None) -> Any:
    """Return a frame in the pixel format, scaled to ``(height, width)`` if given.

    The frame may be ``image`` itself, and is not to be written to.
    """
    if isinstance(image, np.ndarray):
        image = _frame_of(image)
    height, width = size or (image.height, image.width)
    if _layout(image.format.name) == pix_fmt and (image.height, image.width) == (height, width):
        return image
    tags = tags_of(image)
    return image.reformat(
        width=width,
        height=height,
        format=pix_fmt,
        src_colorspace=_matrix(image.colorspace),
        dst_colorspace=_matrix(tags.colorspace),
        src_color_range=_range_of(image),
        dst_color_range=tags.color_range,
        interpolation="BILINEAR",
    )


def tags_of(image: Any) -> Tags:
    """Return the colour tags of what is made of a frame: its own, or BT.709 for RGB and arrays."""
    if isinstance(image, np.ndarray) or image.format.is_rgb or image.format.has_palette:
        return Tags(_BT709, _LIMITED, _BT709, _BT709)
    return Tags(image.colorspace, _range_of(image), image.color_primaries, image.color_trc)


def tag(target: Any, tags: Tags) -> None:
    """Tell a frame or an encoder its colours."""
    for name, value in tags._asdict().items():
        setattr(target, name, value)


def rgb_of(frame: Any) -> np.ndarray:
    """Return a tagged frame as RGB uint8 ``(H, W, 3)``, as a screen shows it."""
    shown = frame.reformat(
        format="rgb24",
        src_colorspace=_matrix(frame.colorspace),
        src_color_range=_range_of(frame),
        dst_color_range=_FULL,
    )
    pixels: np.ndarray = shown.to_ndarray()
    return pixels


def luma_limits(pix_fmt: str, tags: Tags) -> Limits:
    """Return the luma of black and of white."""
    av = import_av()
    bits = av.VideoFormat(pix_fmt).components[0].bits
    if tags.color_range == _FULL:
        return 0.0, 2.0**bits - 1
    return 16.0 * 2 ** (bits - 8), 235.0 * 2 ** (bits - 8)


def with_luma(base: Any, luma: np.ndarray, pix_fmt: str, *, even: bool, color: bool) -> Any:
    """Return a new frame with this luma and the chroma of ``base``.

    Args:
        base: a frame in ``pix_fmt``, of the size of ``luma``.
        luma: ``(H, W)`` as the pixel format stores it.
        pix_fmt: of the new frame.
        even: leave out the last row and column of odd sizes.
        color: False gives chroma without colour.
    """
    frame = _new(luma.shape, pix_fmt, even)
    plane(frame, 0)[:] = luma[: frame.height, : frame.width]
    for number in range(1, len(frame.planes)):
        target = plane(frame, number)
        if color:
            target[:] = plane(base, number)[: target.shape[0], : target.shape[1]]
        else:
            target[:] = _middle(frame)
    return frame


def neutral(luma: np.ndarray, pix_fmt: str, *, even: bool) -> Any:
    """Return a new frame with this luma and no colour."""
    return with_luma(None, luma, pix_fmt, even=even, color=False)


def plane(frame: Any, number: int, dtype: np.dtype[Any] | None = None) -> np.ndarray:
    """Return the samples ``(H, W)`` of a plane; they share memory with the frame."""
    if dtype is None:
        bits = frame.format.components[number].bits
        dtype = np.dtype(np.uint8 if bits <= 8 else np.dtype("<u2"))
    part = frame.planes[number]
    rows = np.frombuffer(part, dtype=np.uint8)[: part.line_size * part.height]
    return rows.reshape(part.height, part.line_size).view(dtype)[:, : part.width]


def _new(shape: tuple[int, ...], pix_fmt: str, even: bool) -> Any:
    av = import_av()
    height, width = shape
    if even:
        height, width = height - height % 2, width - width % 2
    return av.VideoFrame(width, height, pix_fmt)


def _middle(frame: Any) -> int:
    return int(1 << (frame.format.components[0].bits - 1))


def _frame_of(array: np.ndarray) -> Any:
    av = import_av()
    array = np.ascontiguousarray(array)
    frame = av.VideoFrame.from_ndarray(array, format="gray" if array.ndim == 2 else "rgb24")
    frame.color_range = _FULL
    return frame


def _layout(name: str) -> str:
    """yuvj420p is yuv420p of full range."""
    return name.replace("yuvj", "yuv", 1)


def _range_of(image: Any) -> int:
    """The range of a frame; where it is not told, that of its kind."""
    name = image.format.name
    if image.color_range in (_LIMITED, _FULL):
        return int(image.color_range)
    if name.startswith(("yuvj", "gray", "ya")) or image.format.is_rgb or image.format.has_palette:
        return _FULL
    return _LIMITED


def _matrix(colorspace: int) -> int | None:
    """FFmpeg's number of a matrix as its scaler takes it."""
    return {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}.get(colorspace)
