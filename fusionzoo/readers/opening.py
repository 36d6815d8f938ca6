"""Image files of any kind: through the table to the reader that each one needs."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from fusionzoo.errors import FusionZooError, InputError, OutOfMemoryError
from fusionzoo.readers import pictures
from fusionzoo.readers.content import ImageFileLike, label_of
from fusionzoo.readers.raw import read_raw
from fusionzoo.readers.reading import ImageHeader, Reading
from fusionzoo.readers.table import Format, format_of
from fusionzoo.remote import Fetched, as_path, at_hand

__all__ = ["decode", "open_image", "read_header", "read_image"]


def open_image(
    file: ImageFileLike, *, page: int | str | None = None, raw: str | None = None
) -> Reading:
    """Read an image file as ``model.fuse`` sees it: values, kind, unit and range.

    The content decides which reader reads it, see ``docs/inputs.md``: NumPy arrays, DICOM, NIfTI
    and all that Pillow reads. What :func:`fusionzoo.inference.read_image` says of the formats of
    Pillow holds here.

    Args:
        file: a path or URL (``s3://...``), or a file's content as ``bytes`` or ``io.BytesIO``.
        page: which image of a file that holds several, from 0; of a ``.npz`` the array's name.
        raw: how the values of a file without header lie, such as ``"640x512:uint16"``: width,
            height and type, little-endian (``uint16be``: big-endian); ``640x512x3`` is colour, and
            ``+64`` at the end passes over 64 bytes.

    Raises:
        MissingFileError: a FileNotFoundError: there is no such file.
        FileError: an OSError: the file cannot be opened.
        InputError: a ValueError: no image, damaged, too large, without such a page, of several
            images where ``page`` has to say which, or of a format whose library is missing; the
            error names the extra to install.
        OutOfMemoryError: a MemoryError.
    """
    _check_page(page)
    if raw is not None:
        if isinstance(page, str):
            raise InputError(f"page={page!r}: images of raw values have numbers, from 0")
        return read_raw(file, raw, page=page)
    opened = decode(file, page=page)
    if isinstance(opened, Reading):
        return opened
    return Reading(pictures.values_of(opened), "image")


def read_image(file: ImageFileLike) -> np.ndarray:
    """Read an image file as an array ``(H, W)`` or ``(H, W, 3)`` of its own bit depth.

    uint8 for 8-bit files, uint16 for 16-bit grey files, int32 and float32 for 32-bit grey TIFF.
    EXIF orientation is applied; palettes become RGB, or grey if all their colours are; CMYK and
    other colour spaces become RGB, 1-bit images 0 and 255; alpha is dropped. Of a file with
    several pages or frames the first one is read, with a warning. 16-bit colour is read at 8 bits,
    with a warning, since Pillow has no such mode.

    The formats are those of `fusionzoo.readers.pictures.READ_FORMATS` and of the table in
    :mod:`fusionzoo.readers.table`, whose values :func:`fusionzoo.open_image` describes. A file of
    more than 128 million pixels is refused before memory is taken; the environment variable
    ``FUSIONZOO_MAX_PIXELS`` sets another limit.

    Args:
        file: a path of a regular file; or a file's content as ``bytes`` or ``io.BytesIO``.

    Raises:
        MissingFileError: a FileNotFoundError: there is no such file.
        FileError: an OSError: the file cannot be opened.
        InputError: a ValueError: no regular file, no image, damaged, too large, or of a kind that
            would be read wrong.
        OutOfMemoryError: a MemoryError.
    """
    return open_image(file).values


def read_header(file: ImageFileLike) -> ImageHeader:
    """Read an image file's size and mode, in most formats without decoding it.

    The size is that of the upright image, the one that :func:`read_image` gives.

    Raises:
        MissingFileError, FileError, InputError: as :func:`read_image`.
    """
    file = at_hand(file)
    row = format_of(file)
    if row is None:
        return pictures.read_header(file)
    reading = _read(row, file, None, None)
    height, width = reading.values.shape[:2]
    deep = reading.values.dtype != np.uint8 or reading.range is not None
    mode = "RGB" if reading.values.ndim == 3 else "L"
    if deep:
        mode = "RGB;F" if mode == "RGB" else "F"
    return ImageHeader(width, height, mode, row.kind)


def decode(
    file: ImageFileLike, name: str | None = None, *, page: int | str | None = None
) -> Image.Image | Reading:
    """Read a file: a PIL image of a plain mode for Pillow's formats, else a reading.

    Args:
        file: a path or content.
        name: the argument that it was given as, for errors.
        page: which image of a file that holds several, from 0; None reads the only one.

    Raises:
        MissingFileError, FileError, InputError, OutOfMemoryError: as :func:`open_image`.
    """
    file = at_hand(file)
    row = format_of(file, name)
    if row is None:
        if isinstance(page, str):
            raise InputError(f"page={page!r}: pages have numbers here, from 0")
        return pictures.decode(file, name, page=page)
    return _read(row, file, name, page)


def _read(row: Format, file: ImageFileLike, name: str | None, page: int | str | None) -> Reading:
    label = label_of(file, name)
    reader = row.load(label)
    place = as_path(file) if isinstance(file, str | os.PathLike) else _content(file)
    try:
        reading: Any = reader.read(place, page=page)
    except FusionZooError as error:
        if name is None and not isinstance(file, Fetched):
            raise
        text = str(error)
        raise type(error)(
            text.replace("the image", label, 1)
            if isinstance(place, io.BytesIO)
            else f"{name}: {text}"
        ) from error
    except MemoryError:
        raise OutOfMemoryError(
            f"{label} needs more memory to be decoded than there is; scale the image down"
        ) from None
    # Libraries raise nearly anything on damaged files.
    except Exception as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{label} cannot be read as {row.title} ({why}); it may be damaged: replace it"
        ) from error
    if not isinstance(reading, Reading):
        raise TypeError(f"fusionzoo.readers.{row.module} gave a {type(reading).__name__}")
    return reading


def _check_page(page: object) -> None:
    is_number = isinstance(page, int) and not isinstance(page, bool) and page >= 0
    if not (page is None or is_number or isinstance(page, str)):
        raise InputError(f"page={page!r}; pass the number of a page, from 0")


def _content(file: Any) -> io.BytesIO:
    return io.BytesIO(file.getvalue() if isinstance(file, io.BytesIO) else file)
