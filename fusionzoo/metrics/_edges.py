"""Kernels on the transfer of edges into the fused image: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fusionzoo.metrics._filters import sobel

Equal = Literal["one", "gradient"]


class EdgeMap(NamedTuple):
    """Strength and orientation (radians, -pi/2...pi/2) of the edge at every pixel."""

    strength: Tensor
    angle: Tensor


def edge_map(images: Tensor, border: str) -> EdgeMap:
    along_w, along_h = sobel(images, border)
    # Rows are counted upwards here. It shows only next to vertical gradients, which are put at
    # +pi/2 whatever their sign, and there by 2e-3 of the whole measure.
    level = along_w == 0
    angle = torch.where(level, math.pi / 2, torch.atan(-along_h / torch.where(level, 1.0, along_w)))
    return EdgeMap((along_w.square() + along_h.square()).sqrt(), angle)


def edge_preservation(source: EdgeMap, fused: EdgeMap, equal: Equal) -> Tensor:
    """Xydeas and Petrovic 2000, eq. 3-8: how well each source edge survives, 0...1."""
    low = torch.minimum(source.strength, fused.strength)
    high = torch.maximum(source.strength, fused.strength)
    same = source.strength == fused.strength
    ratio = torch.where(
        same, 1.0 if equal == "one" else fused.strength, low / torch.where(same, 1.0, high)
    )
    alignment = 1 - (source.angle - fused.angle).abs() / (math.pi / 2)
    kept_strength = 0.9994 * torch.sigmoid(15 * (ratio - 0.5))
    kept_angle = 0.9879 * torch.sigmoid(22 * (alignment - 0.8))
    return kept_strength * kept_angle


def qabf(fused: EdgeMap, ir: EdgeMap, vi: EdgeMap, *, equal: Equal) -> Tensor:
    """Edge preservation weighted by source edge strength; 0 where no source has an edge."""
    kept = edge_preservation(ir, fused, equal) * ir.strength
    kept = kept + edge_preservation(vi, fused, equal) * vi.strength
    total = (ir.strength + vi.strength).flatten(1).sum(1)
    flat = total == 0
    return torch.where(flat, 0.0, kept.flatten(1).sum(1) / torch.where(flat, 1.0, total))
