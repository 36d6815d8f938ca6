"""Raw values without a header, as cameras' own tools write them: size and type have to be told."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np

from fusionzoo.errors import InputError
from fusionzoo.readers.content import ImageFileLike, check_pixels, label_of, open_stream
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import as_image, check_page

__all__ = ["RawLayout", "raw_layout", "read_raw"]

_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
_PATTERN = re.compile(r"(\d{1,7})x(\d{1,7})(x3)?:(\w+?)(be|le)?(\+\d{1,12})?", re.ASCII)


@dataclass(frozen=True)
class RawLayout:
    """How values lie in a file: row by row, from the upper left, colours of a pixel together.

    Attributes:
        width, height: in pixels.
        channels: 1 or 3.
        dtype: of the values, with their byte order.
        offset: bytes before the first image.
    """

    width: int
    height: int
    channels: int
    dtype: np.dtype
    offset: int


def raw_layout(text: str) -> RawLayout:
    """Understand ``WIDTHxHEIGHT[x3]:TYPE[be][+OFFSET]``, such as ``640x512:uint16``.

    Values are little-endian, or big-endian with ``be`` behind the type; ``OFFSET`` is the number of
    bytes before the first image.

    Raises:
        InputError: it is not written so.
    """
    found = _PATTERN.fullmatch(str(text).strip().lower())
    if found is None or found[4] not in _TYPES or not (int(found[1]) and int(found[2])):
        raise InputError(
            f"raw={text!r} tells no layout; write WIDTHxHEIGHT:TYPE, such as 640x512:uint16, with "
            f"a TYPE of {', '.join(_TYPES)}; uint16be is big-endian, 640x512x3 colour, +64 at "
            "the end passes over 64 bytes"
        )
    dtype = np.dtype(found[4]).newbyteorder(">" if found[5] == "be" else "<")
    channels = 3 if found[3] else 1
    return RawLayout(int(found[1]), int(found[2]), channels, dtype, int(found[6] or 0))


def read_raw(file: ImageFileLike, layout: str, *, page: int | None = None) -> Reading:
    """Read one image of a file of raw values; see :func:`raw_layout`.

    Raises:
        MissingFileError, FileError: it cannot be opened.
        InputError: its size is not that of whole images of that layout.
    """
    how = raw_layout(layout)
    label = label_of(file)
    check_pixels((how.width, how.height), label)
    length = how.width * how.height * how.channels * how.dtype.itemsize
    with open_stream(file, label) as stream:
        rest = stream.seek(0, io.SEEK_END) - how.offset
        if rest < length or rest % length:
            raise InputError(
                f"{label} has {max(rest, 0):,} bytes of values, and an image of {layout} takes "
                f"{length:,}; check width, height, type and offset"
            )
        number = check_page(page, rest // length, label)
        stream.seek(how.offset + number * length)
        values = np.frombuffer(stream.read(length), how.dtype)
    shape = (how.height, how.width, how.channels)
    return Reading(as_image(values.reshape(shape), label).copy(), "raw")
