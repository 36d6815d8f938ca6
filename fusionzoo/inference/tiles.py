"""Images that are too large for the memory: through the network tile by tile.

There are three ways, and what a network declares tells which is right.

- It declares its ``reach``: how many pixels around a pixel of the result it looks at. Each tile is
  read with that many pixels around it, which are cut off again: the result is that of the whole
  image.
- It also has ``fuse_part(ir, vi, over)``, since it needs statistics of the whole image, such as
  means: passes over all tiles find these first, one pass for each that depends on others. The
  result is that of the whole image too.
- It declares nothing: tiles overlap and are blended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor

from fusionzoo.errors import ResultError
from fusionzoo.strips import Index, Inner, Measure, Over, Window, windows

__all__ = ["BLENDED", "fuse_in_tiles", "halo_of"]

#: Pixels by which tiles are read beyond their place where a network does not declare its reach.
#: The outer half is only seen by the network; over the inner half, tiles fade into each other.
BLENDED = 64

Compute = Callable[..., Tensor]


def fuse_in_tiles(
    run: Any,
    ir: Tensor,
    vi: Tensor,
    *,
    pixels: int,
    reach: int | None,
    size_multiple: int = 1,
    min_size: int = 1,
    enter: Callable[[Tensor], Tensor] = Tensor.clone,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Fuse images of which the network never sees more than a tile.

    Args:
        run: the network, as it is for whole images; it may also have ``fuse_part`` and, for what
            is done to the fused image as a whole at the end, ``finish(fused, over)``.
        ir: ``(1, 1, H, W)``, H and W multiples of ``size_multiple``.
        vi: likewise.
        pixels: most pixels of a tile with those around it; see :func:`fusionzoo.strips.windows`.
        reach: of the network; None blends.
        size_multiple: what the network takes.
        min_size: what the network takes.
        enter: makes of a part of an image what the network takes; the network may write to it.
        device: where the network is.

    Returns:
        What the network gives, ``(1, 1, H, W)``, where the images are.
    """
    height, width = vi.shape[-2:]
    halo = halo_of(reach, size_multiple, min_size)
    tiles = _aligned_windows(height, width, halo, pixels, size_multiple)
    if reach is None:
        return _blended(run, (ir, vi), tiles, halo, enter)
    if not hasattr(run, "fuse_part"):
        return _in_passes(lambda ir, vi, _: run(ir, vi), (ir, vi), tiles, enter)
    fused = _in_passes(run.fuse_part, (ir, vi), tiles, enter)
    if hasattr(run, "finish"):
        tiles = list(windows(height, width, 0, pixels))
        fused = _in_passes(run.finish, (fused,), tiles, lambda part: part.to(device), into=fused)
    return fused


def halo_of(reach: int | None, size_multiple: int, min_size: int) -> int:
    """How many pixels around its place a tile reads; a multiple of ``size_multiple``."""
    if reach is None:
        reach = BLENDED
    # No tile is smaller than two halos, or than the network takes.
    return ceil(max(reach, min_size / 2) / size_multiple) * size_multiple


def _aligned_windows(
    height: int, width: int, halo: int, pixels: int, multiple: int
) -> list[Window]:
    """Windows whose bounds are multiples, cut as if ``multiple`` pixels were one."""
    coarse = windows(height // multiple, width // multiple, halo // multiple, pixels // multiple**2)

    def scaled(index: Index) -> Index:
        _, *sides = index
        rows, columns = (slice(side.start * multiple, side.stop * multiple) for side in sides)
        return ..., rows, columns

    return [Window(scaled(w.place), scaled(w.around), w.edges) for w in coarse]


def _in_passes(
    compute: Compute,
    images: Sequence[Tensor],
    tiles: list[Window],
    enter: Callable[[Tensor], Tensor],
    into: Tensor | None = None,
) -> Tensor:
    """``compute(*images, over)`` tile by tile, as often as it asks for more of the whole image.

    With ``into`` each tile's result replaces that image's part, which no other tile may read.
    """
    out = into
    whole = _Whole(images[0].shape[-2:])
    while True:
        for tile in tiles:
            parts = [enter(image[tile.around]) for image in images]
            try:
                part = compute(*parts, whole.of(tile))
            except _AskedFirst:
                continue
            _check_shape(part, tile)
            if out is None:
                out = torch.empty_like(images[0], dtype=part.dtype)
            out[tile.place] = tile.inner(part)
        if not whole.learned():
            assert out is not None, "an image has tiles"
            return out


class _AskedFirst(Exception):
    """The network asked for what is not known before all tiles have been seen."""


class _Whole:
    """What a network asks of a whole image: answers, and what tiles add to the next one."""

    def __init__(self, size: Sequence[int]) -> None:
        self._pixels = size[0] * size[1]
        self._answers: list[list[Tensor]] = []
        self._totals: list[Tensor] | None = None
        self._dtypes: list[torch.dtype] = []

    def of(self, tile: Window) -> Over:
        """Answer for one tile: what is known, in the order in which the network asks."""
        answers = iter(self._answers)
        share = _area(tile.place) / self._pixels
        inner = _inner_of(tile)

        def over(
            *measures: Measure, how: Literal["mean", "sum", "min", "max"] = "mean"
        ) -> list[Tensor]:
            known = next(answers, None)
            if known is not None:
                return known
            self._add([measure(inner) for measure in measures], how, share)
            raise _AskedFirst

        return over

    def learned(self) -> bool:
        """Make an answer of what the tiles added, if they did."""
        if self._totals is None:
            return False
        totals = zip(self._totals, self._dtypes, strict=True)
        self._answers.append([total.to(dtype) for total, dtype in totals])
        self._totals = None
        return True

    def _add(self, parts: list[Tensor], how: str, share: float) -> None:
        # Sums over many tiles, in float64 where there is that.
        exact = [part if part.device.type == "mps" else part.double() for part in parts]
        if how == "mean":
            exact = [part * share for part in exact]
        if self._totals is None:
            self._totals, self._dtypes = exact, [part.dtype for part in parts]
            return
        combine = {"min": torch.minimum, "max": torch.maximum}.get(how, torch.add)
        pairs = zip(self._totals, exact, strict=True)
        self._totals = [combine(total, part) for total, part in pairs]


def _inner_of(tile: Window) -> Inner:
    _, *places = tile.place
    _, *arounds = tile.around
    # Where the tile's own pixels begin and end in what it reads.
    bounds = [
        (place.start - around.start, place.stop - around.start)
        for place, around in zip(places, arounds, strict=True)
    ]
    height = arounds[0].stop - arounds[0].start

    def inner(x: Tensor, at: Index | None = None) -> Tensor:
        if at is None:
            factor = height // x.shape[-2]
            rows, columns = (slice(start // factor, stop // factor) for start, stop in bounds)
        else:
            rows, columns = (
                slice(max(start - side.start, 0), max(stop - side.start, 0))
                for (start, stop), side in zip(bounds, at[1:], strict=True)
            )
        return x[..., rows, columns]

    return inner


def _blended(
    run: Any,
    images: Sequence[Tensor],
    tiles: list[Window],
    halo: int,
    enter: Callable[[Tensor], Tensor],
) -> Tensor:
    """Tiles that fade into each other across their bounds; the weights of a pixel add up to 1."""
    out = torch.zeros_like(images[0])
    for tile in tiles:
        part = run(*(enter(image[tile.around]) for image in images))
        _check_shape(part, tile)
        part = part.to(out)
        left, right, top, bottom = tile.edges
        height, width = part.shape[-2:]
        down, across = _fade(height, halo, top, bottom), _fade(width, halo, left, right)
        weights = (down[:, None] * across).to(part)
        out[tile.around] += part * weights
    return out


def _fade(length: int, halo: int, starts: int, ends: int) -> Tensor:
    """Weights along a side: 1, and where the image goes on down to 0 around the place's bound."""
    unused = halo // 2
    count = 2 * (halo - unused)
    ramp = torch.cat([torch.zeros(unused), (torch.arange(count) + 0.5) / count])
    weights = torch.ones(length)
    if not starts:
        weights[: len(ramp)] = ramp
    if not ends:
        weights[-len(ramp) :] = ramp.flip(0)
    return weights


def _area(index: Index) -> int:
    _, rows, columns = index
    pixels: int = (rows.stop - rows.start) * (columns.stop - columns.start)
    return pixels


def _check_shape(part: Any, tile: Window) -> None:
    _, rows, columns = tile.around
    expected = (rows.stop - rows.start, columns.stop - columns.start)
    if not isinstance(part, Tensor) or part.shape[-2:] != expected:
        shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        raise ResultError(f"the network gave {shape} for a tile of {expected}")
