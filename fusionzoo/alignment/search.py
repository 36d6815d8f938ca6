"""The first search: all shifts, many rotations and scales, on small images.

For one rotation and scale the similarity of all shifts comes from Fourier transforms (phase
correlation's way), of edge maps in place of grey values, normalised by the overlap of each shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from fusionzoo.alignment.features import edge_features
from fusionzoo.alignment.geometry import (
    centred,
    corner_distance,
    resampling,
    shift,
    turn_about,
)
from fusionzoo.alignment.levels import Picture

#: The longer side of the visible image here.
SIDE = 160
#: Least part of the smaller image that the other has to overlap.
LEAST_OVERLAP = 0.3
#: How many places of one rotation and scale are kept, and how far apart.
_PEAKS, _APART = 3, 6


@dataclass(frozen=True)
class Ranges:
    """What the search goes through: rotations in degrees, scales beside equal areas."""

    rotations: tuple[float, ...]
    scales: tuple[float, ...]


#: Cameras of nearly the same field of view.
USUAL = Ranges(tuple(3.0 * step for step in range(-4, 5)), (0.82, 0.88, 0.94, 1.0, 1.06, 1.13, 1.2))
#: One field of view inside the other.
WIDE = Ranges(
    (-8.0, -4.0, 0.0, 4.0, 8.0),
    (0.36, 0.4, 0.44, 0.49, 0.54, 0.6, 0.66, 0.73, 0.8, 1.28, 1.42, 1.58, 1.75, 1.95),
)
#: Only shifts.
SHIFTS = Ranges((0.0,), (1.0,))


@dataclass(frozen=True)
class Start:
    """A transform to begin from, and how well edges agree under it."""

    score: float
    transform: Tensor


def find_starts(
    pairs: Sequence[tuple[Picture, Picture]], ranges: Ranges, count: int
) -> list[Start]:
    """Return the best transforms from infrared to visible pixels, of pairs that share one.

    Args:
        pairs: infrared and visible; all infrared images of one size, all visible ones too.
        ranges: rotations and scales to try.
        count: how many to return; they differ from each other.
    """
    ir_size, vi_size = pairs[0][0].size, pairs[0][1].size
    factor = pairs[0][1].factor_for(SIDE)
    fixed = [_Fixed(*vi.scaled(factor)) for _, vi in pairs]
    height, width = fixed[0].size
    middle = ((width - 1) / 2, (height - 1) / 2)
    to_small = resampling(factor)
    base = to_small @ centred(ir_size, vi_size)
    found: list[Start] = []
    for scale in ranges.scales:
        # The infrared image at about the resolution that it has in the small visible one.
        ir_factor = min(1.0, 1.1 * scale * math.sqrt(float(torch.linalg.det(base[:2, :2]))))
        transforms = [turn_about(middle, turn, scale) @ base for turn in ranges.rotations]
        total: Tensor | float = 0.0
        for (ir, _), one in zip(pairs, fixed, strict=True):
            seen = [ir.seen(transform, (height, width), ir_factor) for transform in transforms]
            total = total + one.similarity(
                torch.stack([grey for grey, _ in seen]), torch.stack([known for _, known in seen])
            )
        assert isinstance(total, Tensor)
        maps = total / len(pairs)
        blocks, inside = max_pool2d(maps[:, None], _APART, return_indices=True)
        scores, best = blocks.flatten(1).topk(_PEAKS)
        places = inside.flatten(1).gather(1, best)
        for transform, values, flat in zip(transforms, scores, places, strict=True):
            for score, place in zip(values.tolist(), flat.tolist(), strict=True):
                moved = shift(*fixed[0].shift_at(place)) @ transform
                found.append(Start(score, torch.linalg.inv(to_small) @ moved))
    found.sort(key=lambda start: -start.score)
    kept: list[Start] = []
    least = 0.03 * max(vi_size)
    for start in found:
        if start.score <= 0 or len(kept) == count:
            break
        if all(
            corner_distance(start.transform, other.transform, ir_size) > least for other in kept
        ):
            kept.append(start)
    return kept


class _Fixed:
    """A small visible image, ready to be compared with others at all shifts."""

    def __init__(self, grey: Tensor, known: Tensor) -> None:
        self.size = grey.shape[0], grey.shape[1]
        from scipy.fft import next_fast_len

        maps, sure = edge_features(grey[None], known[None])
        # Shifts of up to three quarters of the image come out apart from each other.
        self._padded = [next_fast_len(math.ceil(1.75 * side)) for side in self.size]
        self._spectra = self._spectra_of(maps)
        self._energy = self._plain(maps.square().sum(1))
        self._sure = self._plain(sure)
        self._area = float(sure.sum())

    def similarity(self, greys: Tensor, knowns: Tensor) -> Tensor:
        """Return the similarity ``(B, H', W')`` with images ``(B, H, W)`` at all shifts.

        It is the normalised correlation of edges times the root of the overlap: a correlation of
        chance is the larger the smaller the overlap is.
        """
        maps, sure = edge_features(greys, knowns)
        of_all = zip(self._spectra, self._spectra_of(maps), strict=True)
        (double, double_ir), (fourfold, fourfold_ir), (strength, strength_ir) = of_all
        product = torch.fft.ifft2(double * double_ir.conj() + fourfold * fourfold_ir.conj()).real
        product += self._back(strength * strength_ir.conj())
        ir_energy = self._plain(maps.square().sum(1)).conj()
        ir_sure = self._plain(sure).conj()
        overlap = self._back(self._sure * ir_sure)
        little = 0.02 * overlap
        energies = (self._back(self._energy * ir_sure).clamp(min=0) + little) * (
            self._back(self._sure * ir_energy).clamp(min=0) + little
        )
        areas = sure.sum((1, 2)).clamp(max=self._area)[:, None, None]
        enough = (overlap > LEAST_OVERLAP * areas) & (overlap > 1)
        score = product / energies.clamp(min=1e-12).sqrt() * (overlap / self._area).clamp(0).sqrt()
        return torch.where(enough, score, -1)

    def shift_at(self, place: int) -> tuple[float, float]:
        """Return the shift in x and y for a flat index into the map."""
        height, width = self._padded
        down, across = divmod(place, width)
        return (
            float(across - width if across > width // 2 else across),
            float(down - height if down > height // 2 else down),
        )

    def _spectra_of(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        double = torch.fft.fft2(torch.complex(maps[:, 0], maps[:, 1]), self._padded)
        fourfold = torch.fft.fft2(torch.complex(maps[:, 2], maps[:, 3]), self._padded)
        return double, fourfold, self._plain(maps[:, 4])

    def _plain(self, values: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft2(values, self._padded)
        return spectrum

    def _back(self, spectrum: Tensor) -> Tensor:
        values: Tensor = torch.fft.irfft2(spectrum, self._padded)
        return values
