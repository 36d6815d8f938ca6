"""Kernels on the transfer of edges into the fused image: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fusionzoo.metrics._filters import sobel, sobel_in_matlab_order

Rule = Literal["authors", "public"]


# Edges that differ by less (grey levels per pixel) differ by the rounding of float32 images only.
SLACK = 1e-4


class EdgeMap(NamedTuple):
    """Strength and orientation (radians, -pi/2...pi/2) of the edge at every pixel."""

    strength: Tensor
    angle: Tensor


def edge_map(along_w: Tensor, along_h: Tensor) -> EdgeMap:
    # Rows are counted upwards here. It shows only next to vertical gradients, which are put at
    # +pi/2 whatever their sign, and there by 2e-3 of the whole measure.
    level = along_w == 0
    angle = torch.where(level, math.pi / 2, torch.atan(-along_h / torch.where(level, 1.0, along_w)))
    return EdgeMap((along_w.square() + along_h.square()).sqrt(), angle)


def edge_preservation(source: EdgeMap, fused: EdgeMap, rule: Rule) -> Tensor:
    """How well each source edge survives, 0...1: Xydeas and Petrovic 2000, eq. 3-8.

    With ``"authors"``, equal strengths have ratio 1 and angles are compared modulo pi, as in the
    authors' paper of 2005. With ``"public"``, the ratio of equal strengths is the strength itself
    and an angle just below pi/2 is opposite to one just above -pi/2: what programs do.
    """
    low = torch.minimum(source.strength, fused.strength)
    high = torch.maximum(source.strength, fused.strength)
    same = source.strength == fused.strength
    of_same = 1.0 if rule == "authors" else fused.strength
    ratio = torch.where(same, of_same, low / torch.where(same, 1.0, high))
    alignment = 1 - (source.angle - fused.angle).abs() / (math.pi / 2)
    if rule == "authors":
        alignment = alignment.abs()
    kept_strength = 0.9994 * torch.sigmoid(15 * (ratio - 0.5))
    kept_angle = 0.9879 * torch.sigmoid(22 * (alignment - 0.8))
    return kept_strength * kept_angle


def qabf(fused: EdgeMap, ir: EdgeMap, vi: EdgeMap, *, rule: Rule) -> Tensor:
    """Edge preservation weighted by source edge strength; 0 where no source has an edge."""
    kept = edge_preservation(ir, fused, rule) * ir.strength
    kept = kept + edge_preservation(vi, fused, rule) * vi.strength
    total = (ir.strength + vi.strength).flatten(1).sum(1)
    flat = total == 0
    return torch.where(flat, 0.0, kept.flatten(1).sum(1) / torch.where(flat, 1.0, total))


def edge_transfer(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    border: str = "replicate",
    rule: Rule = "authors",
) -> Tensor:
    """Qabf of images; ``border`` is that of :func:`sobel`, or ``"matlab"`` for MATLAB's conv2."""
    of_fused, of_ir, of_vi = (
        edge_map(*(sobel_in_matlab_order(i) if border == "matlab" else sobel(i, border)))
        for i in (fused, ir, vi)
    )
    return qabf(of_fused, of_ir, of_vi, rule=rule)


def nabf(
    fused: Tensor, ir: Tensor, vi: Tensor, *, unit: bool = False, slack: float = 0.0
) -> Tensor:
    """Shreyamsha Kumar's modification of Petrovic's fusion artefacts.

    Of images in 0...1 with ``unit``, in 0...255 without.

    What counts are pixels where the fused edge is stronger than both source edges, by more than
    ``slack``.
    """
    edges = [_eighth_edges(image / 255 if unit else image) for image in (fused, ir, vi)]
    of_fused, of_ir, of_vi = edges
    added = of_fused.strength > torch.maximum(of_ir.strength, of_vi.strength) + slack
    lost = total = fused.new_zeros(())
    for source in (of_ir, of_vi):
        low = torch.minimum(source.strength, of_fused.strength)
        high = torch.maximum(source.strength, of_fused.strength)
        none = (source.strength == 0) | (of_fused.strength == 0)
        ratio = torch.where(none, 0.0, low / torch.where(none, 1.0, high))
        alignment = ((source.angle - of_fused.angle).abs() - math.pi / 2).abs() / (math.pi / 2)
        kept_strength = 0.9999 * torch.sigmoid(19 * (ratio - 0.5))
        kept_angle = 0.9995 * torch.sigmoid(22 * (alignment - 0.5))
        kept = (kept_strength * kept_angle).sqrt()
        weight = torch.where(source.strength >= 2, source.strength**1.5, 0.001)
        lost = lost + (added * (1 - kept) * weight).flatten(1).sum(1)
        total = total + weight.flatten(1).sum(1)
    return lost / total


def _eighth_edges(images: Tensor) -> EdgeMap:
    along_w, along_h = (response / 8 for response in sobel(images, "reflect"))
    level = along_h == 0
    angle = torch.atan(along_w / torch.where(level, 1.0, along_h))
    angle = torch.where(level, along_w.sign() * (math.pi / 2), angle)
    return EdgeMap((along_w.square() + along_h.square()).sqrt(), angle)
