"""What CHITNet is built from: dense encoder, attention over channels, linear decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.strips import WHOLE, Edges, convolve, trim

#: What an attention does to each pixel: a matrix ``(B, C, C)`` and a shift ``(B, 1, C)``.
Mixing: TypeAlias = tuple[Tensor, Tensor]


class ResidualDenseBlock(nn.Module):
    """Three densely connected 3×3 convolutions with ReLU, merged by a 1×1 one (section III-B).

    No convolution has a bias. ``(B, C, H, W)`` in and out; every layer grows by C channels.
    """

    def __init__(self, channels: int, layers: int = 3) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d((1 + layer) * channels, channels, 3, padding=1, bias=False)
            for layer in range(layers)
        )
        self.merge = nn.Conv2d((1 + layers) * channels, channels, 1, bias=False)

    def forward(self, x: Tensor, edges: Edges = WHOLE) -> Tensor:
        features = x
        for conv in self.convs:
            made = convolve(conv, features, edges).relu_()
            features = torch.cat([trim(features, *made.shape[2:], edges), made], 1)
        return self.merge(features) + features[:, : x.shape[1]]


class Encoder(nn.Module):
    """E_ir or E_vis of eq. 1: 3×3 convolution, LeakyReLU 0.2, one residual dense block.

    Args:
        in_channels: 2 for an image and its inversion (1 in the ablation without MIT).
        channels: of the features it gives.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.body = ResidualDenseBlock(channels)

    def forward(self, image: Tensor, edges: Edges = WHOLE) -> Tensor:
        return self.body(F.leaky_relu_(convolve(self.head, image, edges), 0.2), edges)

    @property
    def reach(self) -> int:
        """How many pixels far this sees."""
        return 1 + len(self.body.convs)


class ChannelAttention(nn.Module):
    """Conv1×1(softmax(scale · Q̂ K̂ᵀ) V): attention of channels to channels (eqs 2–3, 5–6).

    Q, K and V are 1×1 convolutions of three features, ``(B, C, H, W)`` each. The map is C×C: its
    entries contract over all pixels, so that with the paper's √d (d left open) they would grow
    with the image, and what 120×120 crops have trained would meet another softmax on whole
    images. Rows of Q and K are therefore scaled to unit length over the pixels first: an entry is
    the cosine between two channels' maps, which neither the number of pixels nor the images'
    brightness changes. How sharp the softmax is, the learned scale says.

    Nothing of this is computed pixel by pixel: Q Kᵀ and the lengths follow from the features'
    :func:`moments`, and what is left of the convolutions is one C×C matrix (:meth:`mixing`).

    Args:
        channels: C.
        scale: what the cosines are multiplied with, at the start of training (Q and K cannot
            learn it, their lengths being taken out).
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, value: Tensor, query: Tensor, cross: Tensor, key: Tensor) -> Tensor:
        """Mix the channels of ``value``; ``query``, ``cross`` and ``key`` as in :meth:`mixing`."""
        return self.mix(value, self.mixing(query, cross, key))

    def mix(self, value: Tensor, mixing: Mixing) -> Tensor:
        """Apply what :meth:`mixing` gives to ``(B, C, H, W)``, or to a part of an image."""
        matrix, shift = mixing
        # Pixels as rows, which keeps features with the channels last as they are.
        pixels = value.flatten(2).mT
        mixed = torch.baddbmm(shift.to(pixels.dtype), pixels, matrix.to(pixels.dtype).mT)
        return mixed.mT.unflatten(2, value.shape[-2:])

    def mixing(self, query: Tensor, cross: Tensor, key: Tensor) -> Mixing:
        """What the attention does to each pixel: a matrix ``(B, C, C)`` and a shift ``(B, 1, C)``.

        Args:
            query: second moments ``(B, C + 1, C + 1)`` of what Q is made of; see :func:`moments`.
            cross: those of that with what K is made of.
            key: second moments of what K is made of.
        """
        # Sums over all pixels: in float32 whatever the features are in.
        with torch.autocast(query.device.type, enabled=False):
            weights = self.weights(query, cross, key)
            out, value = _affine(self.out), _affine(self.value)
            mixed = out[:, :-1] @ weights @ value
            return mixed[..., :-1], (mixed[..., -1] + out[:, -1]).unsqueeze(1)

    def weights(self, query: Tensor, cross: Tensor, key: Tensor) -> Tensor:
        """The attention ``(B, C, C)``, arguments as in :meth:`mixing`; each row sums to one."""
        q, k = _affine(self.query), _affine(self.key)
        lengths = [
            ((weight @ second) * weight).sum(2).clamp_min(1e-12).sqrt()
            for weight, second in ((q, query), (k, key))
        ]
        cosines = q @ cross @ k.mT / (lengths[0].unsqueeze(2) * lengths[1].unsqueeze(1))
        return torch.softmax(self.log_scale.float().exp() * cosines, 2)


def moments(features: Tensor) -> Tensor:
    """Second moments ``(B, C + 1, C + 1)`` in float32 of ``(B, C, H, W)`` and a constant 1.

    Means over the pixels of the products of each two channels; the last row and column, which
    belong to the constant, hold the channels' means.
    """
    with torch.autocast(features.device.type, enabled=False):
        pixels = features.flatten(2).float()
        count = pixels.shape[2]
        second = pixels @ pixels.mT / count
        mean = pixels.mean(2, keepdim=True)
        last = torch.cat([mean.mT, mean.new_ones(mean.shape[0], 1, 1)], 2)
        return torch.cat([torch.cat([second, mean], 2), last], 1)


def _affine(conv: nn.Conv2d) -> Tensor:
    """A 1×1 convolution as a matrix ``(out, in + 1)`` in float32 for features and a constant 1."""
    return torch.cat([conv.weight.flatten(1), conv.bias.unsqueeze(1)], 1).float()


class LinearDecoder(nn.Module):
    """D_fuse of eq. 11: 3×3 convolution to ``channels``, 3×3 convolution to one, tanh.

    Nothing stands between the two convolutions, so they are computed as what they are together:
    one 3×3 convolution to nine maps, one for each tap of the second kernel, which are then
    shifted and added. That is a seventh of the multiplications, and exact at the borders too.
    The sources' features stay apart: a convolution of a concatenation is a sum of convolutions.
    Returns ``(B, 1, H, W)`` in (-1, 1).

    Args:
        in_channels: of all features together.
        channels: between the two convolutions.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        with torch.autocast(features[0].device.type, enabled=False):
            weight, bias = self.taps()
        weights = weight.split([part.shape[1] for part in features], 1)
        maps = F.conv2d(features[0], weights[0], bias, padding=1)
        for part, kernel in zip(features[1:], weights[1:], strict=True):
            maps = maps + F.conv2d(part, kernel, padding=1)
        return self.gather(maps)

    def taps(self) -> tuple[Tensor, Tensor]:
        """Weight ``(9, in_channels, 3, 3)`` and bias ``(9,)`` of both convolutions together."""
        kernel = self.out.weight[0].flatten(1)  # (channels, 9)
        weight = torch.einsum("mt,mcyx->tcyx", kernel, self.mix.weight)
        return weight, self.mix.bias @ kernel

    def gather(self, maps: Tensor) -> Tensor:
        """Add the nine maps ``(B, 9, H, W)``, each shifted by its tap's place, and squash."""
        with torch.autocast(maps.device.type, enabled=False):
            dtype = self.out.weight.dtype
            place = torch.eye(9, device=maps.device, dtype=dtype).view(1, 9, 3, 3)
            return torch.tanh(F.conv2d(maps.to(dtype), place, self.out.bias, padding=1))


__all__ = [
    "ChannelAttention",
    "Encoder",
    "LinearDecoder",
    "Mixing",
    "ResidualDenseBlock",
    "moments",
]
