"""The comparison grid: a row a pair, infrared | visible | fused by one or more models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fusionzoo.errors import InputError, InputTypeError, MissingFileError, check_choice
from fusionzoo.inference import normalise, save_image
from fusionzoo.inference.geometry import scale_to
from fusionzoo.module import FusionModule
from fusionzoo.plot.pictures import Box, as_picture, check_box, cut, fitted, with_inset
from fusionzoo.zoo import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Model = str | os.PathLike[str] | FusionModule
Boxes = Box | Sequence[Box | None] | None


def grid(
    ir: Any,
    vi: Any,
    models: Model | Iterable[Model] | Mapping[str, Model] | None = None,
    *,
    titles: bool | Sequence[str] = True,
    names: Sequence[str] | None = None,
    crop: Boxes = None,
    zoom: Boxes = None,
    width: int | None = None,
    wrap: int | None = None,
    path: str | os.PathLike[str] | None = None,
    color: bool = True,
    ir_range: tuple[float, float] | None = None,
    vi_range: tuple[float, float] | None = None,
    resize: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Figure:
    """Draw pairs beside their fusion by one or more models.

    Pixels are exact: at the figure's own resolution each pixel of an image is one pixel of the
    drawing, unless ``width`` makes the image smaller. Sources are drawn as models see them (16-bit
    and radiance data by percentiles or ``ir_range``, ``vi_range``), results as ``fuse`` gives them
    for an 8-bit image.

    Args:
        ir: what ``model.fuse`` takes: a path, PIL image, array, tensor, batch, or a list of these.
        vi: its partner or partners.
        models: what :func:`fusionzoo.load` takes, or loaded models; one, several, or a mapping of
            titles to them. None draws the sources alone.
        titles: one for each column, True for modalities and models' names, False for none.
        names: of the pairs, written at the left of their rows.
        crop: ``(left, top, right, bottom)`` in pixels, the part to draw; one for all pairs, or a
            list with one, or None, for each. Models see the whole images.
        zoom: the same, a part that is framed and drawn again larger, by a whole factor, in the
            picture's corner.
        width: of one column in pixels. Wider pictures are reduced to it, narrower ones enlarged
            by a whole factor if one fits. None draws every image in its own size.
        wrap: begin a new line after so many pictures of a pair.
        path: where to save the picture; the suffix decides the format (.png, .jpg, .webp, .tif).
        color: as for ``model.fuse``.
        ir_range: as for ``model.fuse``.
        vi_range: as for ``model.fuse``.
        resize: as for ``model.fuse``.
        device: as for ``model.fuse``.
        dtype: as for ``model.fuse``.

    Returns:
        A matplotlib ``Figure`` with one axes for each picture, row by row. A notebook shows it,
        ``savefig`` writes it in any format of matplotlib.

    Raises:
        ImportError: matplotlib is not installed.
        InputError, InputTypeError, MissingFileError: naming the argument, the problem and the
            remedy.
        FileError: the picture cannot be written, or the disk is full.
    """
    try:
        from fusionzoo.plot.figure import Cell, draw
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError("plot.grid needs matplotlib: pip install 'fusionzoo[plot]'") from None

    _check_count("width", width, 16)
    _check_count("wrap", wrap, 1)
    if path is not None:
        _check_path(Path(path))
    firsts, seconds = _units(ir, "ir", ir_range), _units(vi, "vi", vi_range)
    if len(firsts) != len(seconds):
        raise InputError(
            f"ir holds {len(firsts)} images and vi {len(seconds)}; give each its partner"
        )
    crops, zooms = _boxes(crop, "crop", len(firsts)), _boxes(zoom, "zoom", len(firsts))
    if names is not None and (isinstance(names, str) or len(names) != len(firsts)):
        raise InputError(f"names: give a list with one for each of the {len(firsts)} pairs")
    loaded = _loaded(models)
    headings = _headings(titles, loaded)

    columns = min(wrap or len(loaded) + 2, len(loaded) + 2)
    lines: list[list[Cell]] = []
    for number, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        first, second = _alike(first, second, resize, number)
        fused = [
            model.fuse(
                first, second, color=color, ir_range=(0, 1), vi_range=(0, 1), device=device,
                dtype=dtype,
            )
            for model in loaded.values()
        ]  # fmt: skip
        cells = []
        for place, image in enumerate([first, second, *fused]):
            shown = _shown(image, crops[number], zooms[number], width, number)
            # Titles stand above the first row only, unless lines differ in what they show.
            titled = headings and (number == 0 or columns < len(headings))
            cells.append(Cell(shown, headings[place] if titled else None))
        if names is not None:
            cells[0] = Cell(cells[0].pixels, cells[0].title, str(names[number]))
        lines += [cells[at : at + columns] for at in range(0, len(cells), columns)]
    figure = draw(lines)
    if path is not None:
        save_image(path, figure.picture())
    return figure


def _units(images: Any, name: str, limits: tuple[float, float] | None) -> list[Tensor]:
    """Every image as ``(1 or 3, H, W)`` in [0, 1]."""
    if isinstance(images, Tensor) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, list | tuple):
        return [normalise(images, limits, name=name)]
    if not images:
        raise InputError(f"{name} is an empty list; give at least one image")
    return [normalise(image, limits, name=f"{name}[{n}]") for n, image in enumerate(images)]


def _alike(first: Tensor, second: Tensor, resize: str | None, number: int) -> tuple[Tensor, Tensor]:
    check_choice("resize", resize, ("ir", "vi", None))
    sizes = [(image.shape[-2], image.shape[-1]) for image in (first, second)]
    if sizes[0] == sizes[1]:
        return first, second
    if resize is None:
        (height, width), (other_height, other_width) = sizes
        raise InputError(
            f"pair {number}: ir is {height} x {width} and vi {other_height} x {other_width} "
            "(height x width); use registered images of one size, or resize='ir' or 'vi'"
        )
    if resize == "ir":
        return scale_to(first[None], sizes[1])[0].clamp(0, 1), second
    return first, scale_to(second[None], sizes[0])[0].clamp(0, 1)


def _shown(
    image: Tensor, crop: Box | None, zoom: Box | None, width: int | None, number: int
) -> np.ndarray:
    whole = as_picture(image)
    height, across = whole.shape[:2]
    crop = check_box(crop or (0, 0, across, height), (0, 0, across, height), f"crop of {number}")
    part = cut(whole, crop)
    shown = fitted(part, width)
    if zoom is None:
        return shown
    left, top, right, bottom = check_box(zoom, crop, f"zoom of {number}")
    inner = (left - crop[0], top - crop[1], right - crop[0], bottom - crop[1])
    return with_inset(shown, part, inner)


def _loaded(models: Any) -> dict[str, FusionModule]:
    if models is None:
        return {}
    if isinstance(models, str | os.PathLike | FusionModule):
        models = [models]
    if not isinstance(models, Iterable):
        raise InputTypeError(
            f"models is a {type(models).__name__}; give names, folders or loaded models"
        )
    pairs = models.items() if isinstance(models, Mapping) else [(None, one) for one in models]
    loaded: dict[str, FusionModule] = {}
    for title, model in pairs:
        if isinstance(model, str | os.PathLike):
            title, model = title or Path(model).name, load(model)
        if not isinstance(model, FusionModule):
            raise InputTypeError(
                f"models holds a {type(model).__name__}; give names, folders or loaded models"
            )
        title = model.name if title is None else str(title)
        if title in loaded:
            raise InputError(
                f"models: two are called {title!r}; give a mapping {{title: model}} instead"
            )
        loaded[title] = model
    return loaded


def _headings(titles: Any, loaded: Mapping[str, FusionModule]) -> list[str]:
    if titles is False:
        return []
    if titles is True:
        first = next(iter(loaded.values()), FusionModule)
        return [*first.modalities, *loaded]
    if isinstance(titles, str) or len(titles) != len(loaded) + 2:
        raise InputError(
            f"titles: give a list of {len(loaded) + 2}, one for each column, True or False"
        )
    return [str(title) for title in titles]


def _boxes(boxes: Any, name: str, count: int) -> list[Box | None]:
    if boxes is None:
        return [None] * count
    if len(boxes) == 4 and not any(box is None or np.ndim(box) for box in boxes):
        return [tuple(boxes)] * count
    if len(boxes) != count:
        raise InputError(
            f"{name}: give (left, top, right, bottom), or a list with one for each of the "
            f"{count} pairs"
        )
    return [None if box is None else tuple(box) for box in boxes]


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and (not isinstance(value, int) or value < least):
        raise InputError(f"{name}={value!r}; use a whole number of at least {least}, or None")


def _check_path(path: Path) -> None:
    """Refuse before the models run what saving would refuse after."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"):
        raise InputError(f"{path}: name a file that ends in .png, .jpg, .webp or .tif")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: the folder {path.parent} does not exist; make it first")
