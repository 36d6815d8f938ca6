"""What the page does with a pair of images: check, align, fuse, measure, and keep the files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from fusionzoo.alignment import Alignment, align, fit_points
from fusionzoo.errors import FusionZooError, FusionZooWarning, InputError, check_choice
from fusionzoo.inference import normalise
from fusionzoo.inference.ranges import find_limits
from fusionzoo.metrics import get_protocol, list_protocols, per_image
from fusionzoo.readers import Reading, open_image, read_header
from fusionzoo.zoo import load

if TYPE_CHECKING:
    from fusionzoo.module import FusionModule

__all__ = [
    "FITS",
    "MAX_PIXELS",
    "NO_METRICS",
    "Outcome",
    "Wish",
    "fuse_pair",
    "load_once",
    "preview",
]

#: Larger images are refused: the page is for a look, the command line for work.
MAX_PIXELS = 4_000_000
#: What to do with two images that do not match pixel on pixel.
FITS = ("as they are", "scale", "align", "align by points")
NO_METRICS = "none"

_MOST_MODELS = 6
_LEAST_POINTS = 2

Limits = tuple[float, float]


@dataclass(frozen=True)
class Wish:
    """What the user has chosen.

    Attributes:
        models: keys of published weights, or paths of models.
        fit: one of :data:`FITS`.
        color: False gives a grey result.
        ir_range: ``(lo, hi)``, the values of the first image that become black and white; None
            leaves them to the file.
        vi_range: the same of the second image.
        protocol: of the metrics, or :data:`NO_METRICS`.
        ir_points: x and y of points in the first image, for "align by points".
        vi_points: the same points in the second image, in the same order.
        device: where to compute.
        max_pixels: images of more pixels are refused.
    """

    models: Sequence[str] = ("lapnet",)
    fit: str = "as they are"
    color: bool = True
    ir_range: Limits | None = None
    vi_range: Limits | None = None
    protocol: str = "cddfuse"
    ir_points: Sequence[tuple[float, float]] = ()
    vi_points: Sequence[tuple[float, float]] = ()
    device: str = "cpu"
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        pictures: by name, RGB or grey, 8 bits, all of one size: the two sources, then the result
            of each model.
        files: the results in full depth, as files, by model.
        values: by model and metric.
        higher_is_better: by metric; None where neither direction is better.
        notes: lines about what was read, done and doubtful.
    """

    pictures: Mapping[str, Image.Image]
    files: Mapping[str, Path]
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    higher_is_better: Mapping[str, bool | None] = field(default_factory=dict)
    notes: Sequence[str] = ()


def fuse_pair(ir: str | Path | None, vi: str | Path | None, wish: Wish, folder: Path) -> Outcome:
    """Fuse two files as the user wishes.

    Args:
        ir: the first file: infrared, or of the medical models PET, SPECT or CT.
        vi: the second file: visible, or MRI.
        wish: the choices.
        folder: where the results are written: ``MODEL.png``, or ``.tif`` for more than 8 bits.

    Raises:
        InputError, FileError, MissingFileError, OutOfMemoryError: one line for the user. It calls
            files by their name alone: the page's user does not know where the page keeps them.
    """
    models = _models(wish.models)
    check_choice("fit", wish.fit, FITS)
    check_choice("protocol", wish.protocol, (NO_METRICS, *list_protocols()))
    names = models[0].modalities
    readings = [
        _read(file, name, wish.max_pixels)
        for file, name in zip((ir, vi), names, strict=True)
    ]  # fmt: skip
    limits = [
        _limits(reading, given, name)
        for reading, given, name in zip(
            readings, (wish.ir_range, wish.vi_range), names, strict=True
        )
    ]
    notes = [
        _described(name, reading, one)
        for name, reading, one in zip(names, readings, limits, strict=True)
    ]
    alignment = _alignment(readings, wish)
    if alignment is not None:
        notes.append(f"Alignment: {alignment}.")
    lead = 1 if models[0].color_from == "vi" else 0
    pictures = _sources(readings, limits, names, wish.fit, alignment, lead)
    files: dict[str, Path] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FusionZooWarning)
        for key, model in zip(wish.models, models, strict=True):
            fused = model.fuse(
                *readings,
                color=wish.color,
                ir_range=wish.ir_range,
                vi_range=wish.vi_range,
                resize=("ir", "vi")[1 - lead] if wish.fit == "scale" else None,
                align=alignment,
                device=wish.device,
            )
            deep = fused.values.dtype != np.uint8
            files[key] = folder / f"{Path(key).name}{'.tif' if deep else '.png'}"
            fused.save(files[key])
            pictures[key] = _picture(fused, limits[lead])
    notes += dict.fromkeys(str(one.message) for one in caught if _is_ours(one))
    values: dict[str, dict[str, float]] = {}
    better: dict[str, bool | None] = {}
    if wish.protocol != NO_METRICS:
        try:
            values, better = _measured(pictures, list(wish.models), names, wish.protocol, alignment)
        except InputError as error:
            notes.append(f"No metrics: {error}.")
    return Outcome(pictures, files, values, better, tuple(notes))


def preview(file: str | Path | None, given: Limits | None, max_pixels: int) -> Image.Image | None:
    """Return a file as an 8-bit picture of its own size, for clicking points in it.

    Raises:
        InputError, FileError, MissingFileError: as :func:`fuse_pair`.
    """
    if file is None:
        return None
    reading = _read(file, "the image", max_pixels)
    return _picture(reading, _limits(reading, given, "the image"))


@lru_cache(maxsize=12)
def load_once(key: str) -> FusionModule:
    """Load a model, or return it where it was loaded before."""
    return load(key)


def _models(keys: Sequence[str]) -> list[FusionModule]:
    if not keys:
        raise InputError("no model is chosen; choose at least one")
    if len(keys) > _MOST_MODELS:
        raise InputError(f"{len(keys)} models are chosen; choose {_MOST_MODELS} at most")
    models = [load_once(key) for key in keys]
    for key, model in zip(keys, models, strict=True):
        if model.modalities != models[0].modalities:
            raise InputError(
                f"{keys[0]} fuses {' and '.join(models[0].modalities)} images, and {key} "
                f"{' and '.join(model.modalities)} images; choose models of one kind"
            )
    return models


def _read(file: str | Path | None, name: str, max_pixels: int) -> Reading:
    """Open a file, but not before its size is known.

    Raises:
        InputError: no file, no image, too many pixels.
    """
    if file is None:
        raise InputError(f"there is no {name} image; choose an example, or upload a file")
    path = Path(file)
    try:
        header = read_header(path)
        if header.width * header.height > max_pixels:
            raise InputError(
                f"{path} is {header.width} x {header.height} pixels, and this page takes "
                f"{max_pixels / 1e6:g} million at most; use the command fusionzoo fuse, or begin "
                "fusionzoo demo with --max-pixels"
            )
        return open_image(path)
    except FusionZooError as error:
        text = str(error).replace(str(path), path.name)
        raise type(error)(text) from error


def _limits(reading: Reading, given: Limits | None, name: str) -> Limits:
    if given is not None:
        low, high = given
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(
                f"black {low:g} and white {high:g} of the {name} image: black has to be the "
                "smaller number; leave both empty to let the file decide"
            )
        return low, high
    if reading.range is not None:
        return reading.range
    height, width = reading.values.shape[:2]
    planes = torch.from_numpy(np.ascontiguousarray(reading.values)).reshape(1, height, width, -1)
    return find_limits(planes.permute(0, 3, 1, 2), name)[0]


def _described(name: str, reading: Reading, limits: Limits) -> str:
    height, width = reading.values.shape[:2]
    kind = "colour" if reading.values.ndim == 3 else "grey"
    unit = f" {reading.unit}" if reading.unit else ""
    return (
        f"{name.capitalize()}: {width} x {height}, {kind}, {reading.values.dtype}; black is "
        f"{limits[0]:g}{unit}, white {limits[1]:g}{unit}."
    )


def _alignment(readings: Sequence[Reading], wish: Wish) -> Alignment | None:
    sizes = [(reading.values.shape[0], reading.values.shape[1]) for reading in readings]
    if wish.fit == "align":
        found: Alignment = align(readings[0], readings[1])
        return found
    if wish.fit == "align by points":
        count = min(len(wish.ir_points), len(wish.vi_points))
        if count < _LEAST_POINTS or len(wish.ir_points) != len(wish.vi_points):
            raise InputError(
                f"there are {len(wish.ir_points)} points in the first image and "
                f"{len(wish.vi_points)} in the second; click at least {_LEAST_POINTS}, and the "
                "same ones in both"
            )
        points = [np.array(side, dtype=np.float64) for side in (wish.ir_points, wish.vi_points)]
        return fit_points(points[0], points[1], sizes[0], sizes[1])
    if wish.fit == "as they are" and sizes[0] != sizes[1]:
        first, second = (f"{width} x {height}" for height, width in sizes)
        raise InputError(
            f"the images are {first} and {second} pixels; choose 'align' if two cameras took them, "
            "or 'scale' if they show the same in two sizes"
        )
    return None


def _picture(reading: Reading, limits: Limits) -> Image.Image:
    unit = normalise(np.ascontiguousarray(reading.values), limits)
    levels = (unit * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else np.ascontiguousarray(levels))


def _sources(
    readings: Sequence[Reading],
    limits: Sequence[Limits],
    names: Sequence[str],
    fit: str,
    alignment: Alignment | None,
    lead: int,
) -> dict[str, Image.Image]:
    pictures = [_picture(*one) for one in zip(readings, limits, strict=True)]
    if alignment is not None:
        pictures[0] = alignment.warp(pictures[0])
    elif fit == "scale":
        other = 1 - lead
        pictures[other] = pictures[other].resize(pictures[lead].size, Image.Resampling.BICUBIC)
    return dict(zip(names, pictures, strict=True))


def _is_ours(one: warnings.WarningMessage) -> bool:
    return issubclass(one.category, FusionZooWarning)


def _measured(
    pictures: Mapping[str, Image.Image],
    keys: Sequence[str],
    names: Sequence[str],
    protocol: str,
    alignment: Alignment | None,
) -> tuple[dict[str, dict[str, float]], dict[str, bool | None]]:
    """Measure the 8-bit pictures, where both sources show something."""
    if alignment is not None:
        pictures = {name: alignment.crop(picture) for name, picture in pictures.items()}
    stacks = {name: _stack(picture) for name, picture in pictures.items()}
    sources = [stacks[name] for name in names]
    better: dict[str, bool | None] = {
        one.name: one.higher_is_better for one in get_protocol(protocol).select(None)
    }
    values = {
        key: {
            metric: float(value)
            for metric, value in per_image(protocol, list(better), stacks[key], *sources).items()
        }
        for key in keys
    }
    return values, better


def _stack(picture: Image.Image) -> torch.Tensor:
    levels = torch.from_numpy(np.array(picture))
    return levels[None, None] if levels.ndim == 2 else levels.permute(2, 0, 1)[None]
