"""What elements of a DICOM header mean: for a file of one frame, and for a frame of several."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fusionzoo.errors import InputError

__all__ = [
    "element",
    "frames_of",
    "name_of",
    "numbers",
    "rescaling_of",
    "spacing_of",
    "stored_ends",
    "syntax_of",
    "unit_of",
    "window_of",
]

_UNITS = {"BQML": "Bq/ml", "GML": "g/ml", "CNTS": "counts", "HU": "HU", "GY": "Gy"}


def element(dataset: pydicom.Dataset, frame: int, group: str, name: str) -> Any:
    """Return an element of a frame: its own, one that all frames share, or the file's; or None."""
    own, shared = dataset.get("PerFrameFunctionalGroupsSequence"), None
    places: list[Any] = []
    if own and frame < len(own):
        places += own[frame].get(group) or []
    shared = dataset.get("SharedFunctionalGroupsSequence")
    if shared:
        places += shared[0].get(group) or []
    for place in (*places, dataset):
        value = place.get(name)
        if value is not None and value != "":
            return value
    return None


def numbers(value: Any, count: int) -> list[float] | None:
    """Return ``count`` finite numbers of an element, or None where it does not hold them."""
    try:
        found = [float(one) for one in value]
    except (TypeError, ValueError, OverflowError):
        return None
    if len(found) != count or not all(math.isfinite(one) for one in found):
        return None
    return found


def frames_of(dataset: pydicom.Dataset) -> int:
    """Return how many frames a file holds."""
    return max(1, int(dataset.get("NumberOfFrames") or 1))


def name_of(identifier: Any) -> str:
    """Return the name of a unique identifier; empty where there is none."""
    return UID(str(identifier)).name if identifier else ""


def syntax_of(encoding: tuple[bool | None, bool | None]) -> UID:
    """Return the transfer syntax that elements were found to be written in."""
    implicit, little = encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def rescaling_of(dataset: pydicom.Dataset, frame: int, label: str) -> tuple[float, float]:
    """Return slope and intercept from stored numbers to values.

    Raises:
        InputError: they are no finite numbers.
    """
    group = "PixelValueTransformationSequence"
    slope = element(dataset, frame, group, "RescaleSlope")
    if slope is None:
        slope = dataset.get("DoseGridScaling")
    intercept = element(dataset, frame, group, "RescaleIntercept")
    found = (1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    pair = numbers(found, 2)
    if pair is None:
        raise InputError(
            f"{label} is rescaled by {found[0]} and {found[1]}, which are no numbers; replace it"
        )
    return pair[0], pair[1]


def unit_of(dataset: pydicom.Dataset, frame: int) -> str | None:
    """Return the unit of rescaled values, None where the file does not tell."""
    group = "PixelValueTransformationSequence"
    if dataset.get("Modality") == "PT" and dataset.get("Units"):
        unit = str(dataset.Units)
    elif dataset.get("DoseUnits"):
        unit = str(dataset.DoseUnits)
    else:
        unit = str(element(dataset, frame, group, "RescaleType") or "")
        rescaled = element(dataset, frame, group, "RescaleIntercept") is not None
        if not unit and dataset.get("Modality") == "CT" and rescaled:
            unit = "HU"
    return None if unit in ("", "US") else _UNITS.get(unit, unit)


def window_of(dataset: pydicom.Dataset, frame: int) -> tuple[float, float] | None:
    """Return the values that the file's first window makes black and white.

    DICOM PS3.3, C.11.2.1.2: a linear window of width w around c runs from c - 0.5 - (w - 1) / 2 to
    c - 0.5 + (w - 1) / 2; an exact one, and here a sigmoid one too, from c - w / 2 to c + w / 2.
    """
    group = "FrameVOILUTSequence"
    ends = [_first(element(dataset, frame, group, f"Window{name}")) for name in ("Center", "Width")]
    pair = numbers(ends, 2)
    if pair is None:
        return None
    (center, width), shape = pair, element(dataset, frame, group, "VOILUTFunction")
    if shape in ("LINEAR_EXACT", "SIGMOID"):
        low, high = center - width / 2, center + width / 2
    else:
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    return (low, high) if low < high and max(-low, high) < 1e30 else None


def spacing_of(dataset: pydicom.Dataset, frame: int) -> tuple[float, float] | None:
    """Return millimetres between rows and between columns; None where the file does not tell."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(element(dataset, frame, "PixelMeasuresSequence", name), 2)
        if found is not None and min(found) > 0:
            return found[0], found[1]
    return None


def stored_ends(dataset: pydicom.Dataset, dtype: np.dtype) -> tuple[float, float]:
    """Return the least and greatest number that a pixel's bits can hold."""
    if dtype.kind == "f":
        return 0.0, 1.0
    bits = int(dataset.get("BitsStored") or 8 * dtype.itemsize)
    bits = min(max(bits, 1), 8 * dtype.itemsize)
    if dtype.kind == "i":
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1


def _first(value: Any) -> Any:
    is_many = isinstance(value, pydicom.multival.MultiValue | list | tuple)
    return (value[0] if len(value) else None) if is_many else value
