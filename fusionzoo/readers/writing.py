"""Writing images to files, whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fusionzoo.errors import InputError, InputTypeError, MissingFileError
from fusionzoo.readers.pillow import TIFF_TAGS, array_to_pil, icc_profile_of
from fusionzoo.readers.reading import UNIT_TOLERANCE, Reading
from fusionzoo.readers.table import TIFF_WRITERS, Writer, writer_of
from fusionzoo.remote import as_path, is_remote, write_file

#: The formats that are written, by their names in Pillow. Others scale the image (icons), need
#: other programs, or hold black and white alone.
WRITE_FORMATS = frozenset(
    (
        *("PNG", "JPEG", "MPO", "TIFF", "BMP", "DIB", "WEBP", "PPM", "JPEG2000", "GIF", "AVIF"),
        *("TGA", "PCX", "SGI", "QOI", "IM", "DDS", "EPS", "PDF"),
    )
)
# Lossy formats at settings under which fused detail survives. PNG at a level that takes a third of
# the time of Pillow's own, for files that are 2 to 4 % larger.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_deflate"},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}
# WebP, GIF and AVIF take deep images without a word, and clip them to 8 bits.
_EIGHT_BITS = ("WEBP", "GIF", "AVIF")
_WITH_PROFILE = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF")


def file_format(path: str | os.PathLike[str]) -> str:
    """Return the name of the format, in most cases Pillow's, that :func:`save_image` writes there.

    Raises:
        InputError: the suffix is none of a format that is written, or its library is missing.
    """
    path = as_path(path)
    writer = writer_of(path)
    if writer is not None:
        writer.load(path)
        return writer.module.upper()
    name = Image.registered_extensions().get(path.suffix.lower())
    if name not in WRITE_FORMATS or name not in Image.SAVE:
        raise InputError(
            f"{path}: {path.suffix or 'a name without suffix'!r} is no format that can be written; "
            "use .png, .tif or .jpg"
        )
    return name


def save_image(
    path: str | os.PathLike[str], image: Image.Image | np.ndarray | Tensor | Reading
) -> None:
    """Write an image under its final name only when it is whole.

    The image is encoded in memory, written under a temporary name in the same folder and then
    renamed; a file that was there is replaced. The suffix decides the format. JPEG is written at
    quality 95 without chroma subsampling, WebP without loss. The colour profile (ICC) of a PIL
    image goes with it to PNG, JPEG, TIFF, WebP and AVIF.

    Args:
        path: of the file, whose folder exists, or its URL (``s3://...``).
        image: PIL image, array ``(H, W)`` / ``(H, W, 1|3|4)`` or tensor ``(H, W)`` /
            ``(1|3|4, H, W)`` / ``(1, C, H, W)``. uint8 is written as it is. uint16, int16, int32
            and int64 are grey; they need PNG (0 ... 65535) or TIFF (what int32 holds). Floats lie
            in [0, 1] and are rounded to 8 bits, but grey floats of any range are kept, as 32-bit
            floats, in TIFF. ``.npy`` holds every dtype. A reading of
            :func:`fusionzoo.open_image`, or what was fused of one, keeps its metadata where the
            format can; where the format has no such values (°C in PNG), its ``range`` becomes
            black and white, in 16 bits for grey PNG, else 8.

    Raises:
        MissingFileError: a FileNotFoundError: the folder does not exist.
        FileError: an OSError: the file cannot be written, or the disk is full.
        InputError, InputTypeError: a ValueError and a TypeError, naming problem and remedy.
    """
    path = as_path(path)
    name = file_format(path)
    if not is_remote(path) and not path.parent.is_dir():
        raise MissingFileError(f"{path}: the folder {path.parent} does not exist; make it first")
    writer = writer_of(path)
    if isinstance(image, Reading) and name == "TIFF":
        writer = _tiff_writer(image)
    if writer is not None:
        content = writer.load(path).encode(_as_reading(image, path), path)
    else:
        plain = _shown(image, name) if isinstance(image, Reading) else image
        content = _encoded(_writable(plain, name, path), name, path)
    write_file(path, content)


def _tiff_writer(reading: Reading) -> Writer | None:
    is_deep_colour = reading.values.ndim == 3 and reading.values.dtype != np.uint8
    if reading.kind in TIFF_WRITERS:
        return TIFF_WRITERS[reading.kind]
    return TIFF_WRITERS["tiff"] if is_deep_colour else None


def _as_reading(image: Any, path: Path) -> Reading:
    if isinstance(image, Reading):
        return image
    if isinstance(image, Image.Image):
        return Reading(np.asarray(image), "image")
    if isinstance(image, Tensor):
        return Reading(_channels_last(image.detach().cpu(), path), "image")
    if isinstance(image, np.ndarray):
        return Reading(image, "image")
    raise InputTypeError(
        f"{path}: cannot write a {type(image).__name__}; pass a PIL image, array or tensor"
    )


def _shown(reading: Reading, name: str) -> np.ndarray:
    """The values in a picture's format: as they are where it holds them, else by their range."""
    values = reading.values
    is_grey, tiff = values.ndim == 2, name == "TIFF"
    if values.dtype == np.uint8 or (
        is_grey and (tiff or (name == "PNG" and values.dtype == np.uint16))
    ):
        return values
    unit = values.astype(np.float64)
    if reading.range is not None:
        low, high = reading.range
    else:
        low, high = float(unit.min()), float(unit.max())
        if values.dtype.kind == "f" and low >= -UNIT_TOLERANCE and high <= 1 + UNIT_TOLERANCE:
            low, high = 0.0, 1.0
    unit = np.clip((unit - low) / (high - low or 1.0), 0, 1)
    unit = np.nan_to_num(unit)
    steps, dtype = (65535, np.uint16) if is_grey and name == "PNG" else (255, np.uint8)
    scaled: np.ndarray = np.rint(unit * steps).astype(dtype)
    return scaled


def _encoded(picture: Image.Image, name: str, path: Path) -> bytes:
    if name in _EIGHT_BITS and picture.mode.startswith(("I", "F")):
        raise InputError(f"{path}: {name} cannot hold more than 8 bits; use .png or .tif")
    options = dict(_SAVE_OPTIONS.get(name, {}))
    if name in _WITH_PROFILE:
        options["icc_profile"] = icc_profile_of(picture)
    if name == "TIFF" and picture.info.get(TIFF_TAGS):
        options["tiffinfo"] = picture.info[TIFF_TAGS]
    stream = io.BytesIO()
    try:
        picture.save(stream, format=name, **options)
    except MemoryError:
        raise
    # Encoders raise OSError, ValueError, KeyError, struct.error, ... for what a format cannot hold.
    except Exception as error:
        if isinstance(error, KeyError) or "mode" in str(error):
            what = f"{name} cannot hold an image of mode {picture.mode}"
        else:
            width, height = picture.size
            what = f"{name} cannot hold this image of {width} x {height} pixels ({error})"
        raise InputError(f"{path}: {what}; use .png or .tif") from error
    return stream.getvalue()


def _writable(image: Any, name: str, path: Path) -> Image.Image:
    """Make a PIL image of it that the format can hold."""
    profile = None
    if isinstance(image, Image.Image):
        if image.mode not in ("I", "F") or name == "TIFF":
            return image
        profile = icc_profile_of(image)
        image = np.asarray(image)
    elif isinstance(image, Tensor):
        image = _channels_last(image.detach().cpu(), path)
    if not isinstance(image, np.ndarray):
        raise InputTypeError(
            f"{path}: cannot write a {type(image).__name__}; pass a PIL image, array or tensor"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))) or not image.size:
        raise InputError(
            f"{path}: cannot write shape {image.shape}; pass (H, W) or (H, W, 1|3|4) "
            "(tensors: (C, H, W))"
        )
    return array_to_pil(_storable(image, name == "TIFF", path), profile)


def _channels_last(image: Tensor, path: Path) -> np.ndarray:
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim not in (2, 3):
        raise InputError(
            f"{path}: cannot write a tensor of shape {tuple(image.shape)}; "
            "write the images of a batch one by one"
        )
    if image.is_floating_point():
        image = image.float()
    values: np.ndarray = (image if image.ndim == 2 else image.permute(1, 2, 0)).numpy()
    return values


def _storable(array: np.ndarray, tiff: bool, path: Path) -> np.ndarray:
    """Return the array in a dtype which the format stores."""
    grey, dtype = array.ndim == 2, array.dtype.newbyteorder("=")
    if dtype == np.uint8:
        return array
    if dtype in (np.uint16, np.int16, np.int32, np.int64):
        if not grey:
            raise InputError(f"{path}: {dtype} colour cannot be written; convert it to uint8")
        if dtype == np.uint16:
            return array.astype(dtype)
        held = np.iinfo(np.int32 if tiff else np.uint16)
        if array.min() < held.min or array.max() > held.max:
            remedy = "convert them to floats" if tiff else "use a .tif file"
            raise InputError(
                f"{path}: {dtype} values beyond {held.min} ... {held.max} do not fit; {remedy}"
            )
        return array.astype(held.dtype)
    if dtype.kind != "f":
        raise InputTypeError(
            f"{path}: cannot write {dtype}; use uint8, uint16, int16, int32, int64 or floats"
        )
    if grey and tiff:
        return array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= -UNIT_TOLERANCE and high <= 1 + UNIT_TOLERANCE):
        raise InputError(
            f"{path}: float values reach from {low:g} to {high:g}; scale them to [0, 1] or "
            "write a grey .tif file"
        )
    scaled: np.ndarray = np.rint(np.clip(array, 0, 1).astype(np.float64) * 255)
    return scaled.astype(np.uint8)
