"""GeoTIFF by rasterio: where on Earth an image lies, where it has no values, and one grid for two.

A result keeps the visible image's reference system, transform, nodata value and tags.
"""

from __future__ import annotations

import io
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.warp import reproject

from fusionzoo.errors import InputError
from fusionzoo.readers.content import check_pixels, label_of
from fusionzoo.readers.reading import Reading
from fusionzoo.readers.values import as_image, check_page

__all__ = ["GeoSource", "encode", "onto", "read"]

# What GDAL finds wrong is in our error, or of no account; without a handler it is printed.
logging.getLogger("rasterio").addHandler(logging.NullHandler())

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# Grids that differ by less than this share of a pixel are one.
_SAME = 1e-3


@dataclass(frozen=True)
class GeoSource:
    """Where an image lies.

    Attributes:
        crs: coordinate reference system (``rasterio.crs.CRS``), None if the file has none.
        transform: from pixels to its coordinates (``affine.Affine``).
        size: height and width of the image that ``transform`` is for.
        nodata: the value that means that there is none, None if there is no such value.
        tags: further metadata of the file.
    """

    crs: Any
    transform: Any
    size: tuple[int, int]
    nodata: float | None
    tags: dict[str, str]


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read the one band or the colours of a GeoTIFF; of several bands, the one that `page` says."""
    label = label_of(file)
    if isinstance(file, io.BytesIO):
        with MemoryFile(file.getvalue()) as memory, memory.open(driver="GTiff") as data:
            return _read(data, label, page)
    with rasterio.open(os.fspath(file.absolute()), driver="GTiff") as data:
        return _read(data, label, page)


def _read(data: Any, label: str, page: int | str | None) -> Reading:
    check_pixels((data.width, data.height), label)
    bands = _bands(data, label, page)
    values = data.read(bands)
    values = values[0] if len(bands) == 1 else np.moveaxis(values, 0, -1)
    valid = data.dataset_mask() > 0
    if data.colorinterp[bands[0] - 1] == ColorInterp.palette:
        values = _without_palette(values, data.colormap(bands[0]))
    values = as_image(values, label)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        valid &= finite if values.ndim == 2 else finite.all(axis=2)
    source = GeoSource(
        data.crs, data.transform, (data.height, data.width), data.nodata, dict(data.tags())
    )
    return Reading(
        values,
        "geotiff",
        unit=data.units[bands[0] - 1] or None,
        valid=None if valid.all() else valid,
        source=source,
    )


def _bands(data: Any, label: str, page: int | str | None) -> list[int]:
    """The bands to read, from 1."""
    meanings = list(data.colorinterp)
    count = len([one for one in meanings if one != ColorInterp.alpha])
    if page is not None:
        return [check_page(page, data.count, label, "bands") + 1]
    if all(colour in meanings for colour in _COLOURS):
        return [meanings.index(colour) + 1 for colour in _COLOURS]
    if count == 3:
        return [number + 1 for number in range(data.count) if meanings[number] != ColorInterp.alpha]
    return [check_page(None, count, label, "bands") + 1]


def _without_palette(indices: np.ndarray, palette: dict[int, tuple[int, ...]]) -> np.ndarray:
    colours = np.zeros((max(palette) + 1, 3), np.uint8)
    for index, colour in palette.items():
        colours[index] = colour[:3]
    picture: np.ndarray = colours[np.clip(indices, 0, len(colours) - 1)]
    return picture


def onto(ir: Reading, vi: Reading) -> Reading:
    """Bring one image onto the grid of another by where both lie; bilinear.

    Where the first shows nothing, the result has no values.

    Raises:
        InputError: they do not overlap.
    """
    from_grid, to_grid = ir.source, vi.source
    if from_grid.crs is None or to_grid.crs is None or _is_same(from_grid, to_grid):
        return ir
    height, width = to_grid.size
    places = {
        "src_transform": from_grid.transform,
        "src_crs": from_grid.crs,
        "dst_transform": to_grid.transform,
        "dst_crs": to_grid.crs,
    }
    known = np.ones(from_grid.size, np.uint8) if ir.valid is None else ir.valid.astype(np.uint8)
    # What the four neighbours share of a pixel without value is not known.
    share = np.zeros((height, width), np.float32)
    try:
        reproject(
            known.astype(np.float32), share, resampling=Resampling.bilinear, init_dest_nodata=True,
            **places,
        )  # fmt: skip
        valid = share > 0.999
        planes = np.moveaxis(np.atleast_3d(ir.values), -1, 0)
        warped = np.zeros((len(planes), height, width), np.float64)
        for plane, out in zip(planes, warped, strict=True):
            filled = np.where(known > 0, plane, 0).astype(np.float64)
            reproject(filled, out, resampling=Resampling.bilinear, **places)
    except RasterioError as error:
        raise InputError(
            f"ir cannot be brought onto the grid of vi ({error}); check the reference systems of "
            "both"
        ) from error
    if not valid.any():
        raise InputError("ir and vi do not overlap on the ground; take images of the same place")
    if ir.values.dtype.kind != "f":
        warped = np.rint(warped)
    values = np.moveaxis(warped.astype(ir.values.dtype), 0, -1)
    return replace(
        ir,
        values=np.ascontiguousarray(values[..., 0] if ir.values.ndim == 2 else values),
        valid=None if valid.all() else valid,
        source=replace(to_grid, nodata=from_grid.nodata, tags=from_grid.tags),
    )


def _is_same(one: GeoSource, other: GeoSource) -> bool:
    if one.size != other.size or one.crs != other.crs:
        return False
    # Where the corners of the one lie in pixels of the other.
    into = ~other.transform * one.transform
    height, width = one.size
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    return all(
        abs(place - corner) < _SAME
        for x, y in corners
        for place, corner in zip(into * (x, y), (x, y), strict=True)
    )


def encode(reading: Reading, path: Path) -> bytes:
    """Return the content of a GeoTIFF of the values, at the place that the source says."""
    source: GeoSource = reading.source
    values = reading.values
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    height, width = values.shape[:2]
    transform = source.transform * Affine.scale(source.size[1] / width, source.size[0] / height)
    is_colour = values.ndim == 3
    options: dict[str, Any] = {"photometric": "RGB"} if is_colour else {}
    with MemoryFile() as memory:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            memory.open(
                driver="GTiff",
                height=height,
                width=width,
                count=3 if is_colour else 1,
                dtype=values.dtype.name,
                crs=source.crs,
                transform=transform,
                nodata=source.nodata,
                compress="deflate",
                bigtiff="if_safer",
                **options,
            ) as data,
        ):
            data.write(np.moveaxis(values, -1, 0) if is_colour else values[None])
            data.update_tags(**source.tags)
            if reading.valid is not None and source.nodata is None:
                data.write_mask(reading.valid)
        return bytes(memory.read())
