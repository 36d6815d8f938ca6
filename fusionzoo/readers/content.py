"""Files and their content, opened; and how large an image may be."""

from __future__ import annotations

import io
import os
import stat
from typing import IO

from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.remote import Fetched, as_path, at_hand, is_remote

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "FILE_KINDS",
    "MAX_PIXELS_VARIABLE",
    "ImageFileLike",
    "check_pixels",
    "label_of",
    "max_pixels",
    "open_stream",
]

#: Environment variable: files of more pixels are refused.
MAX_PIXELS_VARIABLE = "FUSIONZOO_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 128_000_000

#: What holds an encoded image: a file's path, or a file's content.
ImageFileLike = str | os.PathLike[str] | bytes | bytearray | memoryview | io.BytesIO
FILE_KINDS = (str, os.PathLike, bytes, bytearray, memoryview, io.BytesIO)

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def label_of(file: ImageFileLike, name: str | None = None) -> str:
    """Return what errors call a file; `name` is the argument that it was given as."""
    if isinstance(file, str | os.PathLike):
        return f"{name}: {file}" if name else str(file)
    if isinstance(file, Fetched):
        return f"{name}: {file.name}" if name else file.name
    return name or "the image"


def open_stream(file: ImageFileLike, label: str) -> IO[bytes]:
    """Open a regular file, or its content, for reading.

    Raises:
        MissingFileError: there is no such file.
        FileError: it cannot be opened.
        InputError: a folder, FIFO, device or socket.
    """
    if is_remote(file):
        file = at_hand(file)
    if isinstance(file, io.BytesIO):
        return io.BytesIO(file.getvalue())  # the caller's own keeps its position
    if not isinstance(file, str | os.PathLike):
        return io.BytesIO(file)
    path = as_path(file)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{label} is a folder; pass one image file")
        if not stat.S_ISREG(mode):  # reading a FIFO may wait for ever
            kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
            raise InputError(f"{label} is {kind}; pass a regular image file")
        return path.open("rb")
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{label}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        why = getattr(error, "strerror", None) or error
        raise FileError(
            f"{label} cannot be opened ({why}); check the path and its permissions"
        ) from error


def check_pixels(size: tuple[int, int], label: str) -> None:
    """Refuse an image of that width and height if it has too many pixels.

    Readers call this with the size that a file declares, before they take memory for it.

    Raises:
        InputError: it is larger than ``FUSIONZOO_MAX_PIXELS``, or 128 million pixels; or no size.
    """
    limit = max_pixels()
    if size[0] * size[1] > limit:
        raise InputError(
            f"{label} is {size[0]} x {size[1]} (width x height), {size[0] * size[1]:,} "
            f"pixels, and the limit is {limit:,}; scale it down, or set the "
            f"environment variable {MAX_PIXELS_VARIABLE}"
        )


def max_pixels() -> int:
    """Return how many pixels an image may have.

    Raises:
        InputError: ``FUSIONZOO_MAX_PIXELS`` is no number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return DEFAULT_MAX_PIXELS
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise InputError(
            f"{MAX_PIXELS_VARIABLE}={text!r} is no number of pixels; set an integer of at least 1, "
            f"such as {DEFAULT_MAX_PIXELS}"
        )
    return limit
