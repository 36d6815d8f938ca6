"""What a reader makes of a file: values, and what they mean."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

__all__ = ["UNIT_TOLERANCE", "ImageHeader", "Reading"]

#: How far beyond [0, 1] a float image may reach and still count as one in [0, 1]: rounding of
#: half floats and of earlier conversions, not more.
UNIT_TOLERANCE = 1e-3


class ImageHeader(NamedTuple):
    """What the header of an image file tells.

    Attributes:
        width: in pixels, of the upright image: as it is after EXIF orientation is applied.
        height: the same.
        mode: Pillow's name of what is stored: ``L``, ``RGB``, ``I;16``, ...; for values that
            Pillow has no mode for, ``F`` (grey) or ``RGB;F`` (colour).
        format: Pillow's name of the file format (``PNG``, ``TIFF``, ...), or a reader's (``npy``).
    """

    width: int
    height: int
    mode: str
    format: str

    @property
    def decoded_bytes(self) -> int:
        """What the image takes in memory as data modules keep it, in bytes, at most."""
        pixels = self.width * self.height
        if self.mode in ("I", "F") or self.mode.startswith("I;16"):
            return 4 * pixels
        if self.mode == "RGB;F":
            return 12 * pixels
        from PIL.Image import getmodebands

        return pixels * getmodebands(self.mode)


@dataclass(frozen=True)
class Reading:
    """An image file as ``model.fuse`` sees it: values and what they mean.

    ``model.fuse`` takes a reading as it takes a path. Of a visible image that is a reading, the
    fused image is a reading too: of the same kind, dtype and ``source``, so that :meth:`save`
    keeps what the file says beside its pixels. ``numpy.asarray(reading)`` gives the values.

    Attributes:
        values: ``(H, W)``, or ``(H, W, 3)`` in colour, in the dtype that the file stores or, where
            the file says how they become physical values, in the dtype of those.
        kind: the format: ``"image"`` for all that Pillow reads, ``"npy"``, ``"tiff"``, ``"flir"``,
            ``"geotiff"``, ``"dicom"``, ``"nifti"``, ...
        unit: of the values, such as ``"°C"`` or ``"HU"``; None where the file does not tell.
        range: ``(lo, hi)``, the values that fusing maps to 0 and 1 unless it is told others; None
            leaves it to the dtype and the values, see :func:`fusionzoo.inference.fuse_images`.
        visible: the visible photograph ``(H, W, 3)``, uint8, that a thermal camera keeps in the
            same file; None elsewhere.
        valid: bool ``(H, W)``: where the file has values at all; None where it has them everywhere.
        source: what the format's writer needs to give metadata back.
    """

    values: np.ndarray
    kind: str
    unit: str | None = None
    range: tuple[float, float] | None = None
    visible: np.ndarray | None = field(default=None, repr=False)
    valid: np.ndarray | None = field(default=None, repr=False)
    source: Any = field(default=None, repr=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.values if dtype is None else self.values.astype(dtype)
        return values.copy() if copy and values is self.values else values

    def __repr__(self) -> str:
        unit = f", unit={self.unit!r}" if self.unit else ""
        limits = f", range={self.range}" if self.range else ""
        visible = f", visible={self.visible.shape}" if self.visible is not None else ""
        shape = f"{self.values.shape} {self.values.dtype}"
        return f"Reading({self.kind!r}, values={shape}{unit}{limits}{visible})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the values to a file, in the format that its ending names.

        TIFF and ``.npy`` hold every depth. Metadata is kept where the format can. See
        :func:`fusionzoo.inference.save_image` for what is raised.
        """
        from fusionzoo.readers.writing import save_image

        save_image(path, self)

    def with_values(self, values: np.ndarray) -> Reading:
        """Return a reading of other values that means the same: the result of fusing.

        Where this one has no values, the other has none either, if it is of the same size.
        """
        valid = self.valid
        if valid is not None and valid.shape == values.shape[:2]:
            own = self.values
            if own.ndim > values.ndim:
                own = own[..., 0]
            values = values.copy()
            values[~valid] = own[~valid]
        elif valid is not None:
            valid = None
        return replace(self, values=values, visible=None, valid=valid)
