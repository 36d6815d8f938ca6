"""Results as DICOM: secondary captures, with nothing of the patient unless it is asked for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from fusionzoo._version import __version__
from fusionzoo.errors import InputError, warn

__all__ = ["secondary_capture"]

# Who it is, and in which study: copied only if the caller asks.
_PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "PatientSize", "PatientWeight"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PositionReferenceIndicator"),
)
# Elements that have to be there, empty where nothing is known.
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientOrientation"),
)


def secondary_capture(
    values: np.ndarray,
    path: Path,
    *,
    limits: tuple[float, float] | None,
    unit: str | None,
    of: pydicom.Dataset | None,
    spacing: tuple[float, float] | None,
    keep_patient: bool,
) -> pydicom.Dataset:
    """Return a dataset of an image that was fused.

    Args:
        values: ``(H, W)`` or ``(H, W, 3)``; grey of more than 16 bits is rescaled to 16.
        path: for errors.
        limits: values that a screen is to show black and white.
        unit: of the values.
        of: header of the image that was fused.
        spacing: millimetres between rows and columns.
        keep_patient: whether patient and study of ``of`` go with it.

    Raises:
        InputError: no image.
    """
    values = _eight_bits(values) if values.ndim == 3 else values
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        raise InputError(f"{path}: cannot write shape {values.shape}; pass (H, W) or (H, W, 3)")
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, name, generate_uid(prefix=None))  # random: tells nothing of this machine
    for name in _EMPTY:
        setattr(dataset, name, "")
    dataset.Modality, dataset.ConversionType = "OT", "WSD"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Manufacturer = dataset.SecondaryCaptureDeviceManufacturer = "fusionzoo"
    dataset.SecondaryCaptureDeviceSoftwareVersions = __version__
    now = datetime.now()
    dataset.DateOfSecondaryCapture = now.strftime("%Y%m%d")
    dataset.TimeOfSecondaryCapture = now.strftime("%H%M%S")
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    modality = str(of.get("Modality") or "") if of is not None else ""
    dataset.DerivationDescription = (
        f"Fused by fusionzoo {__version__}"
        + (f" from {modality} and an image of another modality" if modality else "")
        + "; for research, not for diagnosis"
    )
    dataset.SeriesDescription = "Fused image"
    if spacing is not None:
        dataset.PixelSpacing = [f"{one:.10g}" for one in spacing]
    if of is not None:
        _copy(of, dataset, keep_patient)
    _set_pixels(dataset, values, limits, unit)
    return dataset


def _copy(of: pydicom.Dataset, dataset: pydicom.Dataset, keep_patient: bool) -> None:
    if of.get("LossyImageCompression") == "01":
        dataset.LossyImageCompression = "01"
    if not keep_patient:
        if of.get("BurnedInAnnotation") == "YES":
            dataset.BurnedInAnnotation = "YES"
            warn("the DICOM image has text in its pixels, which may name the patient; look at it")
        return
    for name in (*_PATIENT, "BurnedInAnnotation"):
        if name in of:
            setattr(dataset, name, of[name].value)
    if "SpecificCharacterSet" in of:  # or the name would be read wrong
        dataset.SpecificCharacterSet = of.SpecificCharacterSet
    if of.get("SOPClassUID") and of.get("SOPInstanceUID"):
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = (
            of.SOPClassUID,
            of.SOPInstanceUID,
        )
        dataset.SourceImageSequence = [item]


def _set_pixels(
    dataset: pydicom.Dataset,
    values: np.ndarray,
    limits: tuple[float, float] | None,
    unit: str | None,
) -> None:
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
        dataset.set_pixel_data(np.ascontiguousarray(values), "RGB", 8, generate_instance_uid=False)
        return
    slope, intercept = 1.0, 0.0
    if values.dtype not in (np.uint8, np.uint16, np.int16):
        low, high = float(values.min()), float(values.max())
        slope, intercept = (high - low) / 65535 or 1.0, low
        values = np.rint((values.astype(np.float64) - low) / slope).astype(np.uint16)
    bits = 8 * values.dtype.itemsize
    dataset.set_pixel_data(
        np.ascontiguousarray(values), "MONOCHROME2", bits, generate_instance_uid=False
    )
    if unit is not None or slope != 1 or intercept:
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
        dataset.RescaleType = _ascii(unit) or "US"
    if limits is not None:
        low, high = limits
        dataset.WindowCenter, dataset.WindowWidth = f"{(low + high) / 2:.10g}", f"{high - low:.10g}"
        dataset.VOILUTFunction = "LINEAR_EXACT"


def _ascii(unit: Any) -> str:
    return str(unit or "").encode("ascii", "ignore").decode()[:16]


def _eight_bits(colour: np.ndarray) -> np.ndarray:
    if colour.dtype == np.uint8:
        return colour
    top = 1.0
    if colour.dtype.kind != "f":
        top = 65535.0 if colour.dtype == np.uint16 else float(max(colour.max(), 1))
    levels: np.ndarray = np.rint(np.clip(colour.astype(np.float64) / top, 0, 1) * 255)
    return levels.astype(np.uint8)
