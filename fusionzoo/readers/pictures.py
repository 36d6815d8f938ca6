"""Images that Pillow reads: headers, and decoding to plain images."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from fusionzoo.errors import FusionZooError, InputError, OutOfMemoryError, warn
from fusionzoo.readers.content import ImageFileLike, check_pixels, label_of, open_stream
from fusionzoo.readers.jpeg_segments import is_dji_radiometric
from fusionzoo.readers.pillow import (
    KEPT_TIFF_TAGS,
    TIFF_TAGS,
    array_to_pil,
    orientation,
    plain,
)
from fusionzoo.readers.reading import ImageHeader

#: The formats that are read, by their names in Pillow. Pillow knows more; some of those start
#: other programs (EPS: Ghostscript), or read values wrong (FITS).
READ_FORMATS = (
    *("PNG", "JPEG", "TIFF", "BMP", "DIB", "PPM", "GIF", "WEBP", "JPEG2000"),
    *("TGA", "PCX", "SGI", "QOI", "DDS"),
    # Not every Pillow has these.
    *(name for name in ("AVIF", "IM") if find_spec(f"PIL.{name.capitalize()}ImagePlugin")),
)
_TURNED = range(5, 9)  # EXIF orientations that swap width and height
# Tags of TIFF.
_SUBFILE_TYPE, _GEO_KEYS = 254, 34735
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 256, 257, 258, 262, 274, 339
_PNG_METADATA = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")
_UNSIGNED, _SIGNED, _WHITE_IS_ZERO = 1, 2, 0

# Pillow's own limit is a global variable; it is set aside only while this lock is held.
_limit_lock = threading.Lock()


def read_header(path: ImageFileLike) -> ImageHeader:
    """Read an image file's size and mode without decoding it.

    The size is that of the upright image, the one that :func:`fusionzoo.inference.read_image`
    gives.

    Raises:
        MissingFileError, FileError, InputError: as
            :func:`fusionzoo.inference.read_image`.
    """
    with opened(path) as image:
        width, height = _upright_size(image)
        return ImageHeader(width, height, image.mode, image.format or "")


def decode(path: ImageFileLike, name: str | None = None, *, page: int | None = None) -> Image.Image:
    """Decode a file to an upright PIL image of a plain mode.

    Args:
        path: a path or content.
        name: the argument that it was given as, for errors.
        page: which page or frame, from 0; None reads the first, and warns if there are others.

    Raises:
        MissingFileError, FileError, InputError, OutOfMemoryError: as
            :func:`fusionzoo.open_image`.
    """
    label = label_of(path, name)
    with opened(path, name) as image:
        if page is not None:
            _turn_to(image, page, label)
        _warn_of_lost_bits(image, label)
        _warn_of_palette(image, label)
        if isinstance(image, TiffImageFile) and _GEO_KEYS in image.tag_v2:
            # Once, not for each of many files.
            warn(
                "the place on earth that a GeoTIFF stores is not kept; to keep it, run "
                "pip install 'fusionzoo[geo]'"
            )
        if page is None:
            _warn_of_more_pages(image, label)
        correct = _correction(image, label)
        _load(image)
        picture = correct(plain(image))
        if isinstance(image, TiffImageFile):
            tags = {tag: image.tag_v2[tag] for tag in KEPT_TIFF_TAGS if tag in image.tag_v2}
            picture.info[TIFF_TAGS] = tags
        return picture


def values_of(image: Image.Image) -> np.ndarray:
    """Return an image of a plain mode as an array ``(H, W)`` or ``(H, W, 3)``, without alpha."""
    array = np.asarray(image)
    if image.mode == "LA":
        return np.ascontiguousarray(array[..., 0])
    if image.mode == "RGBA":
        return np.ascontiguousarray(array[..., :3])
    copied: np.ndarray = array.copy()
    return copied


@contextmanager
def opened(path: ImageFileLike, name: str | None = None) -> Iterator[ImageFile.ImageFile]:
    """Open an image file as a PIL image that is not yet decoded.

    What its decoder raises within the ``with`` block becomes an error that names the file.
    """
    label = label_of(path, name)
    with open_stream(path, label) as stream:
        try:
            with _identified(stream) as image:
                check_pixels(image.size, label)
                yield image
        except FusionZooError:
            raise
        except MemoryError:
            raise OutOfMemoryError(
                f"{label} needs more memory to be decoded than there is; scale the image down"
            ) from None
        except UnidentifiedImageError as error:
            if _is_tiff(stream):
                raise InputError(
                    f"{label} is a TIFF that Pillow cannot read: its values are of a rare kind, or "
                    "it is damaged; run "
                    "pip install 'fusionzoo[tiff]', or replace it"
                ) from error
            raise InputError(
                f"{label} cannot be read as an image; it is damaged or of a format that is not "
                "read: replace it, or convert it to .png or .tif"
            ) from error
        # Decoders raise nearly anything on damaged files: OSError, SyntaxError, struct.error, ...
        except Exception as error:
            raise InputError(
                f"{label} cannot be read as an image ({error}); it may be damaged: replace it, or "
                "convert it to .png or .tif"
            ) from error


def _is_tiff(stream: IO[bytes]) -> bool:
    stream.seek(0)
    return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and not find_spec("tifffile")


def _identified(stream: IO[bytes]) -> ImageFile.ImageFile:
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream, formats=READ_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load(image: ImageFile.ImageFile) -> None:
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is None or width * height <= Image.MAX_IMAGE_PIXELS:
        image.load()
        return
    with _limit_lock:  # within our limit and beyond Pillow's, which TIFF asks for once more
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image.load()
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    width, height = image.size
    if isinstance(image, TiffImageFile):
        # Pillow turns the size of a TIFF when it reads the header, and its EXIF does not tell.
        tags = image.tag_v2
        width, height = tags[_WIDTH], tags[_HEIGHT]
        turned = tags.get(_ORIENTATION) in _TURNED
    elif image.format == "PNG":
        # Asked for metadata that a PNG does not begin with, Pillow decodes all of it.
        has_metadata = not image.info.keys().isdisjoint(_PNG_METADATA)
        has_metadata = has_metadata or _has_late_metadata(image)
        turned = has_metadata and orientation(image) in _TURNED
    else:
        turned = orientation(image) in _TURNED
    return (height, width) if turned else (width, height)


def _has_late_metadata(image: ImageFile.ImageFile) -> bool:
    """Whether a PNG has metadata behind its pixels, where some tools write it."""
    stream: Any = image.fp
    position = stream.tell()
    try:
        stream.seek(8)
        pixels_seen = False
        while len(header := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            pixels_seen = pixels_seen or kind == b"IDAT"
            if pixels_seen and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            if kind == b"IEND":
                return False
            stream.seek(length + 4, os.SEEK_CUR)
        return False
    finally:
        stream.seek(position)


def _correction(image: ImageFile.ImageFile, label: str) -> Callable[[Image.Image], Image.Image]:
    """Return what makes of Pillow's reading of a grey TIFF what the file means.

    Raises:
        InputError: values that Pillow would read wrong beyond repair.
    """
    if not isinstance(image, TiffImageFile) or len(image.getbands()) > 1:
        return lambda decoded: decoded
    tags = image.tag_v2
    bits, kind = tags.get(_BITS, (1,))[0], tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]
    white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    is_compressed = any(tile[0] == "libtiff" for tile in image.tile)
    if tags.prefix == b"MM" and is_compressed and (bits == 32 or (bits == 16 and kind == _SIGNED)):
        raise InputError(
            f"{label} is big-endian and compressed, and Pillow swaps its bytes; run pip install "
            "'fusionzoo[tiff]'"
        )
    if bits == 8 and kind == _SIGNED:
        raise InputError(f"{label} holds signed 8-bit values, which are not read; save 16-bit ones")
    if bits == 32 and white_is_zero:
        raise InputError(f"{label} holds 32-bit values of which 0 is white; save it inverted")
    if bits == 16 and white_is_zero:
        return _inverted
    if bits == 32 and kind == _UNSIGNED:
        return partial(_check_unsigned, label)
    return lambda decoded: decoded


def _inverted(image: Image.Image) -> Image.Image:
    return array_to_pil(65535 - np.asarray(image), image.info.get("icc_profile"))


def _check_unsigned(label: str, image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.size and values.min() < 0:
        raise InputError(
            f"{label} holds unsigned 32-bit values of 2^31 and more, which are not read; save "
            "32-bit floats"
        )
    return image


def _warn_of_lost_bits(image: ImageFile.ImageFile, label: str) -> None:
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        return
    for tile in image.tile:
        decoder, arguments = tile[0], tile[3]
        maxval = arguments[-1] if isinstance(arguments, tuple) and arguments else 0
        if (
            ";16" in str(arguments)
            or decoder == "SGI16"
            or (decoder in ("ppm", "ppm_plain") and isinstance(maxval, int) and maxval > 255)
        ):
            warn(
                f"{label}: 16-bit {image.mode} is read at 8 bits; to keep all bits, "
                + (
                    "run pip install 'fusionzoo[tiff]'"
                    if image.format == "TIFF"
                    else "read the file with another library and pass the array"
                )
            )
            return


def _warn_of_palette(image: ImageFile.ImageFile, label: str) -> None:
    if image.format not in ("JPEG", "MPO"):
        return
    stream: Any = image.fp
    place = stream.tell()
    try:
        is_dji = is_dji_radiometric(stream)
    finally:
        stream.seek(place)
    if is_dji:
        warn(
            f"{label}: the temperatures in DJI's radiometric JPEG are not read, only its coloured "
            "picture is; to fuse temperatures, convert it to TIFF with the DJI Thermal SDK "
            "(dji_irp -a measure)"
        )


def _turn_to(image: ImageFile.ImageFile, page: int, label: str) -> None:
    count = getattr(image, "n_frames", 1)
    if page >= count:
        raise InputError(f"{label} has no page {page}; it holds {count}, counted from 0")
    image.seek(page)
    check_pixels(image.size, label)


def _is_stack(image: TiffImageFile) -> bool:
    """Whether the second page is an image like the first, and no thumbnail or mask of it."""
    first = image.size, image.mode
    try:
        image.seek(1)
        return (image.size, image.mode) == first and not image.tag_v2.get(_SUBFILE_TYPE, 0)
    except Exception:  # damaged
        return False
    finally:
        image.seek(0)


def _warn_of_more_pages(image: ImageFile.ImageFile, label: str) -> None:
    if image.format == "MPO":  # a camera's JPEG and its preview
        return
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # a later page is damaged
        image.seek(0)
        count = 2
    if isinstance(image, TiffImageFile) and count > 1 and _is_stack(image):
        raise InputError(
            f"{label} holds {count} pages; pass one of them: fusionzoo.open_image(path, page=0), "
            "or --ir-page, --vi-page"
        )
    if count > 1:
        pages = "pages" if image.format == "TIFF" else "frames"
        warn(
            f"{label} holds several {pages} and only the first is read; open another one by "
            "fusionzoo.open_image(..., page=1), or save each to its own file"
        )
