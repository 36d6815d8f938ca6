"""What CHITNet is built from: dense encoder, attention over channels, linear decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualDenseBlock(nn.Module):
    """Three densely connected 3×3 convolutions with ReLU, merged by a 1×1 one (section III-B).

    No convolution has a bias. ``(B, C, H, W)`` in and out; every layer grows by C channels.
    """

    def __init__(self, channels: int, layers: int = 3):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d((1 + layer) * channels, channels, 3, padding=1, bias=False)
            for layer in range(layers)
        )
        self.merge = nn.Conv2d((1 + layers) * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for conv in self.convs:
            features = torch.cat([features, conv(features).relu_()], 1)
        return self.merge(features) + x


class Encoder(nn.Module):
    """E_ir or E_vis of eq. 1: 3×3 convolution, LeakyReLU 0.2, one residual dense block.

    Args:
        in_channels: 2 for an image and its inversion (1 in the ablation without MIT).
        channels: of the features it gives.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.head = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.body = ResidualDenseBlock(channels)

    def forward(self, image: Tensor) -> Tensor:
        return self.body(F.leaky_relu(self.head(image), 0.2))


class ChannelAttention(nn.Module):
    """Conv1×1(softmax(scale · Q̂ K̂ᵀ) V): attention of channels to channels (eqs 2–3, 5–6).

    Q, K and V are 1×1 convolutions of the three inputs, ``(B, C, H, W)`` each. The map is C×C:
    its entries contract over all pixels, so that with the paper's √d (d left open) they would
    grow with the image, and what 120×120 crops have trained would meet another softmax on whole
    images. Rows of Q and K are therefore scaled to unit length over the pixels first: an entry is
    the cosine between two channels' maps, which neither the number of pixels nor the images'
    brightness changes. How sharp the softmax is, the learned ``scale`` says.

    Args:
        channels: C.
        scale: what the cosines are multiplied with, at the start of training (Q and K cannot
            learn it, their lengths being taken out).
    """

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        value = self.value(value)
        weights = self.weights(self.query(query), self.key(key)).to(value.dtype)
        # Pixels as rows, which keeps features with the channels last as they are.
        mixed = value.flatten(2).transpose(1, 2) @ weights.transpose(1, 2)
        return self.out(mixed.transpose(1, 2).unflatten(2, value.shape[-2:]))

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The attention ``(B, C, C)`` of projected features; each row sums to one."""
        # Sums over all pixels: in float32 whatever the features are in.
        with torch.autocast(query.device.type, enabled=False):
            query, key = (F.normalize(x.flatten(2).float(), dim=2) for x in (query, key))
            return torch.softmax(self.log_scale.float().exp() * (query @ key.mT), 2)


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

    def __init__(self, in_channels: int, channels: int):
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


__all__ = ["ChannelAttention", "Encoder", "LinearDecoder", "ResidualDenseBlock"]
