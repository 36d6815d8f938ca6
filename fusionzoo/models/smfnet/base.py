"""SMFNet's base branch: Transformer blocks in residual groups (section 2.2.2, eqs 9 and 10)."""

from __future__ import annotations

from torch import Tensor, nn

from .attention import TransformerBlock

SLOPE = 0.2  # of the leaky units in base and detail branch


class ResidualGroup(nn.Module):
    """Two pairs of Transformer blocks, then a bottleneck C→C/4→C/4→C; residual over all (eq. 10).

    ``residual=False`` leaves the blocks alone: stacked Transformer blocks, an ablation of Table 5.
    """

    def __init__(self, channels: int, depth: int = 2, residual: bool = True) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(TransformerBlock(channels, dense) for _ in range(depth) for dense in (False, True))
        )
        narrow = channels // 4
        self.bottleneck = (
            nn.Sequential(
                nn.Conv2d(channels, narrow, 3, padding=1),
                nn.LeakyReLU(SLOPE, inplace=True),
                nn.Conv2d(narrow, narrow, 1),
                nn.LeakyReLU(SLOPE, inplace=True),
                nn.Conv2d(narrow, channels, 3, padding=1),
            )
            if residual
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.blocks(x)
        return inner if self.bottleneck is None else self.bottleneck(inner) + x


class BaseBranch(nn.Module):
    """3×3 convolution and two residual groups: features that the modalities share."""

    def __init__(self, channels: int, groups: int = 2, residual: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.groups = nn.Sequential(
            *(ResidualGroup(channels, residual=residual) for _ in range(groups))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.groups(self.conv(x))


class BaseFusion(TransformerBlock):
    """The base fusion layer: MDTA and LeFF on the sum of both sources' base features."""
