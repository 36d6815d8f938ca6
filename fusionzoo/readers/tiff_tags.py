"""What a TIFF says of its first image, read without any library: which reader it needs."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from typing import IO

__all__ = ["BIG_ENDIAN", "first_tags", "is_beyond_pillow", "is_geotiff"]

#: In place of a tag: 1 where the file's numbers begin with their greatest byte.
BIG_ENDIAN = -1

# Tags.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _SAMPLE_FORMAT, _GEO_KEYS = 277, 339, 34735
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of tags: BYTE, SHORT, LONG, LONG8
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_GREY, _RGB = (0, 1), 2
# Compressions that tifffile undoes by itself: none, Deflate (two numbers), PackBits.
_PLAIN_COMPRESSIONS = (1, 8, 32946, 32773)
_MOST_TAGS = 4096
_MOST_VALUES = 16

Tags = dict[int, tuple[int, ...]]


def first_tags(stream: IO[bytes]) -> Tags | None:
    """Return the tags of the first image of a TIFF or BigTIFF; None for what is none.

    Of a tag that holds no whole numbers, or many, the value is ``()``.
    """
    try:
        return _tags(stream)
    except (struct.error, OSError, OverflowError, ValueError):  # cut off, or damaged
        return None


def is_beyond_pillow(tags: Tags) -> bool:
    """Whether Pillow reads such values at fewer bits, wrong, or not at all, and tifffile can.

    These are 16-bit and float colour; grey values of 64 bits, half floats, signed 8 and unsigned
    32 bits; and big-endian ones that are compressed, whose bytes Pillow swaps once too often.
    """
    bits, samples = set(tags.get(_BITS, (1,))), tags.get(_SAMPLES, (1,))[:1]
    if len(bits) != 1 or not samples:
        return False
    depth, count = bits.pop(), samples[0]
    kind = (tags.get(_SAMPLE_FORMAT) or (_UNSIGNED,))[0]
    photometric = (tags.get(_PHOTOMETRIC) or (1,))[0]
    if (tags.get(_COMPRESSION) or (1,))[0] not in _PLAIN_COMPRESSIONS and not _has_codecs():
        return False
    if photometric == _RGB and count in (3, 4):
        return depth in (16, 32, 64)
    if photometric not in _GREY or count not in (1, 2):
        return False
    if count == 2:
        return depth in (16, 32, 64)
    compressed = (tags.get(_COMPRESSION) or (1,))[0] != 1
    if tags[BIG_ENDIAN] == (1,) and compressed and (depth == 32 or (depth, kind) == (16, _SIGNED)):
        return True
    return (depth, kind) in (
        *((8, _SIGNED), (16, _FLOAT), (32, _UNSIGNED)),
        *((64, _UNSIGNED), (64, _SIGNED), (64, _FLOAT)),
    )


def is_geotiff(tags: Tags) -> bool:
    """Whether a TIFF says where on Earth it lies."""
    return _GEO_KEYS in tags


def _has_codecs() -> bool:
    return find_spec("imagecodecs") is not None


def _tags(stream: IO[bytes]) -> Tags | None:
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return None
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version == 42:
        (offset,) = struct.unpack_from(f"{order}I", head, 4)
        count_code, entry_code, inline = "H", "HHI", 4
    elif version == 43:
        (offset,) = struct.unpack_from(f"{order}Q", head, 8)
        count_code, entry_code, inline = "Q", "HHQ", 8
    else:
        return None
    stream.seek(offset)
    counter = struct.Struct(order + count_code)
    (count,) = counter.unpack(stream.read(counter.size))
    entry = struct.Struct(order + entry_code)
    step = entry.size + inline
    entries = stream.read(min(count, _MOST_TAGS) * step)
    found: Tags = {BIG_ENDIAN: (int(order == ">"),)}
    for place in range(0, len(entries) - step + 1, step):
        tag, kind, number = entry.unpack_from(entries, place)
        code = _NUMBERS.get(kind)
        found[tag] = ()
        if code is None or not 0 < number <= _MOST_VALUES:
            continue
        values = struct.Struct(f"{order}{number}{code}")
        content = entries[place + entry.size : place + step]
        if values.size > inline:
            (where,) = struct.unpack(f"{order}{'I' if inline == 4 else 'Q'}", content)
            stream.seek(where)
            content = stream.read(values.size)
        found[tag] = values.unpack_from(content)
    return found
