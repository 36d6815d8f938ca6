"""One small transform out of many correlation surfaces: robust, with directions weighed.

Every patch likes some shifts better than others: exp(beta * correlation), as a likelihood. The
transform whose shifts are liked best by all patches together is found by Newton steps on the
likelihood smoothed by a Gaussian that shrinks (a mean shift for all patches in one model). The
curvature of each smoothed surface is a 2 x 2 matrix, so an edge counts only across its direction,
and a patch whose neighbourhood is no better than its background hardly counts at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fusionzoo.alignment.geometry import FREEDOM, Size, displacement_basis, small_transform
from fusionzoo.alignment.surfaces import Surfaces

#: What a correlation of 1 is worth, as logarithm of the likelihood.
BETA = 25.0
#: Usual stretch and perspective that is left to find, in pixels of an image of 320: a weak prior.
STRETCH, PERSPECTIVE = 6.0, 8.0
_STEPS = 14
_LAST_SIGMA = 1.0


@dataclass(frozen=True)
class Fit:
    """A small transform, and what the patches say of it.

    Attributes:
        transform: from pixels of the visible image to where the same is in the infrared image.
        gains: ``(P,)``: by how much each patch likes its shift better than the usual one of its
            surface, as logarithm.
        residual: root mean square of the shifts, in pixels, that patches would like to add, by
            their certainty.
    """

    transform: Tensor
    gains: Tensor
    residual: float


def fit_transform(surfaces: Surfaces, size: Size, model: str) -> Fit:
    """Find the small transform of a model that the surfaces like best.

    Args:
        surfaces: of one pair or several.
        size: of the visible image that they were cut from.
        model: one of ``MODELS``.
    """
    radius = surfaces.radius
    basis = displacement_basis(surfaces.centres, size, model)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    shifts = torch.stack([x, y], -1).reshape(-1, 2)
    liking = (BETA * surfaces.correlation.clamp(min=0)).flatten(1)
    liking = torch.exp(liking - liking.amax(1, keepdim=True))
    background = liking.mean(1)
    unit = max(size) / 320
    prior = torch.tensor(
        [1e-4] * 4 + [(STRETCH * unit) ** -2] * 2 + [(PERSPECTIVE * unit) ** -2] * 2,
        dtype=torch.float64,
    )[: FREEDOM[model]]
    numbers = torch.zeros(FREEDOM[model], dtype=torch.float64)
    first = max(1.5, radius / 2)
    for step in range(_STEPS):
        sigma = first * (_LAST_SIGMA / first) ** min(1.0, step / (_STEPS - 3))
        look = _Look(liking, shifts, basis @ numbers, sigma)
        ratio = look.level / background
        trust = ratio / (ratio + 1) * (look.place.abs().amax(1) <= radius + 0.5)
        curvature = torch.einsum("p,pik,pij,pjl->kl", trust, basis, look.certainty, basis)
        slope = torch.einsum("p,pik,pi->k", trust, basis, look.pull) - prior * numbers
        move = torch.linalg.solve(curvature + torch.diag(prior + 1e-4), slope)
        move *= min(1.0, 1.5 * max(1.0, sigma) / (float(move.abs().max()) + 1e-9))
        numbers = numbers + move
    look = _Look(liking, shifts, basis @ numbers, _LAST_SIGMA)
    gains = torch.log((look.level + 1e-12) / (background + 1e-12))
    gains = torch.where(look.place.abs().amax(1) <= radius, gains, 0)
    trust = gains.clamp(min=0)
    left = (look.pull.square().sum(1) * _LAST_SIGMA**4 * trust).sum() / trust.sum().clamp(min=1e-9)
    return Fit(small_transform(numbers, size), gains, float(left.sqrt()))


class _Look:
    """What the smoothed surfaces are like at each patch's present shift."""

    def __init__(self, liking: Tensor, shifts: Tensor, place: Tensor, sigma: float) -> None:
        distance = (shifts - place[:, None]).square().sum(-1)
        near = torch.exp(-distance / (2 * sigma * sigma))
        weights = liking * near
        total = weights.sum(1)
        self.place = place
        #: The smoothed likelihood.
        self.level = total / (near.sum(1) + 1e-12)
        weights = weights / (total[:, None] + 1e-12)
        mean = weights @ shifts
        #: Its logarithm's slope and (negative) curvature.
        self.pull = (mean - place) / sigma**2
        products = shifts[:, [0, 0, 1, 1]] * shifts[:, [0, 1, 0, 1]]
        spread = (weights @ products).reshape(-1, 2, 2) - mean[:, :, None] * mean[:, None]
        curvature = (torch.eye(2, dtype=torch.float64) - spread / sigma**2) / sigma**2
        values, vectors = torch.linalg.eigh(curvature)
        self.certainty = (vectors * values.clamp(min=0)[:, None]) @ vectors.transpose(1, 2)
