"""Infrared onto visible images: estimate a transform, apply it, keep it in a file."""

from fusionzoo.alignment.aligning import Matcher, align, align_rig, distance_to_identity
from fusionzoo.alignment.checkerboard import checkerboard
from fusionzoo.alignment.confidence import LEAST_CONFIDENCE
from fusionzoo.alignment.points import fit_points, read_points
from fusionzoo.alignment.registration import Register, registration, registration_once
from fusionzoo.alignment.transform import Alignment
from fusionzoo.errors import AlignmentError

__all__ = [
    "LEAST_CONFIDENCE",
    "Alignment",
    "AlignmentError",
    "Matcher",
    "Register",
    "align",
    "align_rig",
    "checkerboard",
    "distance_to_identity",
    "fit_points",
    "read_points",
    "registration",
    "registration_once",
]
