"""Connected regions of a mask, found by rows of equal pixels: no loop over pixels, no library."""

from __future__ import annotations

import numpy as np


class Regions:
    """The connected regions of a mask.

    Args:
        mask: bool ``(H, W)``.
        corners: pixels that touch at a corner only are of one region too.

    Attributes:
        areas: pixels of each region, ``(N,)``.
    """

    def __init__(self, mask: np.ndarray, corners: bool = True) -> None:
        self._shape = mask.shape
        # Rows are one place longer than the image's, so that runs of two rows never meet there.
        self._row = mask.shape[1] + 1
        self._starts, self._ends = _runs(mask)
        self._labels = _joined(self._starts, self._ends, self._row, corners)
        self.areas = self._per_region(self._ends - self._starts)

    def __len__(self) -> int:
        return len(self.areas)

    def touching(self) -> np.ndarray:
        """Sides of the image that each region reaches: ``(N, 4)``, top, bottom, left, right."""
        height, width = self._shape
        rows, columns = np.divmod(self._starts, self._row)
        last = self._ends - rows * self._row
        sides = (rows == 0, rows == height - 1, columns == 0, last == width)
        return np.stack([self._per_region(side) > 0 for side in sides], axis=1)

    def painted(self, chosen: np.ndarray) -> np.ndarray:
        """The mask of those regions, bool ``(H, W)``; ``chosen`` is bool ``(N,)``."""
        height, width = self._shape
        runs = chosen[self._labels]
        steps = np.zeros(height * self._row + 1, np.int8)
        steps[self._starts[runs]] = 1
        steps[self._ends[runs]] = -1
        inside = steps[:-1].cumsum(dtype=np.int8).astype(bool)
        return np.ascontiguousarray(inside.reshape(height, self._row)[:, :width])

    def _per_region(self, values: np.ndarray) -> np.ndarray:
        count = int(self._labels.max(initial=-1)) + 1
        return np.bincount(self._labels, values, minlength=count)


def remove_small(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the mask without regions of fewer than ``least`` pixels."""
    regions = Regions(mask)
    return regions.painted(regions.areas >= least)


def fill_small(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the mask with its holes of fewer than ``least`` pixels closed.

    Where the mask's own pixels hold together by corners, those of a hole do not.
    """
    holes = Regions(~mask, corners=False)
    return ~holes.painted(holes.areas >= least)


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First, and one past the last, place of each run of True within a row, from the top left."""
    height, width = mask.shape
    wide = np.zeros((height, width + 1), bool)
    wide[:, :width] = mask
    edges = np.flatnonzero(np.diff(wide.ravel(), prepend=False))
    return edges[0::2], edges[1::2]


def _joined(starts: np.ndarray, ends: np.ndarray, row: int, corners: bool) -> np.ndarray:
    """The region of each run, as numbers from 0."""
    reach = 1 if corners else 0
    # The runs above one: from the first that ends late enough to the last that starts in time.
    first = np.searchsorted(ends, starts - row - reach, side="right")
    past = np.searchsorted(starts, ends - row + reach, side="left")
    counts = np.maximum(past - first, 0)
    lower = np.repeat(np.arange(len(starts)), counts)
    upper = np.arange(len(lower)) + np.repeat(first - counts.cumsum() + counts, counts)
    root = np.arange(len(starts))
    while True:
        a, b = root[upper], root[lower]
        apart = a != b
        if not apart.any():
            return np.unique(root, return_inverse=True)[1]
        # Each root hangs under some lower one it touches; which one does not matter, since
        # only lower ones are above it and so nothing goes in circles.
        root[np.maximum(a, b)[apart]] = np.minimum(a, b)[apart]
        upper, lower = upper[apart], lower[apart]
        while (root[root] != root).any():
            root = root[root]
