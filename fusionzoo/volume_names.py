"""What is called like a volume; nothing is opened to find out."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["AXES", "RESULT_ENDINGS", "VOLUME_ENDINGS", "is_volume", "result_name"]

#: Endings of files that hold volumes, in lower case.
VOLUME_ENDINGS = (".nii", ".nii.gz", ".hdr", ".img")
#: Endings of volumes that are written.
RESULT_ENDINGS = (".nii", ".nii.gz")
#: Axes of the patient along which slices may be counted, by the planes of the slices.
AXES = {"axial": 2, "coronal": 1, "sagittal": 0}


def is_volume(place: str | os.PathLike[str]) -> bool:
    """Whether this is called like a file that holds a volume."""
    return os.fspath(place).lower().endswith(VOLUME_ENDINGS)


def result_name(place: Path) -> str:
    """Return the name of a result that lies beside others, by that of the MRI."""
    if place.name.lower().endswith(RESULT_ENDINGS):
        return place.name
    return f"{place.stem if is_volume(place) else place.resolve().name}.nii.gz"
