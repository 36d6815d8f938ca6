"""What a JPEG holds beside its picture: the radiometric data of thermal cameras."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

__all__ = [
    "CAMERA_INFO",
    "EMBEDDED_IMAGE",
    "PICTURE_IN_PICTURE",
    "RAW_DATA",
    "flir_records",
    "is_dji_radiometric",
    "is_flir_radiometric",
    "size_of_png",
]

_APP1, _APP3, _APP4, _APP5, _SCAN, _END = 0xE1, 0xE3, 0xE4, 0xE5, 0xDA, 0xD9
_FLIR = b"FLIR\0"
_FLIR_HEAD = 8  # FLIR, zero, one, the chunk's number, the last one's number
# Of the FFF format: its header, an entry of its directory, and the most entries looked at.
_FFF_HEAD, _ENTRY, _MOST_ENTRIES = 64, 32, 256
_MOST_SEGMENTS = 4096
#: Types of records.
RAW_DATA, EMBEDDED_IMAGE, CAMERA_INFO, PICTURE_IN_PICTURE = 1, 14, 32, 42


class _Segment(NamedTuple):
    marker: int
    place: int  # of the content
    length: int


def is_flir_radiometric(stream: IO[bytes]) -> bool:
    """Whether a JPEG holds raw thermal values of a FLIR camera."""
    try:
        return RAW_DATA in flir_records(stream, at_most=1)
    except ValueError:  # damaged; its reader says so
        return True


def is_dji_radiometric(stream: IO[bytes]) -> bool:
    """Whether a JPEG holds raw thermal values of a DJI drone: in segments of its own."""
    found: set[int] = set()
    is_dji = False
    for segment in _segments(stream):
        found.add(segment.marker)
        if segment.marker == _APP1 and not is_dji:
            stream.seek(segment.place)
            content = stream.read(segment.length)
            is_dji = content.startswith(b"Exif") and b"DJI" in content
    return is_dji and {_APP3, _APP4, _APP5} <= found


def flir_records(stream: IO[bytes], at_most: int | None = None) -> dict[int, memoryview]:
    """Return the records of the FFF data in a JPEG by their type; empty where there are none.

    The layout is that of ExifTool's tables (``FLIR.pm``).

    Args:
        stream: the file, open.
        at_most: how many segments of it to read; records may then be cut off.

    Raises:
        ValueError: the directory says that it is larger than any camera writes.
    """
    chunks: dict[int, bytes] = {}
    for segment in _segments(stream):
        if segment.marker != _APP1 or segment.length < _FLIR_HEAD:
            continue
        stream.seek(segment.place)
        content = stream.read(segment.length)
        if content.startswith(_FLIR):
            chunks.setdefault(content[6], content[_FLIR_HEAD:])
            if at_most is not None and len(chunks) == at_most:
                break
    data = memoryview(b"".join(chunks[number] for number in sorted(chunks)))
    if bytes(data[:3]) not in (b"FFF", b"AFF") or len(data) < _FFF_HEAD:
        return {}
    start, count = struct.unpack_from(">II", data, 24)
    if count > _MOST_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    found: dict[int, memoryview] = {}
    for number in range(count):
        place = start + _ENTRY * number
        if place + _ENTRY > len(data):
            break
        kind, offset, length = struct.unpack_from(">H10xII", data, place)
        if kind:
            found[kind] = data[offset : offset + length]
    return found


def _segments(stream: IO[bytes]) -> Iterator[_Segment]:
    """Segments before the picture's own data."""
    stream.seek(0)
    if stream.read(2) != b"\xff\xd8":
        return
    place = 2
    for _ in range(_MOST_SEGMENTS):
        stream.seek(place)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (_SCAN, _END):
            return
        length = int.from_bytes(head[2:], "big")
        yield _Segment(head[1], place + 4, length - 2)
        place += 2 + length
        if length < 2:
            return


def size_of_png(content: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height that a PNG declares; None for what is no PNG."""
    head = bytes(content[:24])
    if len(head) < 24 or not head.startswith(b"\x89PNG"):
        return None
    width, height = struct.unpack_from(">II", head, 16)
    return width, height
