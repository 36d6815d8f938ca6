"""Correlation surfaces: how well each patch of the visible image fits at every small shift.

A surface says more than its highest point: which directions a patch settles (an edge only the one
across it), and how sure it is. :mod:`fusionzoo.alignment.refine` reads one transform out of all
surfaces together, so that no patch has to decide alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

#: Energy of edges, by pixel, below which a patch counts as empty.
_EMPTY = 0.03
#: Part of a patch that has to be known.
_KNOWN = 0.5


@dataclass(frozen=True)
class Surfaces:
    """Correlations ``(P, 2r + 1, 2r + 1)`` of patches at shifts -r ... r in y and x.

    ``centres``: ``(P, 2)``, x and y of the patches in the visible image.
    """

    correlation: Tensor
    centres: Tensor

    @property
    def radius(self) -> int:
        """The largest shift."""
        return self.correlation.shape[-1] // 2

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def joined(cls, parts: list[Surfaces]) -> Surfaces:
        """Return the surfaces of several pairs as one."""
        return cls(
            torch.cat([part.correlation for part in parts]),
            torch.cat([part.centres for part in parts]),
        )


def correlate(
    vi: tuple[Tensor, Tensor], ir: tuple[Tensor, Tensor], patch: int, step: int, radius: int
) -> Surfaces:
    """Compare patches of the visible image with the infrared one around the same place.

    Args:
        vi: maps ``(1, 5, H, W)`` and where they hold ``(1, H, W)``, from ``edge_features``.
        ir: the same of the infrared image, already roughly in place.
        patch: side of a patch, in pixels; even.
        step: about how far patches are apart.
        radius: the largest shift.
    """
    height, width = vi[0].shape[-2:]
    rows, columns = (_places(side, patch, step) for side in (height, width))
    half = patch // 2
    cut = _Cutter(rows, columns)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    # An even patch has its middle half a pixel before the pixel that it is cut around.
    centres = torch.stack([x, y], -1).reshape(-1, 2).double() - 0.5
    moving_known = cut(ir[1], half + radius)[:, 0]
    hopeful = moving_known.mean((1, 2)) > _KNOWN / 2
    centres, moving_known = centres[hopeful], moving_known[hopeful]
    moving = cut(ir[0][0], half + radius)[hopeful]
    fixed, fixed_known = cut(vi[0][0], half)[hopeful], cut(vi[1], half)[hopeful, 0]
    line = torch.cos((torch.arange(patch) + 0.5 - half) / patch * math.pi)
    window = line[:, None] * line
    side, shifts = patch + 2 * radius, 2 * radius + 1
    double, fourfold, strength = _spectra(fixed * window, side)
    double_ir, fourfold_ir, strength_ir = _spectra(moving, side)
    product = torch.fft.ifft2(double_ir * double.conj() + fourfold_ir * fourfold.conj()).real
    product += torch.fft.irfft2(strength_ir * strength.conj(), (side, side))

    def sums(values: Tensor, weights: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(values, (side, side))
        weight = torch.fft.rfft2(weights, (side, side)).conj()
        back: Tensor = torch.fft.irfft2(spectrum * weight, (side, side))
        return back[..., :shifts, :shifts]

    least = _EMPTY * window.sum()
    energy_ir = sums(moving.square().sum(1), window).clamp(min=0) + least
    energy = (fixed.square().sum(1) * window).sum((1, 2))[:, None, None] + least
    correlation = product[..., :shifts, :shifts] / (energy * energy_ir).sqrt()
    known = sums(moving_known, window * fixed_known) / window.sum()
    correlation = torch.where(known > _KNOWN, correlation, 0)
    used = known.amax((1, 2)) > _KNOWN
    return Surfaces(correlation[used].double(), centres[used])


def _places(side: int, patch: int, step: int) -> Tensor:
    count = max(2, round((side - patch / 2) / step))
    margin = min(0.3 * patch, side / 4)
    return torch.linspace(margin, side - 1 - margin, count).round().long()


class _Cutter:
    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self._rows, self._columns = rows, columns

    def __call__(self, maps: Tensor, half: int) -> Tensor:
        """Cut squares of ``2 * half`` out of ``(C, H, W)``: ``(P, C, 2 * half, 2 * half)``."""
        padded = pad(maps, (half, half, half, half))
        span = torch.arange(2 * half)
        rows = padded[:, self._rows[:, None] + span]
        squares = rows[..., self._columns[:, None] + span]
        return squares.permute(1, 3, 0, 2, 4).reshape(-1, len(maps), 2 * half, 2 * half)


def _spectra(maps: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.fft.fft2(torch.complex(maps[:, 0], maps[:, 1]), (side, side)),
        torch.fft.fft2(torch.complex(maps[:, 2], maps[:, 3]), (side, side)),
        torch.fft.rfft2(maps[:, 4], (side, side)),
    )
