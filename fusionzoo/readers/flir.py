"""FLIR's radiometric JPEG: temperatures by flyr, and the visible photograph in the same file.

The picture that a viewer shows of such a file, a palette with scale and logo, is ignored.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flyr
import numpy as np
from PIL import Image

from fusionzoo.errors import InputError, warn
from fusionzoo.readers import jpeg_segments as jpeg
from fusionzoo.readers import pictures
from fusionzoo.readers.content import check_pixels, label_of, open_stream
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import check_page

__all__ = ["FlirSource", "read"]

# How much the thermal image may reach beyond the photograph, in shares of its own side.
_BEYOND = 0.25
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class FlirSource:
    """What a radiometric JPEG says beside its temperatures.

    Attributes:
        camera: what temperatures were computed with: ``emissivity``, ``object_distance`` (m),
            ``reflected_apparent_temperature`` and ``atmospheric_temperature`` (K),
            ``relative_humidity`` (0 ... 1), and the camera's constants.
        photograph: the whole visible photograph ``(H, W[, 3])``, uint8; None if there is none.
    """

    camera: dict[str, float]
    photograph: np.ndarray | None = field(repr=False)


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read temperatures in °C, by the emissivity, distance and so on that the file gives."""
    label = label_of(file)
    check_page(page, 1, label)
    with open_stream(file, label) as stream:
        content = stream.read()
    records = jpeg.flir_records(io.BytesIO(content))
    if jpeg.CAMERA_INFO not in records:
        raise InputError(
            f"{label} is a radiometric JPEG without the camera's constants, so there are no "
            "temperatures; export it again with FLIR's own software"
        )
    _check_raw(records[jpeg.RAW_DATA], label)
    photograph = _photograph(records, label)
    thermal = flyr.unpack(io.BytesIO(content))
    with np.errstate(all="ignore"):
        values = np.asarray(thermal.celsius, np.float64)
    valid = np.isfinite(values)
    if not valid.any():
        raise InputError(f"{label} has constants that give no temperatures; it may be damaged")
    low, high = (float(limit) for limit in np.percentile(values[valid], _PERCENTILES))
    camera = {name: float(value) for name, value in thermal.metadata.items()}
    return Reading(
        values,
        "flir",
        unit="°C",
        range=(low, high) if low < high else None,
        visible=_same_view(photograph, records),
        valid=None if valid.all() else valid,
        source=FlirSource(camera, photograph),
    )


def _check_raw(record: memoryview, label: str) -> None:
    """Refuse raw values whose declared size is not that of the data, or too large."""
    if len(record) < 32:
        raise InputError(f"{label} is cut off before its raw values; replace it")
    width, height = struct.unpack_from("<HH", record, 2)
    check_pixels((width, height), label)
    inside = jpeg.size_of_png(record[32:])
    if inside is not None and inside != (width, height):
        raise InputError(f"{label} holds raw values of two sizes; it may be damaged: replace it")
    if inside is None and len(record) - 32 < 2 * width * height:
        raise InputError(f"{label} is cut off within its raw values; replace it")


def _photograph(records: dict[int, memoryview], label: str) -> np.ndarray | None:
    record = records.get(jpeg.EMBEDDED_IMAGE)
    if record is None or len(record) <= 32:
        return None
    content = bytes(record[32:])
    is_png = content.startswith(b"\x89PNG")
    if not is_png and not content.startswith(b"\xff\xd8"):
        warn(f"{label}: its visible photograph is of a kind that is not read, and left out")
        return None
    try:
        photograph = pictures.values_of(pictures.decode(content))
        if is_png and photograph.ndim == 3:
            # Cameras store Y, Cb and Cr in the three channels of a PNG.
            bands = Image.fromarray(photograph).split()
            photograph = np.array(Image.merge("YCbCr", bands).convert("RGB"))
        return photograph
    except InputError as error:
        why = str(error).removeprefix("the image ")
        raise InputError(f"{label}: its visible photograph {why}") from error


def _same_view(photograph: np.ndarray | None, records: dict[int, memoryview]) -> np.ndarray | None:
    """The part of the photograph that the thermal image shows, as the camera has it.

    The thermal image is ``1 / Real2IR`` of the photograph wide, with its centre off the
    photograph's by ``OffsetX`` and ``OffsetY`` pixels of the photograph (ExifTool's names).
    """
    record: Any = records.get(jpeg.PICTURE_IN_PICTURE)
    if photograph is None:
        return None
    if photograph.ndim == 2:
        photograph = np.repeat(photograph[..., None], 3, axis=2)
    if record is None or len(record) < 8:
        return photograph
    ratio, right, down = struct.unpack_from("<fhh", record)
    if not 0.5 < ratio < 10:
        return photograph
    thermal_width, thermal_height = struct.unpack_from("<HH", records[jpeg.RAW_DATA], 2)
    height, width = photograph.shape[:2]
    wide = width / ratio
    high = wide * thermal_height / max(thermal_width, 1)
    left, top = (width - wide) / 2 + right, (height - high) / 2 + down
    box = [round(edge) for edge in (left, top, left + wide, top + high)]
    beyond = [max(0, -box[0]), max(0, -box[1]), max(0, box[2] - width), max(0, box[3] - height)]
    if min(wide, high) < 2 or max(beyond) > _BEYOND * min(wide, high):
        return photograph
    if any(beyond):
        sides = ((beyond[1], beyond[3]), (beyond[0], beyond[2]), (0, 0))
        photograph = np.pad(photograph, sides, mode="edge")
        box = [edge + beyond[number % 2] for number, edge in enumerate(box)]
    return np.ascontiguousarray(photograph[box[1] : box[3], box[0] : box[2]])
