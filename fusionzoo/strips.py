"""Windows of an image: how networks fuse large images in little memory.

A network whose layers see only their surroundings gives the same pixels for a part of an image as
for the whole, but for a margin of that part, the halo: as many pixels as its layers look further,
added up. So an image is cut into windows, each is read with its halo, and the halo of the result is
cut off again. Where the image itself ends there is no halo: there the network's own padding is
right. What layers compute inside exists for one window at a time.

What is not local, such as a mean over the image, needs a pass of its own over the windows first.
A network says what it needs of the whole image by :class:`Over`, and does not know by how many
passes that is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import ceil
from types import EllipsisType
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "WHOLE",
    "Edges",
    "Inner",
    "Measure",
    "Over",
    "Window",
    "at_once",
    "convolve",
    "in_windows",
    "pixels_within",
    "trim",
    "windows",
]

# Bytes of the largest intermediate in a window. On a CPU, more is no faster; a GPU needs large
# pieces to be busy, and has the memory.
_BUDGET = {"cpu": 1 << 25}
_BUDGET_ELSEWHERE = 1 << 31

# Whole rows are read and written in place. Other windows are copied by every layer that they enter
# or leave: that costs about as much as this share more of pixels.
_COPIED = 1.15

Index: TypeAlias = tuple[EllipsisType, slice, slice]
#: Left, right, top, bottom: 1 where the image ends, 0 where it goes on.
Edges: TypeAlias = tuple[int, int, int, int]
#: The edges of an image that is not cut.
WHOLE: Edges = (1, 1, 1, 1)


class Inner(Protocol):
    """Cuts a map to the pixels that count: those of the part's own place, without its halo."""

    def __call__(self, x: Tensor, at: Index | None = None) -> Tensor:
        """Return a part of ``x``, which is the map ``(B, C, H, W)`` of all that is at hand.

        Args:
            x: it may be smaller by a whole factor, as after pooling.
            at: ``x`` is only this window of such a map, at full size.
        """
        ...


#: Says something of the pixels that count, as a tensor whose size does not depend on theirs.
Measure: TypeAlias = Callable[[Inner], Tensor]


class Over(Protocol):
    """Finds what a network has to know of a whole image, of which it sees a part at a time.

    The first time that a network asks, each part's measures are added up, and the network is
    left; it begins again with all of them known. So it should ask before it does other work, and
    for all that it can tell at once.
    """

    def __call__(
        self, *measures: Measure, how: Literal["mean", "sum", "min", "max"] = "mean"
    ) -> list[Tensor]:
        """Return the whole image's value of each measure.

        Args:
            measures: computed from the part at hand.
            how: the parts' values become the image's: their mean, weighted by their numbers of
                pixels, their sum, least or greatest.
        """
        ...


def at_once(*measures: Measure, how: Literal["mean", "sum", "min", "max"] = "mean") -> list[Tensor]:
    """:class:`Over` for an image that is at hand as a whole."""
    return [measure(_all_of) for measure in measures]


def _all_of(x: Tensor, at: Index | None = None) -> Tensor:
    return x


class Window(NamedTuple):
    """A part of an image; indices are of the last two axes, height and width.

    Attributes:
        place: what the window gives; the places of all windows tile the image.
        around: what it reads: the place, and on each side where the image goes on, the halo.
        edges: on which sides the image ends.
    """

    place: Index
    around: Index
    edges: Edges

    def inner(self, result: Tensor) -> Tensor:
        """The window's place in what was computed from ``image[window.around]``.

        Layers may have dropped the halo, or a part of it, as :func:`convolve` does.
        """
        _, rows, columns = self.place
        return trim(result, rows.stop - rows.start, columns.stop - columns.start, self.edges)


def windows(height: int, width: int, halo: int, pixels: int) -> Iterator[Window]:
    """Cut an image into windows of no more than so many pixels each, halo included.

    Of the grids that fit, the one is taken that reads the fewest pixels twice; strips of whole rows
    are given some preference. Whatever the budget, places are at least two halos high and wide, if
    the image is: less would be read many times.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        halo: how many pixels beyond a window's place its result depends on, on each side.
        pixels: most pixels of a window; :func:`pixels_within` says how many a budget allows.
    """
    least = max(2 * halo, 1)
    most_rows, most_columns = max(height // least, 1), max(width // least, 1)
    grids = []
    for columns in range(1, most_columns + 1):
        rows = _parts(height, pixels // _longest(width, columns, halo), halo)
        if 0 < rows <= most_rows:
            grids.append((rows, columns))

    def cost(grid: tuple[int, int]) -> float:
        rows, columns = grid
        read = (height + 2 * halo * (rows - 1)) * (width + 2 * halo * (columns - 1))
        return read if columns == 1 else read * _COPIED

    rows, columns = min(grids, key=cost, default=(most_rows, most_columns))
    for tall in _spans(height, rows, halo):
        for wide in _spans(width, columns, halo):
            place, around = ((..., *pair) for pair in zip(tall[:2], wide[:2], strict=True))
            yield Window(place, around, (*wide[2], *tall[2]))


def pixels_within(image: Tensor, channels: int, budget: int | None = None) -> int:
    """How many pixels a window may have, so that a map of so many channels fits into memory.

    Args:
        image: ``(B, any, H, W)``; tells the batch, the bytes of a number and the device.
        channels: of the largest intermediate.
        budget: bytes of that intermediate; by default 32 MB on a CPU and 2 GB elsewhere.
    """
    if budget is None or image.device.type != "cpu":
        budget = _BUDGET.get(image.device.type, _BUDGET_ELSEWHERE)
    return max(budget // (len(image) * channels * image.element_size()), 1)


def in_windows(
    compute: Callable[..., Tensor],
    *images: Tensor,
    halo: int,
    pixels: int,
    add_to: Tensor | None = None,
) -> Tensor:
    """``compute(*images, WHOLE)``, window by window.

    Args:
        compute: takes a window's part ``(B, C, h, w)`` of each image and the window's edges, and
            gives ``(B, any, h, w)`` or less of it, see :meth:`Window.inner`.
        images: ``(B, C, H, W)`` each.
        halo: how far ``compute`` sees; see :func:`windows`, as for ``pixels``.
        add_to: the result is added to this, in place, and this is returned.
    """
    out = add_to
    height, width = images[0].shape[2:]
    for window in windows(height, width, halo, pixels):
        parts = (image[window.around] for image in images)
        part = window.inner(compute(*parts, window.edges))
        if add_to is not None:
            add_to[window.place].add_(part)
            continue
        if window.edges == WHOLE:
            return part
        if out is None:
            layout = torch.channels_last if _channels_last(part) else torch.contiguous_format
            shape = (*part.shape[:2], height, width)
            out = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout)
        out[window.place] = part
    assert out is not None, "an image has no window"
    return out


def convolve(conv: nn.Conv2d, x: Tensor, edges: Edges = WHOLE) -> Tensor:
    """A convolution that pads with zeros where the image ends and nowhere else.

    Elsewhere the result is smaller by what the convolution sees beyond a pixel: there it would be
    wrong, and nothing more is computed from it.

    Args:
        conv: it keeps the size of what is not cut.
        x: ``(B, C, H, W)``.
        edges: of the window that ``x`` is, or is made of.
    """
    assert isinstance(conv.padding, tuple), conv.padding
    rows, columns = conv.padding
    left, right, top, bottom = edges
    if edges != WHOLE and any(edges):
        x = F.pad(x, (left * columns, right * columns, top * rows, bottom * rows))
    return F.conv2d(
        x,
        conv.weight,
        conv.bias,
        padding=conv.padding if edges == WHOLE else 0,
        dilation=conv.dilation,
        groups=conv.groups,
    )


def trim(x: Tensor, height: int, width: int, edges: Edges) -> Tensor:
    """Cut ``(B, C, H, W)`` to a size, at the sides where the image goes on."""
    left, right, top, bottom = edges
    rows = _middle(x.shape[2] - height, top, bottom)
    columns = _middle(x.shape[3] - width, left, right)
    return x[:, :, rows : rows + height, columns : columns + width]


def _middle(extra: int, first: int, last: int) -> int:
    """How much of the extra length lies before: none at an edge, half where there is no edge."""
    return 0 if first else extra if last else extra // 2


def _longest(length: int, parts: int, halo: int) -> int:
    """What the longest of so many parts of a side reads."""
    return ceil(length / parts) + min(parts - 1, 2) * halo


def _parts(length: int, most: int, halo: int) -> int:
    """The least number of parts of which none reads more than ``most``; 0 where there is none."""
    for parts in (1, 2):
        if _longest(length, parts, halo) <= most:
            return parts
    return ceil(length / (most - 2 * halo)) if most > 2 * halo else 0


def _spans(length: int, parts: int, halo: int) -> list[tuple[slice, slice, tuple[int, int]]]:
    """Place, around and edges of each part along one side; places differ by a pixel at most."""
    bounds = [length * part // parts for part in range(parts + 1)]
    return [
        (
            slice(start, stop),
            slice(max(start - halo, 0), min(stop + halo, length)),
            (int(start == 0), int(stop == length)),
        )
        for start, stop in pairwise(bounds)
    ]


def _channels_last(x: Tensor) -> bool:
    return x.shape[1] > 1 and x.stride(1) == 1
