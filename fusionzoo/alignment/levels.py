"""Images as the search sees them: grey, of several sizes, with what they do not show masked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from fusionzoo.alignment.geometry import Size, resampling, transformed

#: A border darker than this part of the range, and cut straight, is filling and no picture.
_BLACK = 1.5 / 255


@dataclass
class Picture:
    """A grey image ``(H, W)`` in [0, 1] and where it shows something, at any resolution."""

    grey: Tensor
    known: Tensor
    _scaled: dict[float, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, grey: Tensor) -> Picture:
        """Take an image; a black frame or filling around it is left out."""
        return cls(grey, shown(grey))

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.grey.shape[0], self.grey.shape[1]

    def factor_for(self, longer_side: float) -> float:
        """Return by how much to scale so that the longer side has so many pixels, at most 1."""
        return min(1.0, longer_side / max(self.size))

    def scaled(self, factor: float) -> tuple[Tensor, Tensor]:
        """Return grey and known at a scale of at most 1, without aliasing."""
        if factor not in self._scaled:
            self._scaled[factor] = _scaled(self.grey, self.known, factor)
        return self._scaled[factor]

    def seen(self, transform: Tensor, size: Size, factor: float) -> tuple[Tensor, Tensor]:
        """Return grey and known as ``transform`` puts them into an image of another size.

        Args:
            transform: from this image's pixels, at full size, to those of the other.
            size: height and width of the other.
            factor: the scale of this image to start from.
        """
        grey, known = self.scaled(factor)
        from_scaled = transform @ torch.linalg.inv(resampling(factor))
        height, width = size
        rows = torch.arange(height, dtype=torch.float64)
        columns = torch.arange(width, dtype=torch.float64)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        points = transformed(torch.linalg.inv(from_scaled), torch.stack([x, y], -1))
        sides = torch.tensor([grey.shape[1], grey.shape[0]], dtype=torch.float64)
        grid = ((2 * points + 1) / sides - 1).nan_to_num(2, 2, -2).clamp(-4, 4).float()
        stack = torch.stack([grey, known])
        moved = grid_sample(stack[None], grid[None], align_corners=False)[0]
        inside = (moved[1] > 0.99).float()
        return moved[0] * inside, inside


def _scaled(grey: Tensor, known: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    if factor == 1:
        return grey, known
    both = interpolate(
        torch.stack([grey * known, known])[None],
        scale_factor=factor,
        mode="bilinear",
        antialias=True,
        recompute_scale_factor=False,
    )[0]
    return both[0] / both[1].clamp(min=0.3), (both[1] > 0.95).float()


def shown(grey: Tensor) -> Tensor:
    """Return 1 where an image shows something, 0 in a black border that a warp or frame left.

    A black sky is no such border: what remains without it is not convex.
    """
    from scipy.ndimage import binary_erosion, label
    from scipy.spatial import ConvexHull, QhullError

    everywhere = torch.ones_like(grey)
    pixels = grey.numpy()
    regions, count = label(pixels <= _BLACK)
    if not count:
        return everywhere
    outer = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    filling = np.isin(regions, np.unique(outer[outer > 0]))
    kept = ~filling
    rows = np.nonzero(kept.any(1))[0]
    if filling.mean() < 0.002 or len(rows) < 10:
        return everywhere
    first = kept[rows].argmax(1)
    last = kept.shape[1] - 1 - kept[rows, ::-1].argmax(1)
    try:
        hull = ConvexHull(
            np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], 1)
        )
    except QhullError:
        return everywhere
    if kept.sum() / max(hull.volume, 1.0) < 0.97:
        return everywhere
    inside = binary_erosion(kept, iterations=2, border_value=1)
    return torch.from_numpy(inside.astype(np.float32))
