"""NIfTI volumes, by nibabel: as volumes, and single slices of them as images."""

from __future__ import annotations

import gzip
import io
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from fusionzoo.errors import InputError
from fusionzoo.readers.content import check_pixels, label_of, open_stream
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import check_page
from fusionzoo.readers.volume import Reserve, Volume, check_affine, check_voxels

__all__ = ["NiftiSource", "encode", "encode_volume", "read", "read_volume"]

# What it finds odd in a header goes to standard error otherwise.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

_NIBABEL: Any = nibabel  # parts of it are not typed
_GZIP = b"\x1f\x8b"
# No gzip stream holds more bytes of content for one of its own.
_GZIP_RATIO = 1032
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_FRAMES = {1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
_IN_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
# NIfTI-1 counts voxels along an axis in 16 bits.
_NIFTI1_SIDE = 32767


@dataclass(frozen=True)
class NiftiSource:
    """Where a slice that was read lies: ``affine`` of its one-slice volume, in RAS+ order."""

    affine: np.ndarray


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read an axial slice of a volume, upright, as radiologists see it; ``page`` from the feet up.

    The patient's right is on the left of the picture.

    Raises:
        InputError: no page, and more than one slice; several volumes in one file; ...
    """
    label = label_of(file)
    with _opened(file, label) as image:
        affine = check_affine(image.affine, label)
        shape = image.shape[:3]
        turns = _NIBABEL.io_orientation(affine)
        axis = int(np.flatnonzero(turns[:, 0] == 2)[0])  # from the feet to the head, or back
        count = shape[axis]
        if page is None and count > 1:
            raise InputError(
                f"{label} is a volume of {_sides(shape)} voxels; fuse volumes with "
                "fusionzoo.fuse_volumes (in the shell: two volumes, and -o fused.nii.gz), or pass "
                "one axial slice: fusionzoo.open_image(path, page=0)"
            )
        number = check_page(page, count, label, "axial slices")
        across = [side for place, side in enumerate(shape) if place != axis]
        check_pixels((across[0], across[1]), label)
        stored = number if turns[axis, 1] > 0 else count - 1 - number
        index = [slice(None)] * 3
        index[axis] = slice(stored, stored + 1)
        part = _NIBABEL.as_closest_canonical(image.slicer[tuple(index)])
        values = _native(np.asanyarray(part.dataobj))
    picture = np.ascontiguousarray(values[:, :, 0].T[::-1, ::-1])
    return Reading(picture, "nifti", source=NiftiSource(np.asarray(part.affine)))


def read_volume(file: Path | io.BytesIO, *, reserve: Reserve | None = None) -> Volume:
    """Read a whole volume, in the dtype that the file has.

    Args:
        file: ``.nii``, ``.nii.gz``, or one of a pair ``.hdr`` and ``.img``.
        reserve: called with the bytes that the volume takes, before they are taken.

    Raises:
        InputError: several volumes in one file, colours, no place in space, cut off, ...
    """
    label = label_of(file)
    with _opened(file, label) as image:
        affine = check_affine(image.affine, label)
        scale = _IN_MILLIMETRES.get(_space_unit(image), 1.0)
        if scale != 1.0:
            affine = np.diag([scale, scale, scale, 1.0]) @ affine
        if reserve is not None:
            reserve(math.prod(image.shape) * image.get_data_dtype().itemsize)
        proxy: Any = image.dataobj
        stored = _native(np.asanyarray(proxy.get_unscaled()))
        slope, intercept = float(proxy.slope), float(proxy.inter)
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(
            f"{label} is rescaled by {slope} and {intercept}; set numbers in its header"
        )
    return Volume(stored, affine, label, slope, intercept, frame=_frame_of(image))


def encode(reading: Reading, path: Path) -> bytes:
    """Return a volume of one slice, at the place of the slice that was read."""
    source = reading.source
    affine = source.affine if isinstance(source, NiftiSource) else np.eye(4)
    canonical = reading.values[::-1, ::-1].swapaxes(0, 1)
    return encode_volume(canonical[:, :, None], affine, path)


def encode_volume(
    values: np.ndarray,
    affine: np.ndarray,
    path: Path,
    *,
    slope: float = 1.0,
    frame: str | None = None,
) -> bytes:
    """Return a NIfTI file of ``(X, Y, Z)``, or ``(X, Y, Z, 3)`` of uint8 as RGB.

    Args:
        values: stored numbers.
        affine: from voxels to millimetres, RAS+.
        path: ``.nii.gz`` is compressed.
        slope: from stored numbers to values.
        frame: of the space that the affine leads to.
    """
    if values.ndim == 4:
        if values.dtype != np.uint8:
            raise InputError(
                f"{path}: {values.dtype} colour cannot be written; convert it to uint8"
            )
        values = np.ascontiguousarray(values).view(_RGB)[..., 0]
    elif values.dtype == np.float16:
        values = values.astype(np.float32)
    kind: Any = nibabel.Nifti1Image if max(values.shape) <= _NIFTI1_SIDE else nibabel.Nifti2Image
    code = next((code for code, name in _FRAMES.items() if name == frame), 2)
    # dtype: nibabel asks for it where viewers cannot be trusted with 64-bit integers.
    image = kind(values, affine, dtype=values.dtype)
    image.set_sform(affine, code)
    image.set_qform(affine, code, strip_shears=True)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"fused by fusionzoo"
    if slope != 1.0:
        image.header.set_slope_inter(slope, 0.0)
    content: bytes = image.to_bytes()
    return gzip.compress(content, 4) if path.name.lower().endswith(".gz") else content


@contextmanager
def _opened(file: Path | io.BytesIO, label: str) -> Iterator[Any]:
    """A nibabel image of three dimensions whose values are not read yet, and are all there."""
    with ExitStack() as closing:
        stream = closing.enter_context(open_stream(file, label))
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        packed = stream.read(2) == _GZIP
        stream.seek(0)
        plain: Any = stream
        if packed:
            size *= _GZIP_RATIO
            plain = closing.enter_context(gzip.GzipFile(fileobj=stream))
        image, size = _made(file, plain, size, label)
        yield _checked(image, size, label)


def _made(file: Path | io.BytesIO, stream: Any, size: int, label: str) -> tuple[Any, int]:
    head = stream.read(540)
    stream.seek(0)
    pair = head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0"
    is_second = head[4:8] in (b"n+2\0", b"ni2\0")
    if not is_second and head[344:348] not in (b"n+1\0", b"ni1\0"):
        if isinstance(file, Path) and file.suffix.lower() == ".img":
            return _pair(file, label)
        raise InputError(f"{label} is no NIfTI volume, or is cut off; replace it, or convert it")
    if pair:
        if not isinstance(file, Path):
            raise InputError(f"{label} is a header without its values; pass the path of the .hdr")
        return _pair(file, label)
    kind: Any = nibabel.Nifti2Image if is_second else nibabel.Nifti1Image
    return kind.from_stream(stream), size


def _pair(file: Path, label: str) -> tuple[Any, int]:
    """An image of two files, ``.hdr`` and ``.img``."""
    image: Any = nibabel.load(file)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise InputError(f"{label} is no NIfTI volume; convert it to .nii")
    values = Path(image.file_map["image"].filename or file)
    size = values.stat().st_size * (_GZIP_RATIO if values.suffix.lower() == ".gz" else 1)
    return image, size


def _checked(image: Any, size: int, label: str) -> Any:
    shape = image.shape
    if len(shape) > 3 and math.prod(shape[3:]) != 1:
        raise InputError(
            f"{label} holds {math.prod(shape[3:])} volumes of {_sides(shape[:3])} voxels (it is "
            f"{len(shape)}D); save the one to fuse to a file of its own, such as their mean"
        )
    if len(shape) < 3:
        raise InputError(f"{label} has {len(shape)} dimensions and is no volume; save three")
    check_voxels(shape[:3], label)
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        what = "colours" if dtype.names else f"{dtype} values"
        raise InputError(f"{label} holds {what}; pass the volume of numbers that they show")
    need = math.prod(shape) * dtype.itemsize
    start = int(image.dataobj.offset)
    if need + start > size:
        raise InputError(
            f"{label} is cut off: its header tells of {need:,} bytes of values, which do not fit "
            "in the file; replace it"
        )
    return image.slicer[(slice(None),) * 3 + (0,) * (len(shape) - 3)] if len(shape) > 3 else image


def _native(values: np.ndarray) -> np.ndarray:
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return values.astype(dtype, copy=False)


def _space_unit(image: Any) -> str:
    unit: str = image.header.get_xyzt_units()[0]
    return unit


def _frame_of(image: Any) -> str | None:
    code = int(image.header["sform_code"]) or int(image.header["qform_code"])
    return _FRAMES.get(code)


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
