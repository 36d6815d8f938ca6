"""From pairs of pictures to one transform and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusionzoo.alignment.features import edge_features
from fusionzoo.alignment.geometry import MODELS, Size, corners, resampling, transformed
from fusionzoo.alignment.levels import Picture
from fusionzoo.alignment.refine import Fit, fit_transform
from fusionzoo.alignment.search import SHIFTS, USUAL, Ranges, find_starts
from fusionzoo.alignment.surfaces import Surfaces, correlate

Pairs = Sequence[tuple[Picture, Picture]]


@dataclass(frozen=True)
class Level:
    """How patches are compared: longer side of the visible image, and so on, in its pixels."""

    side: int
    patch: int
    step: int
    radius: int


_ROUGH = (Level(160, 48, 20, 10), Level(160, 48, 20, 5))
_MIDDLE = (Level(320, 64, 28, 8), Level(320, 48, 24, 5))
_FINE = (Level(640, 64, 40, 5), Level(1280, 64, 64, 4))
#: How many starts are followed, and how many of them beyond the rough level.
_STARTS, _FOLLOWED = 4, 2
#: How many pairs of a rig the first search looks at.
_SEARCHED = 6
#: What a model's patches have to gain, in all and by part, over the model before it.
_GAIN, _GAIN_PART = 6.0, 0.15


@dataclass(frozen=True)
class Estimate:
    """A transform from infrared to visible pixels, and what speaks for it.

    Attributes:
        transform: 3 x 3.
        model: the simplest one that explains the pair as well as larger ones.
        gain: mean over the patches of what each likes this shift better than usual ones.
        share: part of the patches that like it clearly better.
        patches: how many patches there are.
        agreement: the first search's score of the best start.
        residual: what patches would like to move, in visible pixels.
    """

    transform: Tensor
    model: str
    gain: float
    share: float
    patches: int
    agreement: float
    residual: float


def estimate(pairs: Pairs, model: str = "homography", ranges: Ranges = USUAL) -> Estimate | None:
    """Find the transform that pairs share; None where nothing can be compared.

    Args:
        pairs: infrared and visible; all infrared images of one size, all visible ones too.
        model: the largest model to consider.
        ranges: what the first search goes through.
    """
    with torch.no_grad():
        return _Estimation(pairs).run(model, SHIFTS if model == "translation" else ranges)


class _Estimation:
    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._visible: dict[float, list[tuple[Tensor, Tensor]]] = {}

    def run(self, model: str, ranges: Ranges) -> Estimate | None:
        starts = find_starts(self._pairs[:_SEARCHED], ranges, _STARTS)
        simple = MODELS[min(MODELS.index(model), 1)]
        refined = [self._refined(start.transform, _ROUGH, simple) for start in starts]
        rough = sorted((one for one in refined if one), key=lambda one: -one.total)
        if not rough:
            return None
        best = self._best_model(rough[:_FOLLOWED], model)
        if best is None:
            return None
        for level in _FINE:
            factor = self._factor(best.transform, level.side)
            if factor > 1.2 * best.factor:
                best = self._refined(best.transform, (level,), best.model) or best
        gains = best.fit.gains
        return Estimate(
            best.transform,
            best.model,
            float(gains.mean()),
            float((gains > 0.5).double().mean()),
            len(gains),
            starts[0].score,
            best.fit.residual / best.factor,
        )

    def _best_model(self, starts: list[_Candidate], model: str) -> _Candidate | None:
        """Follow the simplest model from all starts, larger ones from the best of them."""
        models = [name for name in MODELS[1:] if MODELS.index(name) <= MODELS.index(model)]
        models = models or ["translation"]
        best: _Candidate | None = None
        start = starts[0]
        for one in starts:
            found = self._refined(one.transform, _MIDDLE, models[0])
            if found is not None and (best is None or found.total > best.total):
                best, start = found, one
        simplest = best
        # The largest first: where it gains nothing, those between gain nothing either.
        for name in reversed(models[1:]):
            found = self._refined(start.transform, _MIDDLE, name)
            if not _is_better(found, simplest):
                break
            if best is simplest or not _is_better(best, found):
                best = found
        return best

    def _refined(self, transform: Tensor, levels: Sequence[Level], model: str) -> _Candidate | None:
        """Return the transform after some levels; None if too little can be compared there."""
        candidate = None
        for level in levels:
            factor = self._factor(transform, level.side)
            parts = self._surfaces(transform, factor, level)
            surfaces = Surfaces.joined(parts)
            if len(surfaces) < 4:
                return None
            size = self._visible_maps(factor)[0][0].shape[-2:]
            fit = fit_transform(surfaces, (size[0], size[1]), model)
            to_small = resampling(factor)
            move = torch.linalg.inv(fit.transform @ to_small)
            transform = move @ to_small @ transform
            transform = transform / transform[2, 2]
            ir_size, vi_size = (picture.size for picture in self._pairs[0])
            if not is_sane(transform, ir_size) or _overlap(transform, ir_size, vi_size) < _OVERLAP:
                return None
            candidate = _Candidate(transform, model, fit, factor)
        return candidate

    def _factor(self, transform: Tensor, side: int) -> float:
        """Return the scale at which what both images show is about ``side`` pixels long."""
        ir, vi = self._pairs[0]
        ends = torch.tensor([vi.size[1], vi.size[0]], dtype=torch.float64)
        there = transformed(transform, corners(ir.size))
        there = torch.minimum(there.clamp(min=0), ends)
        extent = float((there.amax(0) - there.amin(0)).max())
        if extent > 0.75 * max(vi.size):
            return vi.factor_for(side)
        return _round_factor(side / max(extent, 1.0))

    def _surfaces(self, transform: Tensor, factor: float, level: Level) -> list[Surfaces]:
        to_small = resampling(factor) @ transform
        ir_factor = _round_factor(local_scale(to_small, self._pairs[0][0].size))
        parts = []
        for (ir, _), visible in zip(self._pairs, self._visible_maps(factor), strict=True):
            size = visible[0].shape[-2:]
            grey, known = ir.seen(to_small, (size[0], size[1]), ir_factor)
            infrared = edge_features(grey[None], known[None])
            parts.append(correlate(visible, infrared, level.patch, level.step, level.radius))
        return parts

    def _visible_maps(self, factor: float) -> list[tuple[Tensor, Tensor]]:
        if factor not in self._visible:
            images = [vi.scaled(factor) for _, vi in self._pairs]
            self._visible[factor] = [
                edge_features(grey[None], known[None]) for grey, known in images
            ]
        return self._visible[factor]


#: Least part of the one image that has to lie in the other.
_OVERLAP = 0.4


def _overlap(transform: Tensor, ir: Size, vi: Size) -> float:
    """Return which part of the infrared image lies in the visible one, or the reverse."""
    parts = []
    for one, other, way in ((ir, vi, transform), (vi, ir, torch.linalg.inv(transform))):
        ends = torch.tensor([one[1] - 1, one[0] - 1], dtype=torch.float64)
        line = torch.linspace(0, 1, 15, dtype=torch.float64)
        points = torch.cartesian_prod(line, line) * ends
        x, y = transformed(way, points).unbind(1)
        inside = (x >= 0) & (x <= other[1] - 1) & (y >= 0) & (y <= other[0] - 1)
        parts.append(float(inside.double().mean()))
    return max(parts)


@dataclass(frozen=True)
class _Candidate:
    transform: Tensor
    model: str
    fit: Fit
    factor: float

    @property
    def total(self) -> float:
        return float(self.fit.gains.sum())


def _is_better(larger: _Candidate | None, smaller: _Candidate | None) -> bool:
    """Whether a larger model explains clearly more than a smaller one."""
    if larger is None or smaller is None:
        return smaller is None and larger is not None
    return larger.total > smaller.total + max(_GAIN, _GAIN_PART * smaller.total)


def local_scale(transform: Tensor, size: Size) -> float:
    """Return by how much a transform enlarges around the middle of an image."""
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0], dtype=torch.float64)
    x, y, w = (transform @ middle).tolist()
    upper, lower = transform[:2, :2], transform[2, :2]
    derivative = (upper - torch.tensor([[x], [y]], dtype=torch.float64) / w * lower) / w
    return math.sqrt(abs(float(torch.linalg.det(derivative))))


def is_sane(transform: Tensor, size: Size) -> bool:
    """Whether a transform neither flips, folds nor tears an image, nor blows it up."""
    if not bool(transform.isfinite().all()):
        return False
    points = corners(size)
    depth = torch.cat([points, torch.ones(4, 1, dtype=torch.float64)], 1) @ transform[2]
    if not (bool((depth > 0).all()) or bool((depth < 0).all())):
        return False
    moved = transformed(transform, points)
    sides = moved.roll(-1, 0) - moved
    after = sides.roll(-1, 0)
    turns = sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]
    return bool((turns > 0).all()) and 0.05 < local_scale(transform, size) < 20


def _round_factor(factor: float) -> float:
    """Round to quarter octaves, so that few scaled copies of a picture are made."""
    return float(min(1.0, 2 ** (round(4 * math.log2(max(factor, 0.01))) / 4)))
