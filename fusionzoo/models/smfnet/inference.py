"""SMFNet for eval mode, window by window.

All layers but attention are local, and attention needs sums over positions only. So each block
first adds up these sums over windows, which gives one C × C matrix, then computes its output window
by window. Features of a whole image are stored between blocks only; what a block has inside (three
times the channels for q, k and v, all nodes of the graph) never exists for more than a window.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionzoo.strips import Edges, in_windows, pixels_within, windows

from .attention import TransformerBlock, sums_over_positions
from .base import BaseBranch
from .detail import CAI, DetailFusion
from .graph import DILATIONS, ConvNorm

# Bytes of a window's largest intermediate, on CPUs: these layers do little with a number, so that
# it has to stay near the processor.
_BUDGET = 3 << 22


class StreamedSMFNet(nn.Module):
    """SMFNet as ``for_inference`` returns it; takes and gives what the network does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        for block in network.modules():
            if isinstance(block, ConvNorm):
                block.conv = fuse_conv_bn_eval(block.conv.eval(), block.norm.eval())
                block.norm = nn.Identity()

    @torch.no_grad()
    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        # One pair after the other: attention differs between images, and memory counts.
        pairs = zip(ir.split(1), vi.split(1), strict=True)
        return torch.cat([self._fuse(*pair) for pair in pairs])

    def _fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        network = self.network
        shallow = [self._shallow(image) for image in (ir, vi)]
        base = _base(network.base, shallow[0])
        base += _base(network.base, shallow[1])
        total = _merged(network.fusion_layer("base"), base)
        del base
        dense, cai = network.detail
        detail = _cai(cai, _streamed(dense, shallow[0], 3))
        detail = _cai(cai, _streamed(dense, shallow[1], 3), detail)
        total = _merged(network.fusion_layer("detail"), detail, total)
        del detail
        if network.graph is not None:
            total = self._add_graph(shallow, total)
        del shallow
        decoded = _attended(network.decoder.block, total)
        return _streamed(network.decoder.image, decoded, len(network.decoder.convs))

    def _shallow(self, image: Tensor) -> Tensor:
        encoder = self.network.encoder
        image = image.contiguous(memory_format=torch.channels_last)
        return _attended(encoder.block, _streamed(encoder.embed, image, 1))

    def _add_graph(self, shallow: list[Tensor], total: Tensor) -> Tensor:
        graph = self.network.graph

        def compute(ir: Tensor, vi: Tensor, edges: Edges) -> Tensor:
            return graph.fuse(*graph(ir, vi, edges))

        # All at once there are about as many maps as these channels stand for.
        pixels = pixels_within(total, 4 * total.shape[1], _BUDGET)
        return in_windows(compute, *shallow, halo=max(DILATIONS) + 1, pixels=pixels, add_to=total)


def _streamed(
    compute: Callable[[Tensor], Tensor],
    x: Tensor,
    reach: int,
    add_to: Tensor | None = None,
) -> Tensor:
    """``compute(x)`` by windows."""
    pixels = pixels_within(x, max(2 * x.shape[1], 64), _BUDGET)
    return in_windows(lambda part, _: compute(part), x, halo=reach, pixels=pixels, add_to=add_to)


def _attended(block: TransformerBlock | CAI, x: Tensor, add_to: Tensor | None = None) -> Tensor:
    """``block(x)`` by windows, in two passes."""
    pixels = pixels_within(x, 2 * x.shape[1], _BUDGET)
    sums = sum(
        sums_over_positions(window.inner(block.qk(x[window.around])))
        for window in windows(*x.shape[2:], 1, pixels)
    )
    mixing = block.attention.mixing(sums)
    return _streamed(lambda part: block.attend(part, mixing), x, block.reach, add_to=add_to)


def _base(branch: BaseBranch, x: Tensor) -> Tensor:
    x = _streamed(branch.conv, x, 1)
    for group in branch.groups:
        inner = x
        for block in group.blocks:
            inner = _attended(block, inner)
        x = inner if group.bottleneck is None else _streamed(group.bottleneck, inner, 2, add_to=x)
    return x


def _cai(cai: CAI, x: Tensor, add_to: Tensor | None = None) -> Tensor:
    if cai.attention is None:
        return _streamed(cai.couple, x, 2, add_to=add_to)
    return _attended(cai, x, add_to)


def _merged(
    layer: TransformerBlock | DetailFusion, x: Tensor, add_to: Tensor | None = None
) -> Tensor:
    """A fusion layer of either kind."""
    if isinstance(layer, TransformerBlock):
        return _attended(layer, x, add_to)
    dense, *steps = layer
    return _streamed(nn.Sequential(*steps), _streamed(dense, x, 3), 2 * len(steps), add_to=add_to)
