"""The figure: pictures laid out in whole pixels. The one file here that imports matplotlib."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

_DPI = 100
_GAP = 4  # pixels between pictures
_STRIP = 24  # pixels for a title or a name
_FONT_SIZE = 11  # points
_TEXT: dict[str, Any] = {"family": "DejaVu Sans", "color": "black", "ha": "center", "va": "center"}


@dataclass(frozen=True)
class Cell:
    """One picture ``(H, W, 3)`` of bytes, what stands above it, and what at its row's left."""

    pixels: np.ndarray
    title: str | None = None
    name: str | None = None


class GridFigure(Figure):
    """A figure that knows its own pixels."""

    def picture(self) -> Image.Image:
        """The figure at its own resolution; grey if all of it is."""
        canvas = FigureCanvasAgg(self)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib gives no types here
        buffer = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        pixels = np.ascontiguousarray(np.asarray(buffer)[..., :3])
        grey = (pixels == pixels[..., :1]).all()
        return Image.fromarray(pixels[..., 0] if grey else pixels)

    def _repr_png_(self) -> bytes:
        # For notebooks in which matplotlib was not set up.
        stream = io.BytesIO()
        self.picture().save(stream, format="PNG", optimize=True)
        return stream.getvalue()


def draw(lines: list[list[Cell]]) -> GridFigure:
    """Lay out lines of pictures, columns of one width, lines as high as their highest picture."""
    column = max(cell.pixels.shape[1] for line in lines for cell in line)
    margin = _STRIP if any(cell.name for line in lines for cell in line) else 0
    width = margin + max(map(len, lines)) * (column + _GAP) - _GAP
    heights = [max(cell.pixels.shape[0] for cell in line) for line in lines]
    strips = [_STRIP if any(cell.title for cell in line) else 0 for line in lines]
    height = sum(heights) + sum(strips) + (len(lines) - 1) * _GAP

    figure = GridFigure((_inches(width), _inches(height)), dpi=_DPI, facecolor="white")
    figure.set_layout_engine("none")
    # A background that counts as content: saving with a tight box keeps pixels whole.
    sheet = Rectangle((0, 0), 1, 1, fc="white", ec="none", zorder=-1)
    sheet.set_transform(figure.transFigure)
    figure.add_artist(sheet)
    top = 0
    for line, line_height, strip in zip(lines, heights, strips, strict=True):
        top += strip
        for place, cell in enumerate(line):
            left = margin + place * (column + _GAP)
            if cell.title:
                centre = (left + column / 2) / width, 1 - (top - strip / 2) / height
                figure.text(*centre, cell.title, fontsize=_font_size(cell.title, column), **_TEXT)
            if cell.name:
                centre = margin / 2 / width, 1 - (top + line_height / 2) / height
                size = _font_size(cell.name, line_height)
                figure.text(*centre, cell.name, fontsize=size, rotation=90, **_TEXT)
            indent = (column - cell.pixels.shape[1]) // 2
            _place(figure, cell.pixels, left + indent, top, (width, height))
        top += line_height + _GAP
    return figure


def _place(figure: Figure, pixels: np.ndarray, left: int, top: int, size: tuple[int, int]) -> None:
    (width, height), (down, across) = size, pixels.shape[:2]
    box = left / width, 1 - (top + down) / height, across / width, down / height
    axes = figure.add_axes(box)
    axes.imshow(pixels, aspect="auto", interpolation="nearest")
    axes.set_axis_off()


def _inches(pixels: int) -> float:
    """So many inches that they make these pixels, and not one less by rounding."""
    inches = pixels / _DPI
    return inches if int(inches * _DPI) == pixels else math.nextafter(inches, math.inf)


def _font_size(text: str, room: int) -> float:
    """A size in points at which the text fits into so many pixels, as far as it stays legible."""
    width = 0.6 * len(text) * _DPI / 72  # of a letter, in pixels for each point
    return min(_FONT_SIZE, max(5.0, room / width))
