"""A radiometric JPEG written by the format's description (ExifTool's FLIR.pm), with struct."""

import io
import math
import struct

import numpy as np
from PIL import Image

RAW, PHOTOGRAPH, CAMERA, PIP = 1, 14, 32, 42
R1, R2, B, F, OFFSET = 15000.0, 0.0125, 1450.0, 1.0, -6500  # as in a FLIR E-series camera


def celsius(raw):
    """Planck's law with emissivity 1 through no air: T = B / ln(R1 / (R2 (S + OFFSET)) + F)."""
    return B / np.log(R1 / (R2 * (np.asarray(raw, float) + OFFSET)) + F) - 273.15


def raw_of(temperature):
    """The raw values of temperatures in °C, rounded: the inverse of the above."""
    kelvin = np.asarray(temperature, float) + 273.15
    return np.rint(R1 / R2 / (np.exp(B / kelvin) - F) - OFFSET).astype(np.uint16)


def encoded(values, name, **options):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format=name, **options)
    return stream.getvalue()


def raw_record(raw, png=False):
    height, width = raw.shape
    # FLIR writes PNG with the bytes of a value the wrong way round.
    pixels = encoded(raw.byteswap(), "PNG") if png else raw.astype("<u2").tobytes()
    return struct.pack("<HHH26x", 2, width, height) + pixels


def camera_record(emissivity=1.0, distance=0.0, reflected=293.15, transmission=1.0):
    record = bytearray(1000)
    struct.pack_into(
        "<7f", record, 32, emissivity, distance, reflected, 293.15, 293.15, transmission, 0.0
    )
    struct.pack_into("<f", record, 60, 0.5)
    struct.pack_into("<3f", record, 88, R1, B, F)
    struct.pack_into("<5f", record, 112, 0.006569, 0.01262, -0.002276, -0.00667, 1.9)
    struct.pack_into("<if", record, 776, OFFSET, R2)
    return bytes(record)


def photograph_record(photograph):
    height, width = photograph.shape[:2]
    head = struct.pack("<HHH26x", 4, width, height)
    return head + encoded(photograph, "JPEG", quality=95, subsampling=0)


def fff(records):
    """The FFF data: a header, a directory and its records."""
    entries, content = b"", b""
    count = len(records) + 2  # cameras leave entries empty
    start = 64 + 32 * count
    for kind, record in records.items():
        offset = start + len(content)
        entries += struct.pack(">HHIIIIIII", kind, 1, 100, 1, offset, len(record), 0, 0, 0)
        content += record
    head = b"FFF\0" + b"CAMCTRL".ljust(16, b"\0") + struct.pack(">III", 100, 64, count)
    return head.ljust(64, b"\0") + entries.ljust(32 * count, b"\0") + content


def rjpeg(records, shown=None, chunk=60000):
    """A JPEG of the picture that is shown, with the FFF data in APP1 segments."""
    shown = np.full((48, 64, 3), 127, np.uint8) if shown is None else shown
    picture = encoded(shown, "JPEG")
    data = fff(records)
    parts = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 10) + b"FLIR\0\x01"
        + bytes([number, len(parts) - 1]) + part
        for number, part in enumerate(parts)
    )  # fmt: skip
    return picture[:2] + segments + picture[2:]


def scene(height=60, width=80):
    """A person of 36 °C before a wall of 18 ... 22 °C: temperatures."""
    down, right = np.mgrid[:height, :width]
    wall = 18 + 4 * right / width
    body = np.hypot((down - height / 2) / 1.8, right - width / 2) < width / 8
    return np.where(body, 36.0, wall)


def photo(raw=None, *, visible=True, png=False, pip=None, camera=None, **options):
    """A whole file: raw values, the camera's constants and a photograph of twice the size."""
    raw = raw_of(scene()) if raw is None else raw
    records = {RAW: raw_record(raw, png), CAMERA: camera_record() if camera is None else camera}
    if visible:
        height, width = raw.shape
        down, right = np.mgrid[: 2 * height, : 2 * width]
        colours = [right * 255 // (2 * width), down * 255 // (2 * height), (right + down) % 256]
        records[PHOTOGRAPH] = photograph_record(np.dstack(colours).astype(np.uint8))
    if pip is not None:
        records[PIP] = struct.pack("<f6h", *pip, 0, 79, 0, 59)
    return rjpeg(records, **options)


assert math.isclose(float(celsius(raw_of(20.0))), 20.0, abs_tol=0.05)
