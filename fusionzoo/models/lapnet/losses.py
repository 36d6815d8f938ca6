"""LapNet's own loss terms: what no metric asks for and the eye does.

All images are float ``(B, 1, H, W)`` on a 0 ... 1 scale; every term is a scalar, 0 at best.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8  # pixels; brightness is compared over means of so many by so many
NEIGHBOURHOOD = 33  # pixels; what a target is hotter than
EXCESS = 0.15  # by so much
STEEPNESS = 20.0


def brightness_loss(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """How far local means are from those of the brighter source, mean absolute difference."""
    wanted = F.avg_pool2d(torch.maximum(ir, vi), BLOCK)
    return F.l1_loss(F.avg_pool2d(fused, BLOCK), wanted)


def target_loss(fused: Tensor, ir: Tensor) -> Tensor:
    """How far hot targets are from their infrared value, weighted by :func:`hotness`."""
    return (hotness(ir) * (fused - ir).abs()).mean()


def hotness(ir: Tensor) -> Tensor:
    """How much each pixel is hotter than its surroundings: near 0 below, near 1 above 0.15."""
    reach = min(NEIGHBOURHOOD // 2, min(ir.shape[-2:]) - 1)
    around = F.avg_pool2d(F.pad(ir, (reach,) * 4, mode="reflect"), 2 * reach + 1, stride=1)
    return torch.sigmoid(STEEPNESS * (ir - around - EXCESS))


def overshoot_loss(fused: Tensor) -> Tensor:
    """How far values leave [0, 1], mean."""
    return (fused - fused.clamp(0, 1)).abs().mean()


def choice_loss(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """How far each pixel is from the source that it is nearer to, mean.

    0 where the network chooses; largest where it mixes sources that disagree.
    """
    return torch.minimum((fused - ir).abs(), (fused - vi).abs()).mean()
