"""TIFF of values that Pillow has no mode for, by tifffile: 16-bit colour, 64 bits, half floats."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from fusionzoo.errors import InputError
from fusionzoo.readers.content import check_pixels, label_of, open_stream
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import as_image, check_page

__all__ = ["encode", "read"]

# What it finds wrong is in our error, or of no account; without a handler it is printed.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ORIENTATION = 274
_WHITE_IS_ZERO = 0


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read one page of a TIFF, upright; white is the greatest value."""
    label = label_of(file)
    with open_stream(file, label) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with tifffile.TiffFile(stream) as tiff:
            number = _number(tiff.pages, page, label)
            return _read_page(tiff.pages[number].aspage(), size, label)


def _number(pages: Any, page: int | str | None, label: str) -> int:
    if page is None and len(pages) > 1:
        second = pages[1].aspage()
        # Thumbnails and masks behind the image are no images of their own.
        if second.shape != pages[0].shape or second.subfiletype:
            return 0
    return check_page(page, len(pages), label, "pages")


def _read_page(page: Any, size: int, label: str) -> Reading:
    check_pixels((page.imagewidth, page.imagelength), label)
    if page.imagedepth != 1 or page.samplesperpixel not in (1, 2, 3, 4):
        raise InputError(
            f"{label} has {page.samplesperpixel} channels and a depth of {page.imagedepth}; save "
            "grey or RGB"
        )
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count and offset + count > size:
            raise InputError(f"{label} is cut off: its pixels lie beyond its end; replace it")
    values = page.asarray()
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    if page.photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values
    orientation = page.tags.valueof(_ORIENTATION, 1)
    return Reading(_upright(as_image(values, label), orientation), "tiff", source=_metadata(page))


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the orientation tag, by TIFF 6.0, section 8."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _metadata(page: Any) -> dict[str, Any]:
    """What :func:`encode` gives back, as arguments of ``tifffile.imwrite``."""
    kept: dict[str, Any] = {}
    if "XResolution" in page.tags and "YResolution" in page.tags:
        kept["resolution"] = page.tags["XResolution"].value, page.tags["YResolution"].value
        kept["resolutionunit"] = page.tags.valueof("ResolutionUnit", 1)
    # What tifffile itself writes there is the shape of the image before.
    if page.description and not page.is_shaped:
        kept["description"] = page.description
    if page.iccprofile:
        kept["iccprofile"] = page.iccprofile
    if "DateTime" in page.tags:
        kept["datetime"] = page.tags["DateTime"].value
    return kept


def encode(reading: Reading, path: Path) -> bytes:
    """Return the content of a TIFF of the values, in their depth, with what the source says."""
    kept = dict(reading.source or {}) if reading.kind == "tiff" else {}
    values = reading.values
    is_colour = values.ndim == 3
    icc = kept.get("iccprofile")
    if icc is not None and icc[16:20] != (b"RGB " if is_colour else b"GRAY"):
        del kept["iccprofile"]
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        values,
        photometric="rgb" if is_colour else "minisblack",
        compression="zlib",
        metadata=None,
        **kept,
    )
    return stream.getvalue()
