"""PIL images: upright and in one of few modes, made of arrays, with their colour profile."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

#: The PIL modes worked with; every other mode is converted to one of these first.
PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I", "F")

#: Tags of a TIFF that its fused image keeps: description, resolution and its unit, date.
KEPT_TIFF_TAGS = (270, 282, 283, 296, 306)
#: Where a PIL image that was read from a TIFF has them, in ``info``.
TIFF_TAGS = "tiff_tags"

_ORIENTATION_TAG = 0x0112
_PROFILE_SPACE = slice(16, 20)  # where an ICC profile names the colour space that it is for


def plain(image: Image.Image) -> Image.Image:
    """Return the image upright, in one of `PLAIN_MODES`; the given one is left as it is."""
    image.load()
    if orientation(image) in range(2, 9):
        image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode in PLAIN_MODES:
        return image
    if mode.startswith("I;16"):
        return array_to_pil(np.asarray(image).astype(np.uint16))
    if mode in ("P", "PA"):
        return _without_palette(image)
    return image.convert({"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if there is none."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata says nothing about the pixels
        return 1


def array_to_pil(array: np.ndarray, icc_profile: bytes | None = None) -> Image.Image:
    """Make a PIL image of an array.

    It is uint8 ``(H, W)`` / ``(H, W, 2|3|4)``, or uint16, int32 or float32 ``(H, W)``.
    ``icc_profile`` goes with it where it is one for such an image.
    """
    if array.dtype == np.uint16:
        # Not every Pillow makes I;16 of a uint16 array by itself.
        height, width = array.shape
        image = Image.frombytes("I;16", (width, height), array.astype("<u2").tobytes())
    else:
        image = Image.fromarray(np.ascontiguousarray(array))
    if icc_profile is not None:
        image.info["icc_profile"] = icc_profile
        if icc_profile_of(image) is None:
            del image.info["icc_profile"]
    return image


def icc_profile_of(image: Image.Image) -> bytes | None:
    """Return the ICC profile that the image carries, if it is one for the image's own mode.

    The profile of a CMYK file, say, says nothing about the RGB image that was made of it.
    """
    profile: Any = image.info.get("icc_profile")
    if not isinstance(profile, bytes):
        return None
    bands = image.getbands()
    space = b"GRAY" if len(bands) < 3 and image.mode != "P" else b"RGB "
    if image.mode in ("CMYK", "LAB"):
        space = image.mode.ljust(4).replace("LAB ", "Lab ").encode()
    return profile if profile[_PROFILE_SPACE] == space else None


def _without_palette(image: Image.Image) -> Image.Image:
    palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    grey = bool((palette == palette[:, :1]).all())
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
        return image.convert("LA") if grey else image
    return image.convert("L" if grey else "RGB")
