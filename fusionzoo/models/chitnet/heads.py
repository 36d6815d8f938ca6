"""Decoders that only CHITNet's training needs; they are not part of the released network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .network import Harmonious


class Rebuilt(NamedTuple):
    """Images ``(B, 1, H, W)`` in (-1, 1) that one SIPHIA's features must give.

    ``sources``: from the halves of the channels (eq. 4), infrared first.
    ``edges``: images whose Laplacians are compared with the sources' (eq. 8), infrared first.
    ``fused``: Î^siphia, from the enhanced features (eqs 15–16, 19).
    """

    sources: tuple[Tensor, Tensor]
    edges: tuple[Tensor, Tensor]
    fused: Tensor


class SIPHIAHeads(nn.Module):
    """D_rec, D_ed (two each) and D_en of one SIPHIA: a 3×3 convolution and tanh each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.rec1, self.rec2 = _to_image(half), _to_image(half)
        self.edge1, self.edge2 = _to_image(channels), _to_image(channels)
        self.enhanced = _to_image(channels)

    def forward(self, features: Harmonious) -> Rebuilt:
        one, two = features.groups
        edge1, edge2 = features.edges
        return Rebuilt(
            (_image(self.rec1, one), _image(self.rec2, two)),
            (_image(self.edge1, edge1), _image(self.edge2, edge2)),
            _image(self.enhanced, torch.cat(features.enhanced, 1)),
        )


def _to_image(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 1, 3, padding=1)


def _image(conv: nn.Conv2d, features: Tensor) -> Tensor:
    return torch.tanh(conv(features).float())
