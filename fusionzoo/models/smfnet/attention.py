"""SMFNet's Transformer blocks: attention over channels, local feed-forward (sections 2.2.2, 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = 8


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``(B, C, H, W)``, with scale and shift."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(last, self.weight.shape, self.weight, self.bias, 1e-5)
        return normed.permute(0, 3, 1, 2)


def attention_map(q: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """``softmax(T · q̂ k̂ᵀ)`` between the channels of each head (eqs 3, 4), in float32.

    Args:
        q, k: ``(B, C, H, W)``; every channel counts as a vector of H·W values, of unit length
            after L2 normalisation.
        temperature: ``(heads, 1, 1)``.

    Returns:
        ``(B, heads, C/heads, C/heads)``; rows sum to 1. It is all that attention over channels
        needs beside the features: its size does not depend on that of the image.
    """
    with torch.autocast(q.device.type, enabled=False):
        # Cosines from products and lengths: no normalised copies of q and k.
        q, k = q.float(), k.float()
        products = q.flatten(2) @ k.flatten(2).transpose(1, 2)
        lengths = (torch.linalg.vector_norm(x, dim=(2, 3)) for x in (q, k))
        return map_from_products(products, *lengths, temperature)


def map_from_products(
    products: Tensor, q_length: Tensor, k_length: Tensor, temperature: Tensor
) -> Tensor:
    """The map of :func:`attention_map` from sums over positions, all float32.

    Args:
        products: ``(B, C, C)`` of every channel of q with every channel of k. Only the heads'
            blocks are used; one large product is still faster than many narrow ones.
        q_length, k_length: ``(B, C)``, the channels' L2 norms.
        temperature: ``(heads, 1, 1)``.
    """
    heads = len(temperature)
    blocks = products.unflatten(1, (heads, -1)).unflatten(3, (heads, -1))
    blocks = blocks.diagonal(dim1=1, dim2=3).movedim(-1, 1)
    q_length, k_length = (
        x.clamp_min(1e-12).unflatten(1, (heads, -1)) for x in (q_length, k_length)
    )
    cosines = blocks / q_length[..., None] / k_length[:, :, None]
    return (cosines * temperature.float()).softmax(-1)


def mixing_matrix(attention: Tensor, projection: Tensor) -> Tensor:
    """``(B, C, C)``: the heads' attention, then the projection's matrix ``(C, C)``; float32."""
    weight = projection.float().unflatten(1, (attention.shape[1], -1))
    return torch.einsum("ohd,bhdc->bohc", weight, attention).flatten(2)


def project_attended(attention: Tensor, v: Tensor, projection: nn.Conv2d) -> Tensor:
    """The heads' ``attention`` applied to ``v``, and the 1×1 convolution after it, in one product.

    Attention mixes channels alike at every position, as a 1×1 convolution does: the two
    matrices are multiplied first, features are read and written once.
    """
    with torch.autocast(v.device.type, enabled=False):
        mixing = mixing_matrix(attention, projection.weight.flatten(1))
    out = v.flatten(2).transpose(1, 2) @ mixing.to(v.dtype).transpose(1, 2)
    if projection.bias is not None:
        out = out + projection.bias.to(out.dtype)
    return out.transpose(1, 2).unflatten(2, v.shape[2:])


class MDTA(nn.Module):
    """Multi-Dconv transposed attention: 1×1 and depthwise 3×3 for q, k, v; attention; 1×1."""

    def __init__(self, channels: int, heads: int = HEADS):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.depthwise = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False
        )
        self.projection = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.depthwise(self.qkv(x)).chunk(3, 1)
        return project_attended(attention_map(q, k, self.temperature), v, self.projection)


class DenseAttention(nn.Module):
    """The same attention with a full 3×3 convolution after the 1×1 one for q, k, v."""

    def __init__(self, channels: int, heads: int = HEADS):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.dense = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, bias=False)
        self.projection = nn.Conv2d(channels, channels, 1, bias=False)

    def composed_weight(self) -> Tensor:
        """Weight ``(3C, C, 3, 3)`` of both convolutions as one.

        Nothing lies between them, and without bias the padding of zeros is the same for both
        orders: one third of the multiplications.
        """
        with torch.autocast(self.qkv.weight.device.type, enabled=False):
            weight = self.dense.weight.movedim(1, 3) @ self.qkv.weight.flatten(1)
            return weight.movedim(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = F.conv2d(x, self.composed_weight(), padding=1).chunk(3, 1)
        return project_attended(attention_map(q, k, self.temperature), v, self.projection)


class LeFF(nn.Module):
    """Locally enhanced feed-forward: 1×1, depthwise 3×3, 1×1, GELU after each; residual."""

    def __init__(self, channels: int):
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.depthwise(F.gelu(self.enter(x))))
        return F.gelu(self.leave(inner)) + x


class FeedForward(nn.Module):
    """1×1 to twice the channels, GELU, 1×1 back."""

    def __init__(self, channels: int, expansion: int = 2):
        super().__init__()
        self.enter = nn.Conv2d(channels, expansion * channels, 1, bias=False)
        self.leave = nn.Conv2d(expansion * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.gelu(self.enter(x)))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each on normalised features and with a residual (Fig. 2 d).

    Args:
        channels: of the features.
        dense: take :class:`DenseAttention` and :class:`FeedForward` (the second block of the base
            branch) in place of :class:`MDTA` and :class:`LeFF`.
    """

    def __init__(self, channels: int, dense: bool = False):
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = (DenseAttention if dense else MDTA)(channels)
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = (FeedForward if dense else LeFF)(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))
