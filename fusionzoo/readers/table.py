"""Which reader reads a file: one explicit table, by content first and then by ending.

What no row matches is for Pillow (:mod:`fusionzoo.readers.pictures`). A reader's module has
``read(file, *, page=None)``, which takes a ``Path`` or a ``BytesIO`` and gives a
:class:`~fusionzoo.readers.reading.Reading`. It is imported when a file needs it. Its errors begin
with :func:`~fusionzoo.readers.content.label_of` of the file; what else it raises is taken for
damage.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from fusionzoo.errors import InputError
from fusionzoo.readers import jpeg_segments, tiff_tags
from fusionzoo.readers.content import ImageFileLike, label_of, open_stream
from fusionzoo.remote import Fetched

__all__ = [
    "FORMATS",
    "TIFF_WRITERS",
    "WRITERS",
    "Format",
    "Writer",
    "format_of",
    "needed",
    "writer_of",
]

#: Bytes of a file that a row of the table sees.
HEAD = 512
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Matches = Callable[[bytes, str, IO[bytes]], bool]


@dataclass(frozen=True)
class Format:
    """One row: how a file of the format is known, and what reads it.

    Attributes:
        kind: as :attr:`fusionzoo.readers.Reading.kind` says it.
        title: what errors call it.
        module: that reads it, below ``fusionzoo.readers``.
        matches: whether a file is of this format, by its first bytes, its name in lower case
            (empty for content without a file) and the file itself, open at its start.
        library: that has to be importable; None where nothing beyond this package is needed.
        extra: of this package that installs the library.
    """

    kind: str
    title: str
    module: str
    matches: Matches
    library: str | None = None
    extra: str | None = None

    def load(self, label: str) -> Any:
        """Import the module.

        Raises:
            InputError: the library is missing; the error names the extra.
        """
        return _module(self, f"{label} is {self.title}")


def _module(row: Format | Writer, why: str) -> Any:
    if row.library is not None:
        needed(row.library, row.extra or row.library, why)
    return import_module(f"fusionzoo.readers.{row.module}")


def needed(library: str, extra: str, why: str) -> None:
    """Refuse to go on without a library.

    Raises:
        InputError: it is not installed; the error names the extra that installs it.
    """
    if find_spec(library) is None:
        raise InputError(f"{why}, which needs {library}; run: pip install 'fusionzoo[{extra}]'")


def _is_npy(head: bytes, name: str, stream: IO[bytes]) -> bool:
    return head.startswith(b"\x93NUMPY")


def _is_npz(head: bytes, name: str, stream: IO[bytes]) -> bool:
    is_zip = head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
    return is_zip and (not name or name.endswith(".npz"))


def _is_dicom(head: bytes, name: str, stream: IO[bytes]) -> bool:
    if head[128:132] == b"DICM":
        return True
    # Without preamble: the first element is of group 0002 or 0008, little endian.
    return name.endswith((".dcm", ".dicom")) and head[:2] in (b"\x02\x00", b"\x08\x00")


def _is_nifti(head: bytes, name: str, stream: IO[bytes]) -> bool:
    packed = head.startswith(b"\x1f\x8b")
    if packed:
        with suppress(zlib.error):
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return True
    return packed and name.endswith(".nii.gz")


def _is_deep_tiff(head: bytes, name: str, stream: IO[bytes]) -> bool:
    if head[:4] not in _TIFF or find_spec("tifffile") is None:
        return False  # then Pillow reads it at fewer bits, or refuses it; both name the extra
    tags = tiff_tags.first_tags(stream)
    return tags is not None and tiff_tags.is_beyond_pillow(tags)


def _is_geotiff(head: bytes, name: str, stream: IO[bytes]) -> bool:
    if head[:4] not in _TIFF or find_spec("rasterio") is None:
        return False  # then it is read as any TIFF, with a warning that names the extra
    tags = tiff_tags.first_tags(stream)
    return tags is not None and tiff_tags.is_geotiff(tags)


def _is_flir(head: bytes, name: str, stream: IO[bytes]) -> bool:
    return head.startswith(b"\xff\xd8\xff") and jpeg_segments.is_flir_radiometric(stream)


#: Rows are asked in this order.
FORMATS: tuple[Format, ...] = (
    Format("npy", "a NumPy array", "arrays", _is_npy),
    Format("npz", "a NumPy archive", "archives", _is_npz),
    Format("flir", "a radiometric JPEG of a FLIR camera", "flir", _is_flir, "flyr", "flir"),
    Format("geotiff", "a GeoTIFF", "geotiff", _is_geotiff, "rasterio", "geo"),
    Format("tiff", "a TIFF", "tiff", _is_deep_tiff, "tifffile", "tiff"),
    Format("nifti", "a NIfTI volume", "nifti", _is_nifti, "nibabel", "nifti"),
    Format("dicom", "a DICOM file", "dicom", _is_dicom, "pydicom", "dicom"),
)


@dataclass(frozen=True)
class Writer:
    """What writes files of some endings: a module with ``encode(reading, path)`` -> ``bytes``."""

    endings: tuple[str, ...]
    module: str
    library: str | None = None
    extra: str | None = None

    def load(self, path: Path) -> Any:
        """Import the module.

        Raises:
            InputError: the library is missing; the error names the extra.
        """
        return _module(self, f"{path} is to be written")


#: Endings that Pillow does not write.
WRITERS: tuple[Writer, ...] = (
    Writer((".npy",), "arrays"),
    Writer((".dcm",), "dicom", "pydicom", "dicom"),
    Writer((".nii", ".nii.gz"), "nifti", "nibabel", "nifti"),
)


#: What writes a TIFF of a reading, by its kind; Pillow writes the others.
TIFF_WRITERS = {
    "geotiff": Writer((".tif", ".tiff"), "geotiff", "rasterio", "geo"),
    "tiff": Writer((".tif", ".tiff"), "tiff", "tifffile", "tiff"),
}


def writer_of(path: Path) -> Writer | None:
    """Return the row that a path's ending is in; None means that Pillow writes it, or nobody."""
    name = path.name.lower()
    return next((row for row in WRITERS if name.endswith(row.endings)), None)


def format_of(file: ImageFileLike, name: str | None = None) -> Format | None:
    """Return the row that a file matches; None means that Pillow reads it.

    Raises:
        MissingFileError, FileError, InputError: it cannot be opened.
    """
    label = label_of(file, name)
    called = os.fspath(file).lower() if isinstance(file, str | os.PathLike) else ""
    if isinstance(file, Fetched):
        called = file.name.lower()
    with open_stream(file, label) as stream:
        head = stream.read(HEAD)
        for row in FORMATS:
            stream.seek(0)
            if row.matches(head, called, stream):
                return row
    return None
