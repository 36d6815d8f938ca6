"""A volume: values on a grid of voxels, and where the grid lies in the patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusionzoo.errors import InputError
from fusionzoo.readers.content import MAX_PIXELS_VARIABLE, max_pixels

__all__ = ["Reserve", "Volume", "check_affine", "check_voxels"]

#: Called with the bytes that a volume will take, before they are taken; it may raise.
Reserve = Callable[[int], None]

# A volume may have as many voxels as eight of the largest images have pixels.
_IMAGES = 8


@dataclass(frozen=True)
class Volume:
    """Values on a grid of voxels, ``value = stored * slope + intercept``.

    Attributes:
        stored: ``(X, Y, Z)``, a number in the dtype that the file has.
        affine: float64 ``(4, 4)``: from voxel numbers to millimetres, with x toward the patient's
            right, y to the front and z to the head (RAS+, as in NIfTI).
        label: what errors call it.
        slope, intercept: from stored numbers to values.
        unit: of the values; None where the file does not tell.
        range: the values that a screen is to show black and white; None leaves it to the values.
        frame: names the space that the affine leads to; only volumes of one space lie in their
            places to each other. None: not known.
    """

    stored: np.ndarray
    affine: np.ndarray
    label: str
    slope: float = 1.0
    intercept: float = 0.0
    unit: str | None = None
    range: tuple[float, float] | None = None
    frame: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.stored.shape
        return x, y, z

    def values(self, stored: np.ndarray | None = None) -> np.ndarray:
        """Return float32 values: of all voxels, or of some stored numbers."""
        numbers = self.stored if stored is None else stored
        if (self.slope, self.intercept) == (1.0, 0.0):
            return numbers.astype(np.float32)
        scaled: np.ndarray = (numbers * self.slope + self.intercept).astype(np.float32)
        return scaled


def check_affine(affine: np.ndarray, label: str) -> np.ndarray:
    """Return the affine as float64.

    Raises:
        InputError: it leads nowhere, or all voxels into one plane.
    """
    affine = np.asarray(affine, dtype=np.float64)
    usable = affine.shape == (4, 4) and bool(np.isfinite(affine).all())
    if usable:
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        usable = bool(steps.min() > 0 and steps.max() < 1e6 and np.abs(affine).max() < 1e9)
        usable = usable and abs(np.linalg.det(affine[:3, :3] / steps)) > 1e-3
    if not usable:
        raise InputError(
            f"{label} does not say where its voxels lie (its affine has no inverse); set sform or "
            "qform first"
        )
    return affine


def check_voxels(shape: tuple[int, ...], label: str) -> None:
    """Refuse a volume that has too many voxels, or none.

    Raises:
        InputError: eight times as many as ``FUSIONZOO_MAX_PIXELS``, by default 128 million.
    """
    count = 1
    for side in shape:
        count *= int(side)
    size = " x ".join(map(str, shape))
    if count < 1 or min(shape) < 1:
        raise InputError(f"{label} is a volume of {size} voxels; it is empty: replace it")
    limit = _IMAGES * max_pixels()
    if count > limit:
        raise InputError(
            f"{label} is a volume of {size} voxels, {count:,}, and the limit is {limit:,}; crop "
            f"it, or set the environment variable {MAX_PIXELS_VARIABLE} to an eighth of what you "
            "need"
        )
