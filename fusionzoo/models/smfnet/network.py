"""SMFNet: encoder with three branches, fusion layers, decoder (Fig. 2)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice

from .attention import TransformerBlock
from .base import BaseBranch, BaseFusion
from .detail import DetailBranch, DetailFusion
from .graph import GraphBranch

CHANNELS = 64
VARIANTS = ("paper", "released")


class Features(NamedTuple):
    """What the branches extract, each ``(2B, C, H, W)``: first of infrared, then of visible.

    ``graph`` is ``None`` where an ablation removed the branch.
    """

    base: Tensor
    detail: Tensor
    graph: Tensor | None


class Rebuilt(NamedTuple):
    """The first stage: each source rebuilt ``(B, 1, H, W)`` in (0, 1), and its features."""

    ir: Tensor
    vi: Tensor
    features: Features


class Fused(NamedTuple):
    """The second stage: the fused image ``(B, 1, H, W)`` in (0, 1), and the sources' features."""

    image: Tensor
    features: Features


class Encoder(nn.Module):
    """Shallow features of an image: 3×3 patch embedding and one Transformer block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.block = TransformerBlock(channels)

    def forward(self, image: Tensor) -> Tensor:
        return self.block(self.embed(image))


class Decoder(nn.Module):
    """Features back to an image: one Transformer block, 3×3 convolutions C→C/2→C/4→1, sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = TransformerBlock(channels)
        widths = (channels, channels // 2, channels // 4, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.image(self.block(features))

    def image(self, x: Tensor) -> Tensor:
        """What follows the block; sees as many pixels far as there are convolutions."""
        for conv in self.convs[:-1]:
            x = F.leaky_relu(conv(x))
        return torch.sigmoid(self.convs[-1](x))


class SMFNetNetwork(nn.Module):
    """Shared encoder, base, detail and graph branch, two fusion layers, decoder.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in [0, 1] and returns the fused image of the
    same shape in (0, 1), in train and eval mode alike. Any size from 2×2 up works unpadded.
    Attention is between channels: its maps are 8 × 8 a head, whatever the size of the image.

    Args:
        channels: feature channels throughout, a multiple of 16 from 32 up (64).
        residual: residual groups in the base branch; without, plain stacked blocks.
        cross_attention: attention before the invertible step of the detail branch.
        graph: the graph branch.
        swap_fusion: base features through the detail fusion layer and the reverse.

        variant: ``released`` is the network of the released code: no norms in the cross attention,
            a 1×1 convolution before the invertible step, trained gradient kernels, and edges of the
            graph that lie over channels.

    The four before the last are ablations of Table 5.
    """

    size_multiple = 1
    min_size = 2  # reflection padding needs a neighbour
    value_range = (0.0, 1.0)
    bytes_per_pixel = 2000  # measured
    # Embedding and block of the encoder; base branch: convolution, two groups of four blocks and a
    # bottleneck; fusion layer; decoder: block and three convolutions. Other branches see less far.
    reach = 3 + (1 + 2 * (6 + 2)) + 2 + (2 + 3)

    def __init__(
        self,
        channels: int = CHANNELS,
        residual: bool = True,
        cross_attention: bool = True,
        graph: bool = True,
        swap_fusion: bool = False,
        variant: str = "paper",
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        released = variant == "released"
        if channels < 32 or channels % 16:
            # Each half is split into 8 heads; of a single channel, attention would be constant.
            raise InputError(f"channels must be a multiple of 16 from 32 up, not {channels}")
        self.encoder = Encoder(channels)
        self.base = BaseBranch(channels, residual=residual)
        self.detail = DetailBranch(channels, cross_attention, released)
        self.graph = GraphBranch(channels, interleaved=released) if graph else None
        self.base_fusion = BaseFusion(channels)
        self.detail_fusion = DetailFusion(channels, released=released)
        self.decoder = Decoder(channels)
        self.swap_fusion = swap_fusion

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse ``(B, 1, H, W)`` in [0, 1] to an image of that shape and range."""
        return self.fuse(ir, vi).image

    def encode(self, ir: Tensor, vi: Tensor) -> Features:
        """Features of both sources from all branches."""
        # One batch for both sources: all of this is shared, but the graph.
        shallow = self.encoder(torch.cat([ir, vi]))
        graph = None if self.graph is None else torch.cat(self.graph(*shallow.tensor_split(2)))
        return Features(self.base(shallow), self.detail(shallow), graph)

    def reconstruct(self, ir: Tensor, vi: Tensor) -> Rebuilt:
        """The first stage: rebuild each source from the sum of its own features."""
        features = self.encode(ir, vi)
        total = sum(part for part in features if part is not None)
        return Rebuilt(*self.decoder(total).chunk(2), features)

    def fuse(self, ir: Tensor, vi: Tensor) -> Fused:
        """The second stage: fuse the features of both sources and decode them."""
        features = self.encode(ir, vi)
        base = sum(features.base.tensor_split(2))
        detail = sum(features.detail.tensor_split(2))
        total = self.fusion_layer("base")(base) + self.fusion_layer("detail")(detail)
        if self.graph is not None:
            total = total + self.graph.fuse(*features.graph.tensor_split(2))
        return Fused(self.decoder(total), features)

    def fusion_layer(self, branch: str) -> nn.Module:
        """The layer that merges the features of the ``base`` or ``detail`` branch."""
        return self.base_fusion if (branch == "base") != self.swap_fusion else self.detail_fusion

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode, faster and with a fraction of the memory."""
        from .inference import StreamedSMFNet

        return StreamedSMFNet(self)


def build(
    channels: int,
    residual: bool,
    cross_attention: bool,
    graph: bool,
    swap_fusion: bool,
    variant: str,
) -> SMFNetNetwork:
    """Make the network from the model's options, which :class:`SMFNet` documents."""
    return SMFNetNetwork(channels, residual, cross_attention, graph, swap_fusion, variant)
