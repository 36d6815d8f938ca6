"""SMFNet's graph branch: nodes and messages between scales and modalities (section 2.2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.strips import WHOLE, Edges, convolve, trim

from .attention import Conv1

DILATIONS = (4, 8, 16)
# Running statistics follow the last 50 or so batches: those of ten small batches of crops, which
# the usual 0.1 amounts to, are too rough for eval mode.
_MOMENTUM = 0.02


class ConvNorm(nn.Module):
    """3×3 convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, momentum=_MOMENTUM)

    def forward(self, x: Tensor, edges: Edges = WHOLE) -> Tensor:
        return F.relu(self.norm(convolve(self.conv, x, edges)))


class ConvGRU(nn.Module):
    """Gated recurrent unit of 1×1 convolutions (eq. 16): a node takes up a message."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = Conv1(2 * channels, 2 * channels)
        self.candidate = Conv1(2 * channels, channels)
        for conv in (self.gates, self.candidate):
            nn.init.normal_(conv.weight, std=0.01)

    def forward(self, message: Tensor, node: Tensor) -> Tensor:
        reset, update = torch.sigmoid(self.gates(torch.cat([message, node], 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat([message, reset * node], 1)))
        return torch.lerp(node, candidate, update)


class Reasoning(nn.Module):
    """Messages between one modality's nodes and their update (eqs 12–16).

    The message to node l is ``Σ σ(e_kl) · v_k`` over the other nodes k, where ``e_kl`` is a 1×1
    convolution of ``v_l - v_k`` to one channel, with weights of its own for each place among the
    others. A learned scale, at first 0, stands before the update.

    ``interleaved``: in the released code the weights lie over channels, not over nodes: channel c
    of all other nodes is multiplied by the weight of place ``c mod (nodes - 1)``.
    """

    def __init__(self, channels: int, nodes: int, interleaved: bool = False) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.edge = Conv1(channels, nodes - 1, bias=False)
        self.update = ConvGRU(channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def messages(self, nodes: list[Tensor]) -> list[Tensor]:
        """One for each node, shaped like it."""
        # The convolution of a difference is the difference of convolutions: maps of one channel.
        scores = [self.edge(node) for node in nodes]
        result = []
        for to, own in enumerate(scores):
            others = [index for index in range(len(nodes)) if index != to]
            weights = [
                torch.sigmoid(own[:, place, None] - scores[source][:, place, None])
                for place, source in enumerate(others)
            ]
            if self.interleaved:
                total = sum(nodes[k] for k in others)
                gates = torch.cat(weights, 1)
                result.append(total * gates.repeat(1, total.shape[1] // gates.shape[1], 1, 1))
                continue
            result.append(sum(w * nodes[k] for w, k in zip(weights, others, strict=True)))
        return result

    def forward(self, nodes: list[Tensor]) -> list[Tensor]:
        # All nodes in one batch: they share the unit's weights.
        updated = self.update(torch.cat(self.messages(nodes)), torch.cat(nodes))
        changes = (self.gamma.to(updated.dtype) * updated).tensor_split(len(nodes))
        return [node + change for node, change in zip(nodes, changes, strict=True)]


class CrossEdges(nn.Module):
    """Exchange between nodes of one scale: each modality adds what a gate lets in of the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_ir = Conv1(channels, 1, bias=False)
        self.to_vi = Conv1(channels, 1, bias=False)

    def forward(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        into_ir = torch.sigmoid(self.to_ir(vi) - self.to_ir(ir))
        into_vi = torch.sigmoid(self.to_vi(ir) - self.to_vi(vi))
        return ir + vi * into_ir, vi + ir * into_vi


class ModalityGraph(nn.Module):
    """What the graph branch has once for each modality: nodes, reasoning, merging."""

    def __init__(self, channels: int, interleaved: bool = False) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(ConvNorm(channels, channels, dilation) for dilation in DILATIONS)
        self.reasoning = Reasoning(channels, len(DILATIONS), interleaved)
        self.merge = ConvNorm(len(DILATIONS) * channels, channels)

    def reason(self, nodes: list[Tensor], iterations: int, edges: Edges = WHOLE) -> Tensor:
        """Messages and updates, then the nodes merged into one map."""
        for _ in range(iterations):
            nodes = self.reasoning(nodes)
        return self.merge(torch.cat(nodes, 1), edges)


class GraphBranch(nn.Module):
    """Graph reasoning over the shared features of both sources (Fig. 2 e).

    Eq. 11 makes nodes by pooling; like the released code, this takes dilated convolutions.

    ``graph(ir, vi)`` takes two maps ``(B, C, H, W)`` and gives one for each modality;
    :meth:`fuse` makes one of them. ``interleaved``: see :class:`Reasoning`.
    """

    def __init__(
        self, channels: int, iterations: int = 2, exchanges: int = 2, interleaved: bool = False
    ) -> None:
        super().__init__()
        self.ir, self.vi = (ModalityGraph(channels, interleaved) for _ in range(2))
        self.cross = CrossEdges(channels)
        self.merge = Conv1(2 * channels, channels)
        self.iterations, self.exchanges = iterations, exchanges

    def forward(self, ir: Tensor, vi: Tensor, edges: Edges = WHOLE) -> tuple[Tensor, Tensor]:
        ir_nodes, vi_nodes = (
            [make(x, edges) for make in graph.nodes] for graph, x in ((self.ir, ir), (self.vi, vi))
        )
        # The node of the largest dilation comes last and has, in a window, the fewest pixels.
        size = ir_nodes[-1].shape[2:]
        for scale, nodes in enumerate(zip(ir_nodes, vi_nodes, strict=True)):
            pair = [trim(node, *size, edges) for node in nodes]
            for _ in range(self.exchanges):
                pair = self.cross(*pair)
            ir_nodes[scale], vi_nodes[scale] = pair
        return (
            self.ir.reason(ir_nodes, self.iterations, edges),
            self.vi.reason(vi_nodes, self.iterations, edges),
        )

    def fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Both modalities' maps as one."""
        return self.merge(torch.cat([ir, vi], 1))
