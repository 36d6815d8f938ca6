"""SMFNet's Transformer blocks: attention over channels, local feed-forward (sections 2.2.2, 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = 8


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``(B, C, H, W)``, with scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(last, self.weight.shape, self.weight, self.bias, 1e-5)
        return normed.permute(0, 3, 1, 2)


class Conv1(nn.Conv2d):
    """1×1 convolution, as the matrix product that it is with channels last.

    On one thread PyTorch takes a slow path for convolutions of this size.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight.flatten(1), self.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mix the channels of ``(B, C, H, W)`` alike at every position by a matrix ``(out, C)``."""
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def sums_over_positions(qk: Tensor) -> Tensor:
    """What the cosines between channels are made of, in float32.

    Args:
        qk: ``(B, 2C, H, W)``, q and k side by side.

    Returns:
        ``(B, C, C + 2)``: products of every channel of q with every channel of k, then the sums of
        squares of q and of k. Those of the parts of an image add up to those of the image.
    """
    with torch.autocast(qk.device.type, enabled=False):
        rows = qk.float().permute(0, 2, 3, 1).flatten(1, 2)  # in place with channels last
        q, k = rows.chunk(2, 2)
        squares = rows.square().sum(1).unflatten(1, (2, -1))
        return torch.cat([q.transpose(1, 2) @ k, squares.transpose(1, 2)], 2)


def attention_map(sums: Tensor, temperature: Tensor) -> Tensor:
    """``softmax(T · q̂ k̂ᵀ)`` between the channels of each head (eqs 3, 4), in float32.

    Every channel counts as a vector of H·W values, of unit length after L2 normalisation.

    Args:
        sums: see :func:`sums_over_positions`. Only the products within heads are used; one large
            product is still faster than many narrow ones.
        temperature: ``(heads, 1, 1)``.

    Returns:
        ``(B, heads, C/heads, C/heads)``; rows sum to 1. It is all that attention over channels
        needs beside the features: its size does not depend on that of the image.
    """
    heads = len(temperature)
    products, squares = sums[..., :-2], sums[..., -2:]
    blocks = products.unflatten(1, (heads, -1)).unflatten(3, (heads, -1))
    blocks = blocks.diagonal(dim1=1, dim2=3).movedim(-1, 1)
    lengths = squares.clamp_min(1e-24).sqrt().unflatten(1, (heads, -1))
    cosines = blocks / lengths[..., :1] / lengths[..., 1:].transpose(2, 3)
    return (cosines * temperature.float()).softmax(-1)


def mixing_matrix(attention: Tensor, projection: Tensor) -> Tensor:
    """``(B, C, C)``: the heads' attention, then the projection's matrix ``(C, C)``; float32.

    Attention mixes channels alike at every position, as the 1×1 convolution after it does: with
    both matrices multiplied first, features are read and written once.
    """
    weight = projection.float().unflatten(1, (attention.shape[1], -1))
    return torch.einsum("ohd,bhdc->bohc", weight, attention).flatten(2)


def mix(v: Tensor, mixing: Tensor, bias: Tensor | None = None) -> Tensor:
    """Each image's matrix ``(B, C, C)`` applied to its ``v``, ``(B, C, H, W)``."""
    out = v.flatten(2).transpose(1, 2) @ mixing.to(v.dtype).transpose(1, 2)
    if bias is not None:
        out = out + bias.to(out.dtype)
    return out.transpose(1, 2).unflatten(2, v.shape[2:])


class Attention(nn.Module):
    """Attention between channels in two steps, so that an image may be read part by part.

    The first step needs q and k at every position and leaves one matrix; the second is local.
    """

    def qk(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to q and k side by side, ``(B, 2C, H, W)``."""
        raise NotImplementedError

    def mixing(self, sums: Tensor) -> Tensor:
        """The matrix ``(B, C, C)`` from :func:`sums_over_positions` of q and k."""
        with torch.autocast(sums.device.type, enabled=False):
            attention = attention_map(sums, self.temperature)
            return mixing_matrix(attention, self.projection.weight.flatten(1))

    def attend(self, x: Tensor, mixing: Tensor) -> Tensor:
        """Mix v, which this makes of ``x``; result and ``x`` are ``(B, C, H, W)``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, self.mixing(sums_over_positions(self.qk(x))))


class MDTA(Attention):
    """Multi-Dconv transposed attention: 1×1 and depthwise 3×3 for q, k, v; attention; 1×1."""

    def __init__(self, channels: int, heads: int = HEADS) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = Conv1(channels, 3 * channels, bias=False)
        self.depthwise = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False
        )
        self.projection = Conv1(channels, channels, bias=False)

    def qk(self, x: Tensor) -> Tensor:
        return self._enter(x, slice(0, 2 * x.shape[1]))

    def attend(self, x: Tensor, mixing: Tensor) -> Tensor:
        return mix(self._enter(x, slice(2 * x.shape[1], None)), mixing)

    def _enter(self, x: Tensor, rows: slice) -> Tensor:
        inner = pointwise(x, self.qkv.weight.flatten(1)[rows])
        return F.conv2d(inner, self.depthwise.weight[rows], padding=1, groups=inner.shape[1])


class DenseAttention(Attention):
    """The same attention with a full 3×3 convolution after the 1×1 one for q, k, v."""

    def __init__(self, channels: int, heads: int = HEADS) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = Conv1(channels, 3 * channels, bias=False)
        self.dense = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, bias=False)
        self.projection = Conv1(channels, channels, bias=False)

    def composed_weight(self) -> Tensor:
        """Weight ``(3C, C, 3, 3)`` of both convolutions as one.

        Nothing lies between them, and without bias the padding of zeros is the same for both
        orders: one third of the multiplications.
        """
        with torch.autocast(self.qkv.weight.device.type, enabled=False):
            weight = self.dense.weight.movedim(1, 3) @ self.qkv.weight.flatten(1)
            return weight.movedim(3, 1)

    def qk(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.composed_weight()[: 2 * x.shape[1]], padding=1)

    def attend(self, x: Tensor, mixing: Tensor) -> Tensor:
        return mix(F.conv2d(x, self.composed_weight()[2 * x.shape[1] :], padding=1), mixing)


class LeFF(nn.Module):
    """Locally enhanced feed-forward: 1×1, depthwise 3×3, 1×1, GELU after each; residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = Conv1(channels, channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.leave = Conv1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.depthwise(F.gelu(self.enter(x))))
        return F.gelu(self.leave(inner)) + x


class FeedForward(nn.Module):
    """1×1 to twice the channels, GELU, 1×1 back."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.enter = Conv1(channels, expansion * channels, bias=False)
        self.leave = Conv1(expansion * channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.gelu(self.enter(x)))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each on normalised features and with a residual (Fig. 2 d).

    Args:
        channels: of the features.
        dense: take :class:`DenseAttention` and :class:`FeedForward` (the second block of the base
            branch) in place of :class:`MDTA` and :class:`LeFF`.
    """

    def __init__(self, channels: int, dense: bool = False) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = (DenseAttention if dense else MDTA)(channels)
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = (FeedForward if dense else LeFF)(channels)

        self.reach = 1 if dense else 2

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, self.attention.mixing(sums_over_positions(self.qk(x))))

    def qk(self, x: Tensor) -> Tensor:
        """See :meth:`Attention.qk`."""
        return self.attention.qk(self.norm1(x))

    def attend(self, x: Tensor, mixing: Tensor) -> Tensor:
        """The block with the matrix of :meth:`Attention.mixing`; sees ``reach`` pixels far."""
        x = x + self.attention.attend(self.norm1(x), mixing)
        return x + self.feed_forward(self.norm2(x))
