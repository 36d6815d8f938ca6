"""SMFNet for eval mode, in strips of rows that stay in the processor's cache.

All layers but attention are local, and attention needs sums over positions only. So each block
first adds up these sums strip by strip, which gives one C × C matrix, then computes its output
strip by strip, with as many rows around a strip as its convolutions reach. Features of a whole
image are stored between blocks only; what a block has inside (three times the channels for q, k
and v, twice for the feed-forward, all nodes of the graph) never exists for more than a strip.

Convolutions that follow one another without anything between are one, batch norm is folded, and
layers that read the same input are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .attention import (
    DenseAttention,
    LeFF,
    TransformerBlock,
    map_from_products,
    mixing_matrix,
)
from .base import SLOPE, BaseBranch, ResidualGroup
from .detail import CAI, AffineInvertible, Bottleneck, Coupling, GradientDense
from .graph import ConvNorm, GraphBranch, ModalityGraph, Reasoning

# Pixels of a strip: 64 channels of float32 are 2.5 MB. Smaller ones recompute more rows.
_STRIP = 10_000


def _windows(x: Tensor, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """Rows of each strip, the same with ``halo`` more where there are, and the strip in these."""
    height, width = x.shape[2:]
    # A GPU has no use for strips; a strip should be much higher than its halo.
    rows = height if x.is_cuda else max(_STRIP // width, 8 * halo)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        low, high = max(top - halo, 0), min(bottom + halo, height)
        yield slice(top, bottom), slice(low, high), slice(top - low, bottom - low)


def _stream(
    compute: Callable[[Tensor], Tensor], x: Tensor, halo: int, out: Tensor | None = None
) -> Tensor:
    """``compute(x)`` strip by strip, for a ``compute`` that reaches ``halo`` rows up and down.

    Padding at a strip's upper and lower end spoils no more than the halo, which is cut off, and
    at the image's ends it is the network's own. The result is added to ``out`` if there is one.
    """
    add = out is not None
    for rows, around, inner in _windows(x, halo):
        strip = compute(x[:, :, around])[:, :, inner]
        if out is None:
            shape = (len(x), strip.shape[1], *x.shape[2:])
            out = torch.empty(
                shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
            )
        if add:
            out[:, :, rows].add_(strip)
        else:
            out[:, :, rows] = strip
    return out


class _Pointwise(nn.Module):
    """A 1×1 convolution as the matrix product that it is with channels last.

    On one thread PyTorch takes a slow path for convolutions of this size.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.register_buffer("weight", weight.detach().flatten(1))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return _pointwise(x, self.weight, self.bias)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _of(conv: nn.Conv2d, rows: slice | Tensor = slice(None)) -> _Pointwise:
    """Some of a 1×1 convolution's outputs."""
    return _Pointwise(conv.weight[rows], None if conv.bias is None else conv.bias[rows])


def _conv(weight: Tensor, bias: Tensor | None = None, depthwise: bool = False) -> nn.Conv2d:
    """A 3×3 convolution of these weights ``(out, in, 3, 3)`` that keeps the size."""
    conv = skip_init(
        nn.Conv2d,
        len(weight) if depthwise else weight.shape[1],
        len(weight),
        3,
        padding=1,
        groups=len(weight) if depthwise else 1,
        bias=bias is not None,
    )
    conv.to(weight)
    with torch.no_grad():
        conv.weight.copy_(weight)
        if bias is not None:
            conv.bias.copy_(bias)
    return conv


def _depthwise(conv: nn.Conv2d, rows: slice | Tensor) -> nn.Conv2d:
    """Some of a depthwise convolution's channels."""
    return _conv(conv.weight[rows], None if conv.bias is None else conv.bias[rows], True)


class _Attention(nn.Module):
    """Attention of a block: from its input to the C × C matrix by which ``v`` is mixed."""

    def __init__(
        self, qk: nn.Module, temperature: Tensor, projection: Tensor, bias: Tensor | None = None
    ):
        super().__init__()
        self.qk = qk
        self.register_buffer("temperature", temperature.detach())
        self.register_buffer("projection", projection.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """The matrix ``(C, C)`` for the image ``x`` ``(1, C, H, W)``, which ``norm`` goes over."""
        products = q_squares = k_squares = 0
        for _, around, inner in _windows(x, 1):
            qk = self.qk(norm(x[:, :, around]))[:, :, inner].float()
            q, k = (part.flatten(2)[0] for part in qk.chunk(2, 1))
            products = products + q @ k.T
            q_squares = q_squares + q.square().sum(1)
            k_squares = k_squares + k.square().sum(1)
        attention = map_from_products(
            products[None], q_squares.sqrt()[None], k_squares.sqrt()[None], self.temperature
        )
        return mixing_matrix(attention, self.projection)[0].to(x.dtype)


class _MDTABlock(nn.Module):
    """Transformer block of MDTA and LeFF."""

    def __init__(self, block: TransformerBlock):
        super().__init__()
        own, channels = block.attention, block.norm1.weight.numel()
        qk, v = slice(0, 2 * channels), slice(2 * channels, None)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = _Attention(
            nn.Sequential(_of(own.qkv, qk), _depthwise(own.depthwise, qk)),
            own.temperature,
            own.projection.weight.flatten(1),
        )
        self.v = nn.Sequential(_of(own.qkv, v), _depthwise(own.depthwise, v))
        inner: LeFF = block.feed_forward
        gelu = nn.GELU()
        self.feed_forward = nn.Sequential(
            _of(inner.enter), gelu, inner.depthwise, gelu, _of(inner.leave), gelu
        )

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        mixing = self.attention(self.norm1, x)

        def compute(strip: Tensor) -> Tensor:
            y = _pointwise(self.v(self.norm1(strip)), mixing).add_(strip)
            normed = self.norm2(y)
            return self.feed_forward(normed).add_(normed).add_(y)

        return _stream(compute, x, 2, out)


class _DenseBlock(nn.Module):
    """Transformer block of dense attention and plain feed-forward.

    1×1 and 3×3 convolution before attention are one, and for ``v`` also what comes after.
    """

    def __init__(self, block: TransformerBlock):
        super().__init__()
        own: DenseAttention = block.attention
        channels = block.norm1.weight.numel()
        weight = own.composed_weight().detach()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = _Attention(
            _conv(weight[: 2 * channels]), own.temperature, own.projection.weight.flatten(1)
        )
        self.register_buffer("v", weight[2 * channels :].flatten(1))
        inner = block.feed_forward
        self.feed_forward = nn.Sequential(_of(inner.enter), nn.GELU(), _of(inner.leave))

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        weight = (self.attention(self.norm1, x) @ self.v).unflatten(1, (-1, 3, 3))
        weight = weight.contiguous(memory_format=torch.channels_last)

        def compute(strip: Tensor) -> Tensor:
            y = F.conv2d(self.norm1(strip), weight, padding=1).add_(strip)
            return self.feed_forward(self.norm2(y)).add_(y)

        return _stream(compute, x, 1, out)


def _block(block: TransformerBlock) -> nn.Module:
    dense = isinstance(block.attention, DenseAttention)
    return _DenseBlock(block) if dense else _MDTABlock(block)


class _Group(nn.Module):
    """Residual group; changes its input."""

    def __init__(self, group: ResidualGroup):
        super().__init__()
        self.blocks = nn.ModuleList(_block(block) for block in group.blocks)
        self.bottleneck = group.bottleneck

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for block in self.blocks:
            inner = block(inner)
        return inner if self.bottleneck is None else _stream(self.bottleneck, inner, 2, x)


class _BaseBranch(nn.Module):
    def __init__(self, branch: BaseBranch):
        super().__init__()
        self.conv = branch.conv
        self.groups = nn.Sequential(*(_Group(group) for group in branch.groups))

    def forward(self, x: Tensor) -> Tensor:
        return self.groups(_stream(self.conv, x, 1))


class _GradientDense(nn.Module):
    def __init__(self, block: GradientDense):
        super().__init__()
        self.conv, self.dense1, self.dense2 = block.conv, block.dense1, block.dense2
        # Both 1×1 convolutions end in one sum: one convolution of all they read.
        self.merge = _Pointwise(
            torch.cat([block.merge.weight, block.gradient.weight], 1),
            block.merge.bias + block.gradient.bias,
        )
        self.across, self.down = (_conv(block.sobel[i::2], depthwise=True) for i in (0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _stream(self._local, x, 3)

    def _local(self, x: Tensor) -> Tensor:
        x = F.leaky_relu_(self.conv(x), SLOPE)
        first = F.leaky_relu_(self.dense1(x), SLOPE)
        second = F.leaky_relu_(self.dense2(torch.cat([x, first], 1)), SLOPE)
        edges = self.across(x).abs_().add_(self.down(x).abs_())
        return F.leaky_relu_(self.merge(torch.cat([x, first, second, edges], 1)), 0.1)


class _Bottlenecks(nn.Module):
    """Bottlenecks that read the same input as one; outputs side by side."""

    def __init__(self, *blocks: Bottleneck):
        super().__init__()
        self.enter = _Pointwise(torch.cat([block.enter.weight for block in blocks]))
        self.depthwise = _conv(
            torch.cat([block.depthwise.weight for block in blocks]), depthwise=True
        )
        self.depthwise.padding = (0, 0)
        self.leave = _Pointwise(
            torch.block_diag(*(block.leave.weight.flatten(1) for block in blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.pad(self.enter(x).clamp_(0, 6), (1, 1, 1, 1), mode="reflect")
        return self.leave(self.depthwise(inner).clamp_(0, 6))


class _Coupling(nn.Module):
    """The invertible step on both halves side by side; reaches two rows."""

    def __init__(self, coupling: Coupling):
        super().__init__()
        self.phi = _Bottlenecks(coupling.phi)
        self.rho_eta = _Bottlenecks(coupling.rho, coupling.eta)

    def forward(self, x: Tensor) -> Tensor:
        z1, z2 = x.chunk(2, 1)
        z2 = self.phi(z1).add_(z2)
        exponent, shift = self.rho_eta(z2).chunk(2, 1)
        return torch.cat([torch.addcmul(shift, z1, exponent.exp()), z2], 1)


class _CAI(nn.Module):
    """Cross attention of both halves as one attention with twice the heads, then the coupling."""

    def __init__(self, cai: CAI):
        super().__init__()
        self.coupling = _Coupling(cai.coupling)
        cross = cai.attention
        self.attention = None
        if cross is None:
            return
        half = cross.norms[0].weight.numel()
        # What is q1 k1 v1 q2 k2 v2 becomes q2 q1, k1 k2 and v1 v2: q and k of a head side by side.
        q1, k1, v1, q2, k2, v2 = torch.arange(6 * half).split(half)
        order = torch.cat([q2, q1, k1, k2, v1, v2])
        scale, shift = (
            torch.cat([getattr(norm, name) for norm in cross.norms]) for name in ("weight", "bias")
        )
        weight = torch.block_diag(*cross.qkv.weight.flatten(1).chunk(2))[order]
        # The norms' scale and shift go into the convolution after them.
        bias = cross.qkv.bias[order] + weight @ shift
        qk, v = slice(0, 4 * half), slice(4 * half, None)

        def enter(rows: slice) -> nn.Module:
            return nn.Sequential(
                _Pointwise(weight[rows] * scale, bias[rows]),
                _depthwise(cross.depthwise, order[rows]),
            )

        self.attention = _Attention(
            enter(qk),
            cross.temperature.flatten(0, 1),
            torch.block_diag(*(conv.weight.flatten(1) for conv in cross.projections)),
            torch.cat([conv.bias for conv in cross.projections]),
        )
        self.v = enter(v)

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if self.attention is None:
            return _stream(self.coupling, x, 2, out)
        mixing = self.attention(_norm_halves, x)

        def compute(strip: Tensor) -> Tensor:
            v = self.v(_norm_halves(strip))
            return self.coupling(_pointwise(v, mixing, self.attention.bias))

        return _stream(compute, x, 3, out)


def _norm_halves(x: Tensor) -> Tensor:
    """Layer norm over each half of the channels, without scale and shift."""
    last = x.permute(0, 2, 3, 1).unflatten(3, (2, -1))
    return F.layer_norm(last, last.shape[4:], eps=1e-5).flatten(3).permute(0, 3, 1, 2)


class _Affine(nn.Module):
    """Affine invertible block; reaches two rows."""

    def __init__(self, block: AffineInvertible):
        super().__init__()
        self.shuffle, self.clamp = _of(block.shuffle), block.clamp
        self.rho_eta = _Bottlenecks(block.rho, block.eta)
        self.psi_phi = _Bottlenecks(block.psi, block.phi)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.shuffle(x).chunk(2, 1)
        y2 = self._unscaled(x2, self.rho_eta(x1))
        return torch.cat([self._unscaled(x1, self.psi_phi(y2)), y2], 1)

    def _unscaled(self, x: Tensor, parameters: Tensor) -> Tensor:
        s, shift = parameters.chunk(2, 1)
        factor = s.sigmoid().sub_(0.5).mul_(-2 * self.clamp).exp_()
        return factor.mul_(x - shift)


class _DetailFusion(nn.Module):
    def __init__(self, layer: nn.Sequential):
        super().__init__()
        dense, *blocks = layer
        self.dense = _GradientDense(dense)
        self.blocks = nn.Sequential(*(_Affine(block) for block in blocks))

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return _stream(self.blocks, self.dense(x), 2 * len(self.blocks), out)


class _Reasoning(nn.Module):
    """Messages and update as matrix products over all positions of all nodes.

    ``nodes`` ``(N, P, C)``: P positions of N nodes; changed in place.
    """

    def __init__(self, reasoning: Reasoning):
        super().__init__()
        gates, candidate = reasoning.update.gates, reasoning.update.candidate
        channels = candidate.out_channels
        # tanh(x) = 2 σ(2x) - 1: the sigmoid is far faster.
        for name, conv, factor in (("gates", gates, 1), ("candidate", candidate, 2)):
            of_message, of_node = (factor * conv.weight.flatten(1)).split(channels, 1)
            self.register_buffer(f"{name}_of_message", of_message.T.contiguous())
            self.register_buffer(f"{name}_of_node", of_node.T.contiguous())
            self.register_buffer(f"{name}_bias", factor * conv.bias)
        self.register_buffer("edge", reasoning.edge.weight.flatten(1).T.contiguous())
        self.register_buffer("gamma", reasoning.gamma.detach())

    def forward(self, nodes: Tensor) -> Tensor:
        flat, message = nodes.flatten(0, 1), self._messages(nodes).flatten(0, 1)
        gates = torch.addmm(self.gates_bias, message, self.gates_of_message)
        reset, update = gates.addmm_(flat, self.gates_of_node).sigmoid_().chunk(2, 1)
        candidate = torch.addmm(self.candidate_bias, message, self.candidate_of_message)
        candidate.addmm_(reset * flat, self.candidate_of_node).sigmoid_().mul_(2).sub_(1)
        flat.addcmul_(torch.lerp(flat, candidate, update), self.gamma)
        return nodes

    def _messages(self, nodes: Tensor) -> Tensor:
        scores = nodes @ self.edge
        messages = torch.empty_like(nodes)
        for to, message in enumerate(messages):
            others = [index for index in range(len(nodes)) if index != to]
            for place, source in enumerate(others):
                at = slice(place, place + 1)
                weight = torch.sigmoid(scores[to][:, at] - scores[source][:, at])
                if place == 0:
                    torch.mul(nodes[source], weight, out=message)
                else:
                    message.addcmul_(nodes[source], weight)
        return messages


class _ModalityGraph(nn.Module):
    def __init__(self, graph: ModalityGraph):
        super().__init__()
        self.nodes = nn.ModuleList(_folded(block) for block in graph.nodes)
        self.reasoning = _Reasoning(graph.reasoning)
        self.merge = _folded(graph.merge)

    def embed(self, x: Tensor, rows: slice) -> Tensor:
        """The nodes' ``rows`` ``(N, C, rows, W)``, from the whole map ``x``."""
        strips = []
        for conv in self.nodes:
            reach = conv.dilation[0]
            low, high = rows.start - reach, rows.stop + reach
            strip = x[:, :, max(low, 0) : high]
            missing = (0, 0, max(-low, 0), max(high - x.shape[2], 0))
            strip = F.pad(strip, missing) if any(missing) else strip
            strips.append(
                F.conv2d(strip, conv.weight, conv.bias, padding=(0, reach), dilation=reach).relu_()
            )
        nodes = torch.cat(strips)
        return nodes.contiguous(memory_format=torch.channels_last)

    def reason(self, nodes: Tensor, iterations: int) -> Tensor:
        """``(N, C, rows, W)``, changed in place, to one map."""
        flat = nodes.permute(0, 2, 3, 1).flatten(1, 2)
        for _ in range(iterations):
            self.reasoning(flat)
        return self.merge(torch.cat(nodes.split(1), 1)).relu_()


def _folded(block: ConvNorm) -> nn.Conv2d:
    return fuse_conv_bn_eval(block.conv.eval(), block.norm.eval())


class _Graph(nn.Module):
    """The graph branch; nodes exist for a strip at a time."""

    def __init__(self, graph: GraphBranch):
        super().__init__()
        self.ir, self.vi = _ModalityGraph(graph.ir), _ModalityGraph(graph.vi)
        gates = torch.cat([graph.cross.to_ir.weight, graph.cross.to_vi.weight])
        self.register_buffer("gates", gates.flatten(1).T.contiguous())
        self.merge = _of(graph.merge)
        self.iterations, self.exchanges = graph.iterations, graph.exchanges

    def forward(self, ir: Tensor, vi: Tensor, out: Tensor) -> Tensor:
        """The fused map of both modalities, added to ``out``."""
        for rows, around, inner in _windows(ir, 1):
            nodes = self.ir.embed(ir, around), self.vi.embed(vi, around)
            self._exchange(*(x.permute(0, 2, 3, 1).flatten(0, 2) for x in nodes))
            maps = [
                graph.reason(part, self.iterations)[:, :, inner]
                for graph, part in zip((self.ir, self.vi), nodes, strict=True)
            ]
            out[:, :, rows].add_(self.merge(torch.cat(maps, 1)))
        return out

    def _exchange(self, ir: Tensor, vi: Tensor) -> None:
        """Cross edges between nodes ``(N·positions, C)``, changed in place."""
        for _ in range(self.exchanges):
            difference = (vi @ self.gates).sub_(ir @ self.gates)
            into_ir = difference[:, :1].sigmoid()
            into_vi = difference[:, 1:].neg().sigmoid_()
            before = ir.clone()
            ir.addcmul_(vi, into_ir)
            vi.addcmul_(before, into_vi)


class StreamedSMFNet(nn.Module):
    """SMFNet as ``for_inference`` returns it; takes and gives what the network does."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.embed = network.encoder.embed
        self.encode = _block(network.encoder.block)
        self.base = _BaseBranch(network.base)
        dense, cai = network.detail
        self.dense, self.cai = _GradientDense(dense), _CAI(cai)
        self.graph = None if network.graph is None else _Graph(network.graph)
        # The layer for base features first.
        self.base_fusion, self.detail_fusion = (
            _fusion(network.fusion_layer(branch)) for branch in ("base", "detail")
        )
        self.decode = _block(network.decoder.block)
        self.convs = network.decoder.convs
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        # One pair after the other: attention differs between images, and memory counts.
        pairs = zip(ir.split(1), vi.split(1), strict=True)
        return torch.cat([self._fuse(*pair) for pair in pairs])

    def _fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        shallow = [self._shallow(image) for image in (ir, vi)]
        base = self.base(shallow[0])
        base += self.base(shallow[1])
        total = self.base_fusion(base)
        del base
        detail = self.cai(self.dense(shallow[0]))
        detail = self.cai(self.dense(shallow[1]), detail)
        total = self.detail_fusion(detail, total)
        del detail
        if self.graph is not None:
            total = self.graph(*shallow, total)
        del shallow
        return _stream(self._image, self.decode(total), len(self.convs))

    def _shallow(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        return self.encode(_stream(self.embed, image, 1))

    def _image(self, x: Tensor) -> Tensor:
        for conv in self.convs[:-1]:
            x = F.leaky_relu_(conv(x))
        return self.convs[-1](x).sigmoid_()


def _fusion(layer: nn.Module) -> nn.Module:
    return _block(layer) if isinstance(layer, TransformerBlock) else _DetailFusion(layer)
