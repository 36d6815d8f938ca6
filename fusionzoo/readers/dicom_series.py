"""Folders of DICOM slices, and files of many frames, as volumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset

from fusionzoo.errors import FileError, FusionZooError, InputError, MissingFileError
from fusionzoo.readers import dicom_header as header
from fusionzoo.readers.content import open_stream
from fusionzoo.readers.dicom import open_dataset, reading_of
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.volume import Reserve, Volume, check_affine, check_voxels

__all__ = ["holds_dicom", "read_series"]

# DICOM's axes go to the patient's left and back, those of affines here to the right and front.
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# By how much of it the distance between two slices may differ from the usual one.
_EVEN = 0.02
_SHOWN = 4

_Given = TypeVar("_Given")


@dataclass(frozen=True)
class _Slice:
    """One slice of a series, before its pixels are read."""

    path: Path
    frame: int
    series: str
    what: str
    size: tuple[int, int]  # rows, columns
    position: np.ndarray  # of the first pixel, in mm
    axes: np.ndarray  # (2, 3): directions along a row, and along a column
    spacing: tuple[float, float]
    thickness: float
    space: str | None  # the frame of reference


def holds_dicom(folder: Path) -> bool:
    """Whether a folder holds a DICOM file; only the first files are looked at."""
    try:
        names = sorted(os.listdir(folder))[:64]
    except OSError:
        return False
    return any(_is_dicom(folder / name) for name in names)


def read_series(place: Path, *, reserve: Reserve | None = None) -> Volume:
    """Read a series as a volume: slices in the order of their places, in their unit.

    Args:
        place: a folder that holds the slices of one series, or a file of many frames.
        reserve: called with the bytes that the volume takes, before they are taken.

    Raises:
        InputError: several series, slices that are missing, lie at one place or differ in size, ...
    """
    label = str(place)
    slices = _folder(place, label) if place.is_dir() else _frames(place)
    _check_alike(slices, label)
    slices, step = _in_order(slices, label)
    first = slices[0]
    rows, columns = first.size
    check_voxels((columns, rows, len(slices)), label)
    if reserve is not None:
        reserve(4 * rows * columns * len(slices))
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * first.spacing[1]
    affine[:3, 1] = first.axes[1] * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, first.position
    stored, unit, limits = _values(slices, label)
    return Volume(
        stored,
        check_affine(_TO_RAS @ affine, label),
        label,
        unit=unit,
        range=limits,
        frame=first.space,
    )


def _folder(folder: Path, label: str) -> list[_Slice]:
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        raise MissingFileError(f"{label}: no such folder; check the path") from None
    except OSError as error:
        raise FileError(f"{label} cannot be looked into ({error.strerror}); check it") from error
    slices: list[_Slice] = []
    for path in paths:
        if path.name == "DICOMDIR" or not _is_dicom(path):
            continue
        slices += _frames(path)
    if not slices:
        raise InputError(f"{label} holds no DICOM files; pass the folder of one series")
    return slices


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _frames(path: Path) -> list[_Slice]:
    label = str(path)

    def read() -> list[_Slice]:
        with open_stream(path, label) as stream:
            dataset = open_dataset(stream, label, pixels=False)
        count = header.frames_of(dataset)
        check_voxels((int(dataset.Columns), int(dataset.Rows), count), label)
        return [_slice(path, dataset, frame, label) for frame in range(count)]

    return _told(read, label)


def _told(read: Callable[[], _Given], label: str) -> _Given:
    """What a function gives; what pydicom raises in it becomes an error that names the file."""
    try:
        return read()
    except (FusionZooError, MemoryError):
        raise
    except Exception as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{label} cannot be read as a DICOM file ({why}); it may be damaged: replace it"
        ) from error


def _slice(path: Path, dataset: pydicom.Dataset, frame: int, label: str) -> _Slice:
    def lookup(group: str, name: str) -> Any:
        return header.element(dataset, frame, group, name)

    position = header.numbers(lookup("PlanePositionSequence", "ImagePositionPatient"), 3)
    turned = header.numbers(lookup("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = header.spacing_of(dataset, frame)
    if position is None or turned is None or spacing is None:
        lacks = "ImagePositionPatient, ImageOrientationPatient or PixelSpacing"
        raise InputError(
            f"{label} does not say where it lies in the patient ({lacks}); fuse its images one by "
            "one, or convert the series to NIfTI"
        )
    axes = np.array(turned).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise InputError(
            f"{label} has an ImageOrientationPatient that is no pair of directions; replace it"
        )
    thickness = 1.0
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        found = header.numbers([lookup("PixelMeasuresSequence", name)], 1)
        if found is not None and found[0] > 0:
            thickness = found[0]
            break
    what = " ".join(
        str(dataset.get(name)) for name in ("Modality", "SeriesNumber") if dataset.get(name)
    )
    space = str(dataset.get("FrameOfReferenceUID") or "") or None
    return _Slice(
        path, frame, str(dataset.get("SeriesInstanceUID", "")), what,
        (int(dataset.Rows), int(dataset.Columns)), np.array(position), axes, spacing, thickness,
        space,
    )  # fmt: skip


def _check_alike(slices: list[_Slice], label: str) -> None:
    """Refuse slices that do not make one volume.

    Raises:
        InputError: naming what differs.
    """
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for one in slices:
        counts[one.series] = counts.get(one.series, 0) + 1
        names[one.series] = one.what
    if len(counts) > 1:
        told = [f"{names[series] or 'one'}: {count} images" for series, count in counts.items()]
        more = "" if len(told) <= _SHOWN else ", ..."
        raise InputError(
            f"{label} holds {len(counts)} series ({', '.join(told[:_SHOWN])}{more}); put the one "
            "to fuse into a folder of its own"
        )
    first = slices[0]
    for one in slices[1:]:
        for what, same in (
            ("size", one.size == first.size),
            ("PixelSpacing", np.allclose(one.spacing, first.spacing, rtol=1e-3)),
            ("orientation", np.allclose(one.axes, first.axes, atol=5e-3)),
            ("frame of reference", one.space == first.space),
        ):
            if not same:
                raise InputError(
                    f"{label}: {one.path.name} and {first.path.name} differ in {what} and make no "
                    "volume; keep the slices of one scan, without localisers"
                )


def _in_order(slices: list[_Slice], label: str) -> tuple[list[_Slice], np.ndarray]:
    """The slices by their place along the normal, and the step from one to the next in mm."""
    normal = np.cross(*slices[0].axes)
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    if len(slices) == 1:
        return slices, normal * slices[0].thickness
    places = np.array([one.position @ normal for one in slices])
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    at_one_place = int((gaps <= max(1e-4, 0.01 * usual)).sum())
    if at_one_place:
        raise InputError(
            f"{label} has {at_one_place} places with several slices, as of echoes or points in "
            "time; put those of one into a folder of its own"
        )
    uneven = np.flatnonzero(np.abs(gaps - usual) > max(_EVEN * usual, 0.02))
    if uneven.size:
        where = int(uneven[0])
        raise InputError(
            f"{label} has slices every {usual:.4g} mm, but {gaps[where]:.4g} mm between "
            f"{slices[where].path.name} and {slices[where + 1].path.name}; a slice may be missing"
        )
    return slices, (slices[-1].position - slices[0].position) / (len(slices) - 1)


def _values(
    slices: list[_Slice], label: str
) -> tuple[np.ndarray, str | None, tuple[float, float] | None]:
    """The volume's values, their unit, and the window if all slices have the same."""
    stored: np.ndarray | None = None
    units, ranges = set(), set()
    path: Path | None = None
    content = pydicom.Dataset()
    for number, one in enumerate(slices):
        if path != one.path:
            content, path = _whole(one.path), one.path
        reading = _told(partial(_reading, content, one), str(one.path))
        values = reading.values
        if values.ndim == 3:
            raise InputError(f"{label} holds colours; pass the series of numbers that they show")
        if reading.valid is not None:
            values = np.where(reading.valid, values, values[reading.valid].min())
        if stored is None:
            dtype = values.dtype if values.dtype.itemsize <= 2 else np.dtype(np.float32)
            stored = np.empty((*reversed(one.size), len(slices)), dtype, order="F")
        elif not np.can_cast(values.dtype, stored.dtype):
            stored = stored.astype(np.float32, order="F")
        stored[:, :, number] = values.T
        units.add(reading.unit)
        ranges.add(reading.range)
    assert stored is not None, "a series has slices"
    return (
        stored,
        units.pop() if len(units) == 1 else None,
        ranges.pop() if len(ranges) == 1 else None,
    )


def _whole(path: Path) -> pydicom.Dataset:
    with open_stream(path, str(path)) as stream:
        return _told(partial(open_dataset, stream, str(path)), str(path))


def _reading(content: pydicom.Dataset, one: _Slice) -> Reading:
    # Frames of one file share its elements, and what decodes a frame drops the pixels.
    dataset = pydicom.Dataset(content)
    dataset.file_meta = getattr(content, "file_meta", FileMetaDataset())
    dataset.set_original_encoding(*content.original_encoding)
    return reading_of(dataset, one.frame, str(one.path))
