"""NumPy's ``.npy`` files; pickled objects are never opened."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from fusionzoo.errors import InputError
from fusionzoo.readers.content import check_pixels, label_of, open_stream
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import as_image, check_page, page_of

__all__ = ["encode", "read", "read_npy"]

_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read one image of a ``.npy`` file ``(H, W[, C])`` or ``(N, H, W[, C])``."""
    label = label_of(file)
    with open_stream(file, label) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        return Reading(read_npy(stream, size, label, page), "npy")


def read_npy(stream: IO[bytes], size: int, label: str, page: int | str | None) -> np.ndarray:
    """Read one image of an open ``.npy`` file of ``size`` bytes.

    Raises:
        InputError: it holds objects, is cut off or too large, or not an image.
    """
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise InputError(
            f"{label} is of version {version} of .npy, for named fields; save an image"
        )
    shape, is_fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject or dtype.kind not in "iuf":
        what = "Python objects, which are not opened" if dtype.hasobject else f"{dtype} values"
        raise InputError(f"{label} holds {what}; save an array of numbers")
    if len(shape) not in (2, 3, 4):
        raise InputError(f"{label} holds an array of shape {shape}; save (H, W) or (H, W, 3)")
    is_many = page_of(shape)
    one = shape[1:] if is_many else shape
    check_pixels((one[1], one[0]), label)
    if is_many and len(shape) == 3 and page is None and shape[0] in (3, 4):
        raise InputError(
            f"{label} holds an array of shape {shape}; move the channels last if it is one colour "
            "image, or pass one of its images: fusionzoo.open_image(path, page=0), or --ir-page, "
            "--vi-page"
        )
    number = check_page(page, shape[0] if is_many else 1, label)
    whole = math.prod(shape) * dtype.itemsize
    start = stream.tell()
    if whole > size - start:
        raise InputError(
            f"{label} is cut off: {size - start} of {whole} bytes are there; replace it"
        )
    if not is_fortran:  # only the image that is asked for
        length = math.prod(one) * dtype.itemsize
        stream.seek(start + number * length)
        values = np.frombuffer(stream.read(length), dtype).reshape(one)
        return np.array(as_image(values, label))
    every = np.frombuffer(stream.read(whole), dtype).reshape(shape, order="F")
    return np.array(as_image(every[number] if is_many else every, label))


def encode(reading: Reading, path: Path) -> bytes:
    """Return the content of a ``.npy`` file of the values."""
    stream = io.BytesIO()
    np.save(stream, reading.values, allow_pickle=False)
    return stream.getvalue()
