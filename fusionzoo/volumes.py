"""Volumes of PET, SPECT or CT with MRI: slice by slice on the grid of the MRI.

What is in memory: both volumes in the dtype that their files have, the fused one (one byte a voxel
and channel, or two in grey), and a few slices. The functional volume is brought onto the grid of
the MRI one slice at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from fusionzoo.errors import (
    FusionZooError,
    InputError,
    InputTypeError,
    MissingFileError,
    OutOfMemoryError,
    check_choice,
    did_you_mean,
)
from fusionzoo.inference.colormaps import colors_of, shown_in
from fusionzoo.inference.memory import MEMORY_VARIABLE, available_memory
from fusionzoo.inference.options import check_count
from fusionzoo.inference.ranges import Limits, check_range, find_limits
from fusionzoo.readers.table import needed
from fusionzoo.readers.volume import Volume, check_affine, check_voxels
from fusionzoo.remote import write_file
from fusionzoo.volume_names import AXES, RESULT_ENDINGS, is_volume

__all__ = ["FusedVolume", "fuse_volumes"]

# Percentiles are those of so many voxels at most, evenly spaced.
_SAMPLE = 4_000_000
# Parts of a voxel by which places may differ and still count as the same.
_SAME = 1e-4
# What the network's slices may take of the memory beside the volumes.
_BESIDE = 256e6
# Along each axis, places at which it is looked whether the volumes overlap.
_PROBES = 48
_GREY_TOP = 65535


@dataclass(frozen=True)
class FusedVolume:
    """What :func:`fuse_volumes` gives: the fused volume on the grid of the MRI.

    Attributes:
        values: uint8 ``(X, Y, Z, 3)`` in colour, or uint16 ``(X, Y, Z)``, of which 0 is black and
            65535 white; in the order of the MRI's voxels.
        affine: float64 ``(4, 4)``, the MRI's: from voxel numbers to millimetres (RAS+).
        overlap: which part of the MRI's voxels the functional volume shows too, in [0, 1]; the
            others are those of the MRI.
        frame: the name of the space that the affine leads to, as the MRI's file gives it.
    """

    values: np.ndarray = field(repr=False)
    affine: np.ndarray = field(repr=False)
    overlap: float
    frame: str | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a NIfTI file: colour as RGB, grey as 16 bits that read as 0 ... 1.

        Nothing of the headers of the files that were fused is in it but the affine. The file takes
        its name when it is whole; one that was there is replaced.

        Args:
            path: ends in ``.nii``, or in ``.nii.gz`` to be compressed.

        Raises:
            InputError: another ending, or nibabel is not installed.
            MissingFileError, FileError: it cannot be written.
        """
        path = Path(path)
        if not path.name.lower().endswith(RESULT_ENDINGS):
            raise InputError(f"{path}: volumes are written as .nii or .nii.gz; use such a name")
        if not path.parent.is_dir():
            raise MissingFileError(
                f"{path}: the folder {path.parent} does not exist; make it first"
            )
        needed("nibabel", "nifti", f"{path} is to be written")
        from fusionzoo.readers.nifti import encode_volume

        slope = 1.0 if self.values.ndim == 4 else 1 / _GREY_TOP
        content = encode_volume(self.values, self.affine, path, slope=slope, frame=self.frame)
        write_file(path, content)


def fuse_volumes(
    model: Any,
    ir: Any,
    vi: Any,
    *,
    axis: int | str = "axial",
    colormap: str | None = None,
    ir_range: tuple[float, float] | None = None,
    vi_range: tuple[float, float] | None = None,
    force: bool = False,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> FusedVolume:
    """Fuse a volume of PET, SPECT or CT with one of MRI.

        model = fusionzoo.load("lapnet.medical")
        fused = fusionzoo.fuse_volumes(model, "pet.nii.gz", "mri.nii.gz", colormap="hot")
        fused.save("fused.nii.gz")

    **Places.** Both files say by their affines (DICOM: position and orientation) where they lie.
    The functional volume is brought onto the grid of the MRI by them, linearly; where it is finer
    than the MRI it is smoothed first. The two must be registered: what moves between two scans is
    not found here. Outside the functional volume the result is the MRI.

    **Slices** go through the network upright, as radiologists see them, however the file stores
    them: the result is the same for all orders of storage.

    **Values.** Black and white are found once, over the whole volume: the range that is given;
    else the window that all slices of a DICOM series have; else as for images, which for 16-bit
    and float volumes are the 0.5 and 99.5 percentiles. Voxels that are NaN or infinite take the
    least value.

    Args:
        model: what :func:`fusionzoo.load` gives.
        ir: functional volume: a NIfTI file, a folder of the DICOM slices of one series, a DICOM
            file of many frames, or a nibabel image.
        vi: MRI volume, likewise.
        axis: along which slices are fused: ``"axial"``, ``"coronal"``, ``"sagittal"``, or the
            number of an axis of the MRI's array, 0, 1 or 2.
        colormap: name of a colormap of matplotlib, such as ``"hot"``, that the functional volume
            is shown in; the fused volume keeps its colours. None: grey.
        ir_range: ``(lo, hi)`` values of the functional volume that become black and white.
        vi_range: the same for the MRI.
        force: fuse volumes whose files say that they lie in different spaces (DICOM's frame of
            reference, NIfTI's scanner and template spaces).
        batch_size: slices that go through the network together.
        progress: called with the number of slices that are done, and of all.
        options: ``device`` and ``dtype`` as for ``model.fuse``; ``tile``, ``memory``.

    Raises:
        MissingFileError, FileError: a path leads nowhere, or cannot be read.
        InputError: several volumes in one file, no place in space, no overlap, different spaces,
            slices that are missing, damaged files, wrong options; each names file and remedy.
        OutOfMemoryError: both volumes and the result take more memory than is free.
    """
    check_count("batch_size", batch_size)
    limits = check_range(ir_range, "ir_range"), check_range(vi_range, "vi_range")
    plane = _check_axis(axis)
    colors = None if colormap is None else colors_of(colormap)
    wanted = {name: options.pop(name) for name in ("device", "dtype") if name in options}
    _check_known(options)
    needed("nibabel", "nifti", "fusing volumes turns them by their affines")
    mri = _opened(vi, "vi", 0)
    functional = _opened(ir, "ir", mri.stored.size * (3 if colors is not None else 2))
    if not force:
        _check_frames(functional, mri)
    grid = _Grid.of(mri, plane)
    source = _Source.of(functional, grid, limits[0] or _limits_of(functional))
    _check_overlap(source, grid, functional.label, mri.label)
    fuse = model.prepared(**wanted) if hasattr(model, "prepared") else model
    shape = mri.stored.shape if colors is None else (*mri.stored.shape, 3)
    values = np.zeros(shape, np.uint16 if colors is None else np.uint8)
    job = _Job(fuse, grid, source, mri, limits[1] or _limits_of(mri), colors, options)
    seen = 0
    for start in range(0, grid.count, batch_size):
        numbers = range(start, min(start + batch_size, grid.count))
        for number, (picture, shown) in zip(numbers, job.fused(numbers), strict=True):
            grid.slice_of(values, number)[...] = picture
            seen += shown
            if progress is not None:
                progress(number + 1, grid.count)
    return FusedVolume(values, mri.affine.copy(), seen / mri.stored.size, mri.frame)


def _check_known(options: dict[str, Any]) -> None:
    """Refuse options that fusing volumes does not have.

    Raises:
        InputError: naming the closest.
    """
    for name in options:
        if name not in ("tile", "memory"):
            known = ("device", "dtype", "tile", "memory", "axis", "colormap", "force", "batch_size")
            hint = did_you_mean(name, (*known, "ir_range", "vi_range"), 1)
            raise InputError(f"fuse_volumes has no option {name}; {hint or 'leave it out'}")


@dataclass(frozen=True)
class _Grid:
    """The MRI's grid, with its axes in the order of the patient's: right, front, head.

    Attributes:
        order: the stored axis that goes along each of the patient's.
        steps: 1, or -1 where the stored axis goes the other way.
        affine: from voxel numbers in that order to millimetres.
        shape: voxels in that order.
        plane: the patient's axis along which slices are counted.
    """

    order: tuple[int, ...]
    steps: tuple[int, ...]
    affine: np.ndarray
    shape: tuple[int, ...]
    plane: int

    @classmethod
    def of(cls, volume: Volume, plane: int | str) -> _Grid:
        import nibabel

        orientations: Any = nibabel.orientations
        turns = orientations.io_orientation(volume.affine)
        order = tuple(int(np.flatnonzero(turns[:, 0] == axis)[0]) for axis in range(3))
        steps = tuple(int(turns[axis, 1]) for axis in order)
        affine = volume.affine @ orientations.inv_ornt_aff(turns, volume.shape)
        shape = tuple(volume.shape[axis] for axis in order)
        along = order.index(plane) if isinstance(plane, int) else AXES[plane]
        across = [side for axis, side in enumerate(shape) if axis != along]
        if min(across) < 2:
            raise InputError(
                f"{volume.label} has slices of {across[0]} x {across[1]} voxels along that axis; "
                "choose another axis"
            )
        return cls(order, steps, affine, shape, along)

    @property
    def count(self) -> int:
        """How many slices there are."""
        return self.shape[self.plane]

    def slice_of(self, stored: np.ndarray, number: int) -> np.ndarray:
        """A view of one slice of an array in the order of storage, upright: (rows, columns)."""
        turned = np.moveaxis(stored, self.order, (0, 1, 2))
        turned = turned[tuple(slice(None, None, step) for step in self.steps)]
        # Rows go down from the head or the front, columns from the patient's right.
        part = turned[(slice(None),) * self.plane + (number,)]
        upright: np.ndarray = part.swapaxes(0, 1)[::-1, ::-1]
        return upright

    def places(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A slice as an affine: ``(row, column, 0)`` to millimetres, as matrix and offset."""
        across, down = (axis for axis in range(3) if axis != self.plane)
        start = np.zeros(3)
        start[self.plane], start[across], start[down] = (
            number, self.shape[across] - 1, self.shape[down] - 1,
        )  # fmt: skip
        matrix = np.zeros((3, 3))
        matrix[:, 0], matrix[:, 1] = -self.affine[:3, down], -self.affine[:3, across]
        matrix[:, 2] = self.affine[:3, self.plane]
        return matrix, self.affine[:3, :3] @ start + self.affine[:3, 3]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        across, down = (self.shape[axis] for axis in range(3) if axis != self.plane)
        return down, across


@dataclass(frozen=True)
class _Source:
    """The functional volume, to be had at any place of the MRI."""

    volume: Volume
    stored: np.ndarray
    to_voxels: np.ndarray  # (4, 4): from millimetres
    limits: Limits

    @classmethod
    def of(cls, volume: Volume, grid: _Grid, limits: Limits) -> _Source:
        to_voxels = np.linalg.inv(volume.affine)
        step = np.abs(to_voxels[:3, :3] @ grid.affine[:3, :3]).max(1)
        # As many of its voxels as one of the MRI's is long are averaged, or fine detail would
        # become noise.
        sigma = np.maximum(0.0, (step - 1) / 2)
        stored = _finite(volume.stored)
        if (sigma > 0.25).any():
            smooth = ndimage.gaussian_filter(stored, sigma, output=np.float32, mode="nearest")
            return cls(volume, smooth, to_voxels, limits)
        return cls(volume, stored, to_voxels, limits)

    def at(self, grid: _Grid, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Values in [0, 1] of a slice of the grid, and where the volume has values at all."""
        matrix, offset = grid.places(number)
        matrix = _snapped(self.to_voxels[:3, :3] @ matrix)
        offset = _snapped(self.to_voxels[:3, :3] @ offset + self.to_voxels[:3, 3])
        rows, columns = grid.size
        inside = np.ones((rows, columns), bool)
        for axis, side in enumerate(self.stored.shape):
            place = (
                matrix[axis, 0] * np.arange(rows)[:, None]
                + matrix[axis, 1] * np.arange(columns)
                + offset[axis]
            )
            inside &= (place >= -0.5 - _SAME) & (place <= side - 0.5 + _SAME)
        if not inside.any():
            return np.zeros((rows, columns), np.float32), inside
        found = ndimage.affine_transform(
            self.stored,
            matrix,
            offset,
            output_shape=(rows, columns, 1),
            output=np.float32,
            order=1,
            mode="nearest",
        )
        return _unit(self.volume.values(found[..., 0]), self.limits), inside


@dataclass(frozen=True)
class _Job:
    fuse: Callable[..., Any]
    grid: _Grid
    source: _Source
    mri: Volume
    mri_limits: Limits
    colors: np.ndarray | None
    options: dict[str, Any]

    def fused(self, numbers: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
        """The fused slices, and how many of their pixels the functional volume shows."""
        pairs = [self._pair(number) for number in numbers]
        shown = [pair for pair in pairs if pair[2].any()]
        results: Iterator[Any] = iter(())
        if shown:
            given = (0.0, 1.0)
            results = iter(
                self.fuse(
                    [self._colored(unit) for unit, _, _ in shown],
                    [anatomy for _, anatomy, _ in shown],
                    color_from="ir",
                    ir_range=given if self.colors is None else None,
                    vi_range=given,
                    batch_size=len(shown),
                    **self.options,
                )
            )
        for _, anatomy, inside in pairs:
            alone = self._stored(anatomy)
            if not inside.any():
                yield alone, 0
                continue
            picture = next(results)
            picture = picture if self.colors is not None else self._stored(picture)
            where = inside if self.colors is None else inside[..., None]
            yield np.where(where, picture, alone), int(inside.sum())

    def _pair(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        unit, inside = self.source.at(self.grid, number)
        stored = _finite(np.ascontiguousarray(self.grid.slice_of(self.mri.stored, number)))
        return unit, _unit(self.mri.values(stored), self.mri_limits), inside

    def _colored(self, unit: np.ndarray) -> np.ndarray:
        return unit if self.colors is None else shown_in(self.colors, unit)

    def _stored(self, unit: np.ndarray) -> np.ndarray:
        """Grey in [0, 1] as the result holds it."""
        if self.colors is None:
            deep: np.ndarray = np.rint(unit * _GREY_TOP).astype(np.uint16)
            return deep
        levels: np.ndarray = np.rint(unit * 255).astype(np.uint8)
        return np.repeat(levels[..., None], 3, axis=-1)


def _check_axis(axis: int | str) -> int | str:
    is_number = isinstance(axis, int) and not isinstance(axis, bool)
    if not (is_number and axis in (0, 1, 2)):
        check_choice("axis", str(axis) if isinstance(axis, bool) else axis, (*AXES, 0, 1, 2))
    return axis


def _opened(volume: Any, name: str, beside: int) -> Volume:
    """The volume that was given, once the memory is known to suffice for it and the result."""

    def reserve(size: int) -> None:
        free, need = available_memory(), size + beside + _BESIDE
        if free is not None and need > free:
            raise OutOfMemoryError(
                f"{name}: {volume} and what is fused of it take {need / 1e9:.1f} GB of memory, and "
                f"{free / 1e9:.1f} GB are free; crop or coarsen it (the environment variable "
                f"{MEMORY_VARIABLE} sets how much may be used)"
            )

    if isinstance(volume, Volume):
        return volume
    if isinstance(volume, str | os.PathLike):
        try:
            return _read(Path(volume), reserve)
        except FusionZooError as error:
            raise type(error)(f"{name}: {error}") from error
        except MemoryError:
            raise OutOfMemoryError(
                f"{name}: {volume} needs more memory than there is; crop it"
            ) from None
        # Libraries raise nearly anything on damaged files.
        except Exception as error:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{name}: {volume} cannot be read as a volume ({why}); replace it if it is damaged"
            ) from error
    if hasattr(volume, "dataobj") and hasattr(volume, "affine"):
        return _from_image(volume, name)
    raise InputTypeError(
        f"{name} is a {type(volume).__name__}; pass the path of a NIfTI file, of a DICOM folder or "
        "a nibabel image"
    )


def _read(place: Path, reserve: Callable[[int], None]) -> Volume:
    if not place.exists():
        raise MissingFileError(f"{place}: no such file or folder; check the path")
    if place.is_dir() or not _is_nifti(place):
        needed("pydicom", "dicom", f"{place} is no NIfTI file, and taken for DICOM")
        from fusionzoo.readers.dicom_series import read_series

        return read_series(place, reserve=reserve)
    needed("nibabel", "nifti", f"{place} is a NIfTI volume")
    from fusionzoo.readers.nifti import read_volume

    return read_volume(place, reserve=reserve)


def _is_nifti(place: Path) -> bool:
    from fusionzoo.readers.table import format_of

    if is_volume(place):
        return True
    row = format_of(place)
    if row is None or row.kind not in ("nifti", "dicom"):
        raise InputError(f"{place} is no volume; pass a NIfTI file or a folder of DICOM slices")
    return row.kind == "nifti"


def _from_image(image: Any, name: str) -> Volume:
    if len(image.shape) != 3:
        raise InputError(f"{name} has {len(image.shape)} dimensions; pass one volume (X, Y, Z)")
    check_voxels(image.shape, name)
    values = np.asanyarray(image.dataobj)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{name} holds {values.dtype} values; pass a volume of numbers")
    return Volume(values, check_affine(image.affine, name), name)


def _check_frames(functional: Volume, mri: Volume) -> None:
    """Refuse volumes whose files say that their millimetres are counted in different spaces.

    Raises:
        InputError: naming both spaces.
    """
    one, other = functional.frame, mri.frame
    if one is None or other is None or one == other:
        return
    # "aligned" is aligned to something that the file does not name: it may be the other one.
    if "aligned" in (one, other):
        return
    known = {"scanner", "Talairach", "MNI", "template"}
    if len({one in known, other in known}) == 2:
        return  # a DICOM and a NIfTI file name spaces in different ways
    named = f"{one} and {other}" if one in known else "two DICOM frames of reference"
    raise InputError(
        f"{functional.label} and {mri.label} lie in different spaces ({named}); register one to "
        "the other first, or pass force=True if they are"
    )


def _check_overlap(source: _Source, grid: _Grid, name: str, other: str) -> None:
    """Refuse volumes of which neither shows anything that the other shows too.

    Raises:
        InputError: naming both.
    """
    own = np.linalg.inv(source.to_voxels)
    to_grid = np.linalg.inv(grid.affine)
    if not (
        _reaches(source.to_voxels @ grid.affine, grid.shape, source.stored.shape)
        or _reaches(to_grid @ own, source.stored.shape, grid.shape)
    ):
        raise InputError(
            f"{name} and {other} show no common part of the patient, by their affines; register "
            "one to the other first"
        )


def _reaches(affine: np.ndarray, shape: Sequence[int], into: Sequence[int]) -> bool:
    """Whether voxels of one grid, a few along each axis, lie in another grid."""
    places = [np.linspace(0, side - 1, min(side, _PROBES)) for side in shape]
    x, y, z = np.meshgrid(*places, indexing="ij", sparse=True)
    inside: Any = True
    for axis, side in enumerate(into):
        row = affine[axis]
        place = row[0] * x + row[1] * y + row[2] * z + row[3]
        inside = inside & (place >= -0.5) & (place <= side - 0.5)
    return bool(np.any(inside))


def _limits_of(volume: Volume) -> Limits:
    """The values that become black and white, by the rules of images, over the whole volume."""
    if volume.range is not None:
        return volume.range
    step = max(1, round((volume.stored.size / _SAMPLE) ** (1 / 3)))
    few = volume.stored[::step, ::step, ::step]
    if few.dtype.kind == "f":
        few = few[np.isfinite(few)]
        if not few.size:
            raise InputError(f"{volume.label} has no finite values; replace it")
    if few.dtype == np.uint8 and (volume.slope, volume.intercept) == (1.0, 0.0):
        return 0.0, 255.0
    values = torch.from_numpy(volume.values(few).reshape(1, 1, 1, -1))
    return find_limits(values, volume.label)[0]


def _finite(stored: np.ndarray) -> np.ndarray:
    """The numbers, with the least one where they are NaN or infinite."""
    if stored.dtype.kind != "f":
        return stored
    known = np.isfinite(stored)
    if known.all():
        return stored
    least = stored[known].min() if known.any() else 0.0
    return np.where(known, stored, stored.dtype.type(least))


def _unit(values: np.ndarray, limits: Limits) -> np.ndarray:
    low, high = limits
    unit: np.ndarray = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return unit


def _snapped(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers where rounding alone keeps them from being so: equal grids stay exact."""
    whole = np.rint(numbers)
    snapped: np.ndarray = np.where(
        np.abs(numbers - whole) < 1e-6 * np.maximum(1, abs(whole)), whole, numbers
    )
    return snapped
