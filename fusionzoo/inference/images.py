"""Image files and PIL images: reading to arrays, making images of arrays, writing whole files."""

from __future__ import annotations

import os
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from fusionzoo.inference.ranges import UNIT_TOLERANCE

#: The PIL modes worked with; every other mode is converted to one of these first.
PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I", "F")
ORIENTATION_TAG = 0x0112

# Lossy formats at settings under which fused detail survives.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_deflate"},
}


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as an array ``(H, W)`` or ``(H, W, 3)`` of its own bit depth.

    uint8 for 8-bit files, uint16 for 16-bit grey files, int32 and float32 for 32-bit grey TIFF.
    EXIF orientation is applied; palettes become RGB, or grey if all their colours are; CMYK and
    other colour spaces become RGB, 1-bit images 0 and 255; alpha is dropped. Of a file with
    several frames the first one is read. 16-bit colour is read at 8 bits, with a warning, since
    Pillow has no such mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a folder, no image, or damaged.
    """
    image = open_image(path)
    array = np.asarray(image)
    if image.mode == "LA":
        return np.ascontiguousarray(array[..., 0])
    if image.mode == "RGBA":
        return np.ascontiguousarray(array[..., :3])
    return array.copy()


def open_image(path: str | os.PathLike[str], name: str | None = None) -> Image.Image:
    """Decode a file to an upright PIL image in one of `PLAIN_MODES`; `name` goes into errors."""
    path = Path(path)
    label = f"{name}: {path}" if name else str(path)
    if path.is_dir():
        raise ValueError(f"{label} is a folder; pass one image file")
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{label}: no such file; check the path") from None
    with stream:
        try:
            with Image.open(stream) as image:
                _warn_of_lost_bits(image, label)
                return plain(image)
        except MemoryError:
            raise
        # Decoders raise nearly anything on damaged files: OSError, SyntaxError, struct.error, ...
        except Exception as error:
            raise ValueError(
                f"{label} cannot be read as an image ({error}); "
                "the file may be damaged or of an unknown format: replace or convert it"
            ) from error


def plain(image: Image.Image) -> Image.Image:
    """The image upright, in one of `PLAIN_MODES`; the given one is left as it is."""
    image.load()
    if _orientation(image) in range(2, 9):
        image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode in PLAIN_MODES:
        return image
    if mode.startswith("I;16"):
        return array_to_pil(np.asarray(image).astype(np.uint16))
    if mode in ("P", "PA"):
        return _without_palette(image)
    return image.convert({"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))


def array_to_pil(array: np.ndarray) -> Image.Image:
    """A PIL image of uint8 ``(H, W)`` / ``(H, W, 2|3|4)`` or uint16, int32, float32 ``(H, W)``."""
    if array.dtype == np.uint16:
        # Not every Pillow makes I;16 of a uint16 array by itself.
        height, width = array.shape
        return Image.frombytes("I;16", (width, height), array.astype("<u2").tobytes())
    return Image.fromarray(np.ascontiguousarray(array))


def save_image(path: str | os.PathLike[str], image: Image.Image | np.ndarray | Tensor) -> None:
    """Write an image under its final name only when it is whole.

    The file is written under a temporary name in the same folder and then renamed; a file that
    was there is replaced. The suffix decides the format. JPEG is written at quality 95 without
    chroma subsampling, WebP without loss.

    Args:
        path: of the file; its folder exists.
        image: PIL image, array ``(H, W)`` / ``(H, W, 1|3|4)`` or tensor ``(H, W)`` /
            ``(1|3|4, H, W)`` / ``(1, C, H, W)``. uint8 is written as it is. uint16 and int32 are
            grey; they need PNG (0 ... 65535) or TIFF. Floats lie in [0, 1] and are rounded to 8
            bits, but grey floats of any range are kept, as 32-bit floats, in TIFF.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError, TypeError: naming the problem and the remedy.
    """
    path = Path(path)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format not in Image.SAVE:
        raise ValueError(
            f"{path}: {path.suffix or 'a name without suffix'!r} is no format that can be written; "
            "use .png, .tif or .jpg"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")
    picture = _writable(image, file_format, path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("xb") as stream:
            picture.save(stream, format=file_format, **SAVE_OPTIONS.get(file_format, {}))
        os.replace(unfinished, path)
    except (OSError, KeyError) as error:
        if "cannot write mode" not in str(error):
            raise
        raise ValueError(
            f"{path}: {file_format} cannot hold an image of mode {picture.mode}; use .png or .tif"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _writable(image: Any, file_format: str, path: Path) -> Image.Image:
    if isinstance(image, Image.Image):
        if image.mode not in ("I", "F") or file_format == "TIFF":
            return image
        image = np.asarray(image)
    elif isinstance(image, Tensor):
        image = _channels_last(image.detach().cpu(), path)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{path}: cannot write a {type(image).__name__}; pass a PIL image, array or tensor"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))) or not image.size:
        raise ValueError(
            f"{path}: cannot write shape {image.shape}; pass (H, W) or (H, W, 1|3|4) "
            "(tensors: (C, H, W))"
        )
    return array_to_pil(_storable(image, file_format == "TIFF", path))


def _channels_last(image: Tensor, path: Path) -> np.ndarray:
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim not in (2, 3):
        raise ValueError(
            f"{path}: cannot write a tensor of shape {tuple(image.shape)}; "
            "write the images of a batch one by one"
        )
    if image.is_floating_point():
        image = image.float()
    return (image if image.ndim == 2 else image.permute(1, 2, 0)).numpy()


def _storable(array: np.ndarray, tiff: bool, path: Path) -> np.ndarray:
    """The array in a dtype which the format stores."""
    grey, dtype = array.ndim == 2, array.dtype.newbyteorder("=")
    if dtype == np.uint8:
        return array
    if dtype in (np.uint16, np.int32):
        if not grey:
            raise ValueError(f"{path}: {dtype} colour cannot be written; convert it to uint8")
        if dtype == np.uint16 or tiff:
            return array.astype(dtype)
        if array.min() < 0 or array.max() > 65535:
            raise ValueError(f"{path}: int32 values beyond 0 ... 65535 need a .tif file")
        return array.astype(np.uint16)
    if dtype.kind != "f":
        raise TypeError(f"{path}: cannot write {dtype}; use uint8, uint16, int32 or floats")
    if grey and tiff:
        return array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= -UNIT_TOLERANCE and high <= 1 + UNIT_TOLERANCE):
        raise ValueError(
            f"{path}: float values reach from {low:g} to {high:g}; scale them to [0, 1] or "
            "write a grey .tif file"
        )
    return np.rint(np.clip(array, 0, 1).astype(np.float64) * 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata says nothing about the pixels
        return 1


def _without_palette(image: Image.Image) -> Image.Image:
    palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    grey = bool((palette == palette[:, :1]).all())
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
        return image.convert("LA") if grey else image
    return image.convert("L" if grey else "RGB")


def _warn_of_lost_bits(image: Image.Image, label: str) -> None:
    if image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile):
        warnings.warn(
            f"{label}: 16-bit {image.mode} is read at 8 bits; to keep all bits, read the file with "
            "another library and pass the array",
            stacklevel=4,
        )
