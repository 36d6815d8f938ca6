"""DICOM files, by pydicom: values in their unit, and the window that the scanner's screen showed.

Reading and writing are here; :mod:`~fusionzoo.readers.dicom_header` says what a header means,
:mod:`~fusionzoo.readers.dicom_writing` what a result's header holds.
"""

from __future__ import annotations

import io
import logging
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from fusionzoo.errors import FusionZooError, InputError
from fusionzoo.readers import dicom_header as header
from fusionzoo.readers.content import DEFAULT_MAX_PIXELS, check_pixels, label_of, open_stream
from fusionzoo.readers.dicom_writing import secondary_capture
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import check_page, widened

__all__ = ["DicomSource", "encode", "keeping_patient", "open_dataset", "read", "reading_of"]

# Without a handler, what it finds odd would be printed, values of the file included.
logging.getLogger("pydicom").addHandler(logging.NullHandler())

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_PALETTE = "PALETTE COLOR"
_DEFLATED = "1.2.840.10008.1.2.1.99"
# Bytes of the largest image that is read: three channels of 32 bits a pixel.
_MOST_BYTES = 12 * DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class DicomSource:
    """What a result's header is made of.

    Attributes:
        dataset: the header of the file that was read, without its pixels.
        frame: which frame was read, from 0.
        keep_patient: whether name, identity and study go into a file that is written.
    """

    dataset: pydicom.Dataset
    frame: int = 0
    keep_patient: bool = False

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between rows, and between columns; None where the file does not tell."""
        return header.spacing_of(self.dataset, self.frame)


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read one frame, in the unit that the file's rescaling gives.

    White is the greatest value: ``MONOCHROME1`` is turned round. The first window of the file is
    the reading's range. Palettes become 8-bit colours, YBR becomes RGB.

    Raises:
        InputError: no image, several frames and no page, pixels that no plugin here decodes, ...
    """
    label = label_of(file)
    with open_stream(file, label) as stream:
        dataset = open_dataset(stream, label)
    number = check_page(page, header.frames_of(dataset), label, "frames")
    return reading_of(dataset, number, label)


def open_dataset(stream: IO[bytes], label: str, *, pixels: bool = True) -> pydicom.Dataset:
    """Read a file's elements, all but the pixels if told so.

    Raises:
        InputError: it holds no image, or one that is too large.
    """
    _check_deflated(stream, label)
    dataset = pydicom.dcmread(stream, force=True, stop_before_pixels=not pixels)
    if "Rows" not in dataset or "Columns" not in dataset:
        kind = dataset.get("Modality") or header.name_of(dataset.get("SOPClassUID"))
        raise InputError(
            f"{label} holds no image{f' ({kind})' if kind else ''}; pass one that does"
        )
    check_pixels((int(dataset.Columns), int(dataset.Rows)), label)
    return dataset


def reading_of(dataset: pydicom.Dataset, number: int, label: str) -> Reading:
    """Return one frame of a dataset, which loses its pixels.

    Raises:
        InputError: it cannot be decoded, or is no image.
    """
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric not in (*_GREY, *_COLOUR, _PALETTE):
        raise InputError(
            f"{label} holds pixels of kind {photometric!r}, which are not read; convert it to "
            "MONOCHROME2 or RGB"
        )
    stored = _decoded(dataset, number, label)
    source = DicomSource(dataset, number)
    limits: tuple[float, float] | None = None
    valid: np.ndarray | None = None
    unit: str | None = None
    if photometric == _PALETTE:
        values = apply_color_lut(stored, dataset)[..., :3]
        if values.dtype == np.uint16:  # of 16 bits a screen shows the upper 8
            values = (values >> 8).astype(np.uint8)
    elif stored.ndim == 3:
        values = stored
    else:
        values, ends = _rescaled(dataset, number, stored, label)
        unit, limits = header.unit_of(dataset, number), header.window_of(dataset, number)
        valid = _not_padding(dataset, stored)
        if photometric == "MONOCHROME1":
            # The greatest stored value is black: turned round within what the bits can hold.
            values = _turned(values, ends)
            total = sum(ends)
            limits = None if limits is None else (total - limits[1], total - limits[0])
        if limits is None and int(dataset.get("BitsAllocated", 8)) == 1:
            limits = (0.0, 1.0)
    for name in _PIXELS:
        if name in dataset:
            delattr(dataset, name)
    values = np.ascontiguousarray(widened(values, label))
    return Reading(values, "dicom", unit, limits, valid=valid, source=source)


def encode(reading: Reading, path: Path) -> bytes:
    """Return a DICOM file: a secondary capture that is noted as derived, with new identifiers."""
    source = reading.source if isinstance(reading.source, DicomSource) else None
    stream = io.BytesIO()
    dataset = secondary_capture(
        reading.values,
        path,
        limits=reading.range,
        unit=reading.unit,
        of=None if source is None else source.dataset,
        spacing=None if source is None else source.spacing,
        keep_patient=source is not None and source.keep_patient,
    )
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def keeping_patient(reading: Any) -> Any:
    """Return the reading so that a DICOM file of it names patient and study; else what was given.

    keeping_patient(model.fuse("pet.dcm", "mri.dcm")).save("fused.dcm")
    """
    if isinstance(reading, Reading) and isinstance(reading.source, DicomSource):
        return replace(reading, source=replace(reading.source, keep_patient=True))
    return reading


def _decoded(dataset: pydicom.Dataset, number: int, label: str) -> np.ndarray:
    if not any(name in dataset for name in _PIXELS):
        raise InputError(f"{label} has no pixels: it is cut off, or a mere header; replace it")
    meta = getattr(dataset, "file_meta", None)
    if meta is None:
        dataset.file_meta = meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in meta:  # old files begin with their elements
        meta.TransferSyntaxUID = header.syntax_of(dataset.original_encoding)
    syntax = meta.TransferSyntaxUID
    plugin = _plugin_for(syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(
            f"{label} has pixels in the form {header.name_of(syntax)}, which pydicom does not "
            "decode; convert it to an uncompressed DICOM file"
        ) from None
    if not decoder.is_available:
        raise InputError(
            f"{label} is compressed as {syntax.name}, which needs a plugin of pydicom; run: "
            f"pip install {plugin}"
        )
    try:
        array: np.ndarray = pixel_array(dataset, index=number)
    except RuntimeError as error:
        if not syntax.is_compressed:
            raise
        reasons = [line.strip() for line in str(error).splitlines() if line.startswith((" ", "\t"))]
        why = (reasons or str(error).splitlines())[0]
        raise InputError(
            f"{label} is compressed as {syntax.name}, and cannot be decoded here ({why}); it is "
            f"damaged, or needs another plugin of pydicom: pip install {plugin}"
        ) from error
    return array


def _plugin_for(syntax: UID) -> str:
    is_wavelet = "JPEG 2000" in syntax.name or "High-Throughput" in syntax.name
    return f"pylibjpeg pylibjpeg-{'openjpeg' if is_wavelet else 'libjpeg'}"


def _rescaled(
    dataset: pydicom.Dataset, number: int, stored: np.ndarray, label: str
) -> tuple[np.ndarray, tuple[float, float]]:
    """The values in their unit, and those of the least and greatest number that the bits hold."""
    if dataset.get("ModalityLUTSequence"):
        values = widened(apply_modality_lut(stored, dataset), label)
        return values, (float(values.min()), float(values.max()))
    slope, intercept = header.rescaling_of(dataset, number, label)
    ends = header.stored_ends(dataset, stored.dtype)
    if (slope, intercept) == (1.0, 0.0):
        return stored, ends
    first, second = (end * slope + intercept for end in ends)
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        held = next(
            (kind for kind in (np.int16, np.int32) if _fits(stored, slope, intercept, kind)), None
        )
        if held is not None:
            whole = stored.astype(np.int64) * int(slope) + int(intercept)
            return whole.astype(held), (first, second)
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32), (first, second)


def _fits(stored: np.ndarray, slope: float, intercept: float, kind: Any) -> bool:
    ends = [float(end) * slope + intercept for end in (stored.min(), stored.max())]
    info = np.iinfo(kind)
    return min(ends) >= info.min and max(ends) <= info.max


def _turned(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    total = sum(ends)
    if values.dtype.kind == "f":
        return (total - values.astype(np.float64)).astype(values.dtype)
    turned = int(total) - values.astype(np.int64)
    info = np.iinfo(values.dtype)
    kept = values.dtype if info.min <= turned.min() and turned.max() <= info.max else np.int64
    return turned.astype(kept)


def _not_padding(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where there are values: not the number that scanners write around a round image."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    second = dataset.get("PixelPaddingRangeLimit", first)
    low, high = sorted((first, second if isinstance(second, int) else first))
    valid = (stored < low) | (stored > high)
    return None if valid.all() or not valid.any() else valid


def _check_deflated(stream: IO[bytes], label: str) -> None:
    """Refuse a deflated file that grows beyond all images; pydicom inflates it as a whole."""
    start = stream.tell()
    head = stream.read(512)
    try:
        if _DEFLATED.encode() not in head:
            return
        stream.seek(start + 144 + int.from_bytes(head[140:144], "little"))
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        pending = stream.read(1 << 16)
        while pending and not inflate.eof:
            size += len(inflate.decompress(pending, 1 << 20))
            pending = inflate.unconsumed_tail or stream.read(1 << 16)
            if size > _MOST_BYTES:
                raise InputError(
                    f"{label} is larger than any image once it is inflated; replace it"
                )
    except FusionZooError:
        raise
    except (zlib.error, OSError, ValueError, OverflowError):
        return  # damaged: pydicom says how
    finally:
        stream.seek(start)
