"""What files hold: one small module a format, and one table that says which reads what.

:mod:`fusionzoo.readers.table` knows a file by its content; a library that only one format needs
is an optional extra, which an error names where it is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusionzoo.lazy import lazily

if TYPE_CHECKING:
    from fusionzoo.readers.opening import decode, open_image, read_header, read_image
    from fusionzoo.readers.reading import ImageHeader, Reading
    from fusionzoo.readers.writing import file_format, save_image

__all__ = [
    "ImageHeader",
    "Reading",
    "decode",
    "file_format",
    "open_image",
    "read_header",
    "read_image",
    "save_image",
]

_HOMES = {
    "ImageHeader": "fusionzoo.readers.reading",
    "Reading": "fusionzoo.readers.reading",
    "decode": "fusionzoo.readers.opening",
    "file_format": "fusionzoo.readers.writing",
    "open_image": "fusionzoo.readers.opening",
    "read_header": "fusionzoo.readers.opening",
    "read_image": "fusionzoo.readers.opening",
    "save_image": "fusionzoo.readers.writing",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
