"""SMFNet's detail branch: gradient residual dense block, cross attention, invertible coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import (
    HEADS,
    Attention,
    ChannelNorm,
    Conv1,
    attention_map,
    mix,
    mixing_matrix,
    pointwise,
)
from .base import SLOPE

_CLAMP = 2.0  # of the affine blocks' exponents


class GradientDense(nn.Module):
    """Gradient residual dense block: 3×3 convolution, dense block, Sobel residual (Fig. 2 c).

    The gradient operator is fixed; the released code starts from Sobel kernels and trains them:
    ``trained_kernels`` does so.
    """

    sobel: Tensor

    def __init__(self, channels: int, trained_kernels: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.dense1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.dense2 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.merge = Conv1(3 * channels, channels)
        self.gradient = Conv1(channels, channels)
        sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        kernels = torch.stack([sobel, sobel.T])[:, None].repeat(channels, 1, 1, 1)
        if trained_kernels:
            self.sobel = nn.Parameter(kernels)
        else:
            self.register_buffer("sobel", kernels, False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), SLOPE)
        first = F.leaky_relu(self.dense1(x), SLOPE)
        second = F.leaky_relu(self.dense2(torch.cat([x, first], 1)), SLOPE)
        local = self.merge(torch.cat([x, first, second], 1))
        return F.leaky_relu(local + self.gradient(self.edges(x)), 0.1)

    def edges(self, x: Tensor) -> Tensor:
        """``|∂x| + |∂y|`` of every channel, unnormalised Sobel kernels, zeros beyond the edge."""
        both = F.conv2d(x, self.sobel.to(x.dtype), padding=1, groups=x.shape[1])
        return both.abs().unflatten(1, (-1, 2)).sum(2)


class CrossAttention(Attention):
    """Each half of the channels queries the other: ``F1 = A(Q2, K1) V1``, ``F2 = A(Q1, K2) V2``.

    Eqs 1–4; eqs 3 and 4 exchange V1 and V2 against eqs 1 and 2, Fig. 2 (c) and the released code,
    which agree. Layer norm and own projections for each half are the figure's; the released code
    has no norm (``norms=False``) and one set of projections for both.

    ``(B, C, H, W)`` in and out, the halves side by side: one attention with twice the heads.
    """

    def __init__(self, channels: int, heads: int = HEADS, norms: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            ChannelNorm(channels // 2) if norms else nn.Identity() for _ in range(2)
        )
        self.temperature = nn.Parameter(torch.ones(2, heads, 1, 1))
        # Both halves' projections in one: groups keep them apart.
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, groups=2)
        self.depthwise = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels)
        self.projections = nn.ModuleList(Conv1(channels // 2, channels // 2) for _ in range(2))

    def qk(self, x: Tensor) -> Tensor:
        (q1, k1), (q2, k2) = (part.chunk(2, 1) for part in self._enter(x, slice(0, x.shape[1])))
        return torch.cat([q2, q1, k1, k2], 1)

    def mixing(self, sums: Tensor) -> Tensor:
        with torch.autocast(sums.device.type, enabled=False):
            both = attention_map(sums, self.temperature.flatten(0, 1)).chunk(2, 1)
            first, second = (
                mixing_matrix(attention, projection.weight.flatten(1))
                for attention, projection in zip(both, self.projections, strict=True)
            )
            half = first.shape[1]
            return torch.cat([F.pad(first, (0, half)), F.pad(second, (half, 0))], 1)

    def attend(self, x: Tensor, mixing: Tensor) -> Tensor:
        v = torch.cat(self._enter(x, slice(x.shape[1], None)), 1)
        return mix(v, mixing, torch.cat([projection.bias for projection in self.projections]))

    def _enter(self, x: Tensor, rows: slice) -> list[Tensor]:
        """Some of each half's q, k and v, which lie in this order."""
        halves = zip(self.norms, x.chunk(2, 1), strict=True)
        tensors = (self.qkv.weight.flatten(1), self.qkv.bias)
        of_halves = zip(*(tensor.chunk(2) for tensor in tensors), strict=True)
        inner = torch.cat(
            [
                pointwise(norm(half), weight[rows], bias[rows])
                for (norm, half), (weight, bias) in zip(halves, of_halves, strict=True)
            ],
            1,
        )
        weight, bias = (
            torch.cat([part[rows] for part in tensor.chunk(2)])
            for tensor in (self.depthwise.weight, self.depthwise.bias)
        )
        return F.conv2d(inner, weight, bias, padding=1, groups=len(weight)).chunk(2, 1)


class Bottleneck(nn.Module):
    """Inverted residual bottleneck: 1×1 to twice the channels, 3×3 depthwise, 1×1; ReLU6 twice."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        wide = expansion * channels
        self.enter = Conv1(channels, wide, bias=False)
        self.depthwise = nn.Conv2d(
            wide, wide, 3, padding=1, padding_mode="reflect", groups=wide, bias=False
        )
        self.leave = Conv1(wide, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.relu6(self.depthwise(F.relu6(self.enter(x)))))


def _scaled(x: Tensor, exponent: Tensor, shift: Tensor) -> Tensor:
    """``x · exp(exponent) + shift`` in float32: half precision would spoil the inverse."""
    with torch.autocast(x.device.type, enabled=False):
        return (x.float() * exponent.float().exp() + shift.float()).to(x.dtype)


class Coupling(nn.Module):
    """One invertible step (eqs 5 and 6): ``z2 += φ(z1)``, ``z1 = z1 · exp(ρ(z2)) + η(z2)``.

    Halves ``(B, C/2, H, W)``; no information is lost, :meth:`inverse` gives it back.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.phi, self.rho, self.eta = (Bottleneck(channels // 2) for _ in range(3))

    def forward(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        z2 = z2 + self.phi(z1)
        return _scaled(z1, self.rho(z2), self.eta(z2)), z2

    def inverse(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        """What ``forward`` was given."""
        z1 = (z1 - self.eta(z2)) * torch.exp(-self.rho(z2))
        return z1, z2 - self.phi(z1)


class CAI(nn.Module):
    """Cross attention and invertible block (section 2.2.1, Fig. 2 c).

    ``attention=False`` leaves the invertible step alone, an ablation of Table 5. The released code
    (``released``) has no norms, and a 1×1 convolution before the invertible step.
    """

    reach = 3

    def __init__(self, channels: int, attention: bool = True, released: bool = False) -> None:
        super().__init__()
        self.attention = CrossAttention(channels, norms=not released) if attention else None
        self.shuffle = Conv1(channels, channels) if released else None
        self.coupling = Coupling(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.couple(x if self.attention is None else self.attention(x))

    def qk(self, x: Tensor) -> Tensor:
        """See :meth:`Attention.qk`."""
        return self.attention.qk(x)

    def attend(self, x: Tensor, mixing: Tensor) -> Tensor:
        """The block with the matrix of :meth:`Attention.mixing`; sees ``reach`` pixels far."""
        return self.couple(self.attention.attend(x, mixing))

    def couple(self, x: Tensor) -> Tensor:
        """The invertible step on both halves side by side; sees two pixels far."""
        if self.shuffle is not None:
            x = self.shuffle(x)
        return torch.cat(self.coupling(*x.chunk(2, 1)), 1)


class DetailBranch(nn.Sequential):
    """Gradient residual dense block, then CAI: features of one modality's own."""

    def __init__(self, channels: int, attention: bool = True, released: bool = False) -> None:
        super().__init__(GradientDense(channels, released), CAI(channels, attention, released))


class AffineInvertible(nn.Module):
    """Shuffling 1×1 convolution and an affine step in the direction of eqs 7 and 8.

    ``y2 = (x2 - η(x1)) · exp(-e(ρ(x1)))``, ``y1 = (x1 - φ(y2)) · exp(-e(ψ(y2)))`` with
    ``e(s) = 2 clamp (σ(s) - 1/2)``, so that factors lie within ``exp(± clamp)``.
    """

    def __init__(self, channels: int, clamp: float = _CLAMP) -> None:
        super().__init__()
        self.clamp = clamp
        self.shuffle = Conv1(channels, channels)
        self.rho, self.eta, self.phi, self.psi = (Bottleneck(channels // 2) for _ in range(4))

    def exponent(self, s: Tensor) -> Tensor:
        return 2 * self.clamp * (torch.sigmoid(s.float()) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.shuffle(x).chunk(2, 1)
        y2 = self._unscaled(x2, self.eta(x1), self.rho(x1))
        y1 = self._unscaled(x1, self.phi(y2), self.psi(y2))
        return torch.cat([y1, y2], 1)

    def _unscaled(self, x: Tensor, shift: Tensor, s: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return ((x.float() - shift.float()) * torch.exp(-self.exponent(s))).to(x.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        """What ``forward`` was given, if the shuffling matrix has an inverse."""
        y1, y2 = y.chunk(2, 1)
        x1 = y1 * torch.exp(self.exponent(self.psi(y2))) + self.phi(y2)
        x2 = y2 * torch.exp(self.exponent(self.rho(x1))) + self.eta(x1)
        shifted = torch.cat([x1, x2], 1) - self.shuffle.bias[:, None, None]
        return F.conv2d(shifted, torch.linalg.inv(self.shuffle.weight.flatten(1))[..., None, None])


class DetailFusion(nn.Sequential):
    """The detail fusion layer: gradient residual dense block, two affine invertible blocks."""

    def __init__(self, channels: int, depth: int = 2, released: bool = False) -> None:
        super().__init__(
            GradientDense(channels, released), *(AffineInvertible(channels) for _ in range(depth))
        )
