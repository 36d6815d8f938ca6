"""SMFNet for eval mode, window by window.

All layers but attention are local, and attention needs sums over positions only. So each block
first adds up these sums over windows, which gives one C × C matrix, then computes its output window
by window. Features of a whole image are stored between blocks only; what a block has inside (three
times the channels for q, k and v, all nodes of the graph) never exists for more than a window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionzoo.strips import Edges, Inner, Over, at_once, in_windows, pixels_within, windows

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
        return torch.cat([self.fuse_part(*pair, at_once) for pair in pairs])

    @torch.no_grad()
    def fuse_part(self, ir: Tensor, vi: Tensor, over: Over) -> Tensor:
        """Fuse one pair of images, or parts of larger ones."""
        network = self.network
        shallow = self._shallow([ir, vi], over)
        dense, cai = network.detail
        # Asked for before the base branch, which asks many times: the parts of an image are
        # computed anew for each.
        mixings = [None, None]
        if over is not at_once and cai.attention is not None:
            mixings = _mixings(cai, [_streamed(dense, x, 3) for x in shallow], over)
        base = _base(network.base, shallow, over)
        total = _merged(network.fusion_layer("base"), base, over)
        del base
        detail = None
        for x, mixing in zip(shallow, mixings, strict=True):
            detail = _cai(cai, _streamed(dense, x, 3), detail, mixing)
        total = _merged(network.fusion_layer("detail"), detail, over, total)
        del detail
        if network.graph is not None:
            total = self._add_graph(shallow, total)
        del shallow
        (decoded,) = _attended(network.decoder.block, [total], over)
        return _streamed(network.decoder.image, decoded, len(network.decoder.convs))

    def _shallow(self, images: list[Tensor], over: Over) -> list[Tensor]:
        encoder = self.network.encoder
        images = [image.contiguous(memory_format=torch.channels_last) for image in images]
        embedded = [_streamed(encoder.embed, image, 1) for image in images]
        return _attended(encoder.block, embedded, over)

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


def _mixings(block: TransformerBlock | CAI, maps: list[Tensor], over: Over) -> list[Tensor]:
    """The matrix of the block's attention for each of the maps, by windows."""

    def sums(x: Tensor, inner: Inner) -> Tensor:
        pixels = pixels_within(x, 2 * x.shape[1], _BUDGET)
        return sum(
            sums_over_positions(inner(window.inner(block.qk(x[window.around])), window.place))
            for window in windows(*x.shape[2:], 1, pixels)
        )

    found = over(*(partial(sums, x) for x in maps), how="sum")
    return [block.attention.mixing(total) for total in found]


def _attend(
    block: TransformerBlock | CAI, x: Tensor, mixing: Tensor, add_to: Tensor | None = None
) -> Tensor:
    return _streamed(lambda part: block.attend(part, mixing), x, block.reach, add_to=add_to)


def _attended(
    block: TransformerBlock | CAI, maps: list[Tensor], over: Over, add_to: Tensor | None = None
) -> list[Tensor]:
    """``block(x)`` for each of the maps, by windows, in two passes; the list is used up."""
    mixings = _mixings(block, maps, over)
    return [_attend(block, maps.pop(0), mixing, add_to) for mixing in mixings]


def _base(branch: BaseBranch, shallow: list[Tensor], over: Over) -> Tensor:
    """The sum of both sources' base features."""
    if over is at_once:  # one after the other: half the memory
        return _base_of(branch, shallow[:1], over).add_(_base_of(branch, shallow[1:], over))
    return _base_of(branch, shallow, over)


def _base_of(branch: BaseBranch, maps: list[Tensor], over: Over) -> Tensor:
    maps = [_streamed(branch.conv, x, 1) for x in maps]
    for group in branch.groups:
        inner = [*maps]
        for block in group.blocks:
            inner = _attended(block, inner, over)
        if group.bottleneck is not None:
            inner = [
                _streamed(group.bottleneck, x, 2, add_to=before)
                for x, before in zip(inner, maps, strict=True)
            ]
        maps = inner
    first, *others = maps
    for other in others:
        first += other
    return first


def _cai(cai: CAI, x: Tensor, add_to: Tensor | None = None, mixing: Tensor | None = None) -> Tensor:
    if cai.attention is None:
        return _streamed(cai.couple, x, 2, add_to=add_to)
    if mixing is None:
        (mixing,) = _mixings(cai, [x], at_once)
    return _attend(cai, x, mixing, add_to)


def _merged(
    layer: TransformerBlock | DetailFusion, x: Tensor, over: Over, add_to: Tensor | None = None
) -> Tensor:
    """A fusion layer of either kind."""
    if isinstance(layer, TransformerBlock):
        return _attended(layer, [x], over, add_to)[0]
    dense, *steps = layer
    return _streamed(nn.Sequential(*steps), _streamed(dense, x, 3), 2 * len(steps), add_to=add_to)
