"""DIDFuse's auto-encoder: base and detail decomposition, fusion, decoder (Table I, Fig. 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionzoo.errors import InputError, check_choice
from fusionzoo.strips import Over, at_once

from .fusion import FusionLayer

BRANCHES = ("base", "detail")
#: Ablations of section IV-D by name: which branches exist, and whether eq. 1 is trained.
VARIANTS = {
    "full": (BRANCHES, True),
    "detail_only": (("detail",), True),  # eq. 26
    "base_only": (("base",), True),  # eq. 27
    "no_decomposition": (BRANCHES, False),  # eq. 28
    "plain": (("base",), False),  # eq. 29: a plain auto-encoder, gradients of both sources
}


class Features(NamedTuple):
    """What the encoder extracts from images ``(B, 1, H, W)``; every map is ``(B, C, H, W)``.

    ``shallow`` (conv1) and ``middle`` (conv2) are the skip features; ``decomposed`` holds base
    and detail side by side along the channels, base first (64 channels each, values in (-1, 1)).
    """

    shallow: Tensor
    middle: Tensor
    decomposed: Tensor


class Reconstruction(NamedTuple):
    """What the training losses need (eqs 1–5); images ``(B, 1, H, W)`` in [0, 1].

    ``base`` / ``detail`` are ``None`` where an ablation removed the branch.
    """

    ir: Tensor
    vi: Tensor
    base_ir: Tensor | None
    base_vi: Tensor | None
    detail_ir: Tensor | None
    detail_vi: Tensor | None


class ConvBlock(nn.Module):
    """3×3 convolution, batch norm, activation; reflection padding where Table I asks for it."""

    def __init__(
        self, in_channels: int, out_channels: int, act: nn.Module, padding: str = "zeros"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode=padding)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Encoder(nn.Module):
    """conv1 and conv2, then one head a branch: conv3 gives the base, conv4 the detail features."""

    def __init__(self, channels: int, branches: tuple[str, ...]) -> None:
        super().__init__()
        self.conv1 = ConvBlock(1, channels, nn.PReLU(), padding="reflect")
        self.conv2 = ConvBlock(channels, channels, nn.PReLU())
        if "base" in branches:
            self.base = ConvBlock(channels, channels, nn.Tanh())
        if "detail" in branches:
            self.detail = ConvBlock(channels, channels, nn.Tanh())
        self.branches = branches

    def forward(self, image: Tensor) -> Features:
        shallow = self.conv1(image)
        middle = self.conv2(shallow)
        heads = [getattr(self, branch)(middle) for branch in self.branches]
        return Features(shallow, middle, torch.cat(heads, 1) if len(heads) > 1 else heads[0])


class Decoder(nn.Module):
    """conv5 to conv7; the skip features enter conv6 and conv7 unless ``skips`` is off."""

    def __init__(self, channels: int, branches: int, skips: bool) -> None:
        super().__init__()
        wide = 2 * channels if skips else channels
        self.conv5 = ConvBlock(branches * channels, channels, nn.PReLU())
        self.conv6 = ConvBlock(wide, channels, nn.PReLU())
        self.conv7 = ConvBlock(wide, 1, nn.Sigmoid(), padding="reflect")
        self.skips = skips

    def forward(self, features: Features) -> Tensor:
        x = self.conv5(features.decomposed)
        x = self.conv6(torch.cat([x, features.middle], 1) if self.skips else x)
        return self.conv7(torch.cat([x, features.shallow], 1) if self.skips else x)


class DIDFuseNetwork(nn.Module):
    """Encoder, fusion layer and decoder of DIDFuse; 0.26 M parameters at 64 channels.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in [0, 1] and returns the fused image of the
    same shape in (0, 1), in train and eval mode alike. Any size from 2×2 up works unpadded.

    Args:
        channels: feature channels of every layer (Table I: 64).
        branches: which heads exist; the ablations of eqs 26 and 27 keep one of them.
        skips: whether conv1 and conv2 features reach the decoder (section III-B).
        fusion: fusion layer; eqs 6–17, see :class:`FusionLayer`.
    """

    size_multiple = 1
    min_size = 2  # reflection padding needs a neighbour
    value_range = (0.0, 1.0)
    bytes_per_pixel = 2700  # measured

    def __init__(
        self,
        channels: int = 64,
        branches: tuple[str, ...] = BRANCHES,
        skips: bool = True,
        fusion: FusionLayer | None = None,
    ) -> None:
        super().__init__()
        if not branches or any(branch not in BRANCHES for branch in branches):
            raise InputError(f"branches must be one or both of {BRANCHES}, not {branches!r}")
        self.branches = tuple(branches)
        self.skips = skips
        self.encoder = Encoder(channels, self.branches)
        self.decoder = Decoder(channels, len(self.branches), skips)
        self.fusion = fusion or FusionLayer()

    @property
    def reach(self) -> int:
        """How many pixels far this sees: encoder, fusion layer, decoder."""
        return 3 + self.fusion.reach + 3

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse ``(B, 1, H, W)`` in [0, 1] to an image of that shape and range."""
        # One batch for both sources: the encoder is shared, and larger batches run faster.
        features = self.encoder(torch.cat([ir, vi]))
        return self.decoder(Features(*(self._fuse(part) for part in features)))

    def _fuse(self, features: Tensor) -> Tensor:
        return self.fusion(*features.tensor_split(2), groups=features.shape[1] // self._channels)

    @property
    def _channels(self) -> int:
        return self.encoder.conv1.conv.out_channels

    def reconstruct(self, ir: Tensor, vi: Tensor) -> Reconstruction:
        """Decompose and rebuild both sources, for training; shapes as in ``forward``."""
        features = self.encoder(torch.cat([ir, vi]))
        rebuilt_ir, rebuilt_vi = self.decoder(features).chunk(2)
        heads = features.decomposed.chunk(len(self.branches), 1)
        pairs = {name: head.chunk(2) for name, head in zip(self.branches, heads, strict=True)}
        base, detail = (pairs.get(name, (None, None)) for name in BRANCHES)
        return Reconstruction(rebuilt_ir, rebuilt_vi, *base, *detail)

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode: batch norm folded, heads merged, channels last."""
        return _FoldedDIDFuse(self)


class _FoldedDIDFuse(nn.Module):
    """DIDFuse with batch norm folded into the convolutions and both heads as one convolution.

    The merged head writes base and detail side by side, which is what conv5 reads, so nothing is
    concatenated there; features of the two sources are fused as soon as they exist, so that at
    most two layers of unfused features are alive at a time.
    """

    def __init__(self, network: DIDFuseNetwork) -> None:
        super().__init__()
        encoder, decoder = network.encoder, network.decoder
        self.conv1, self.act1 = _fold(encoder.conv1), encoder.conv1.act
        self.conv2, self.act2 = _fold(encoder.conv2), encoder.conv2.act
        self.heads = _merge([_fold(getattr(encoder, branch)) for branch in network.branches])
        self.conv5, self.act5 = _fold(decoder.conv5), decoder.conv5.act
        self.conv6, self.act6 = _fold(decoder.conv6), decoder.conv6.act
        self.conv7 = _fold(decoder.conv7)
        self.skips = network.skips
        self.groups = len(network.branches)
        self.fusion = network.fusion
        self.to(memory_format=torch.channels_last)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        return self.fuse_part(ir, vi, at_once)

    def fuse_part(self, ir: Tensor, vi: Tensor, over: Over) -> Tensor:
        """Fuse images, or parts of larger ones."""
        sources = torch.cat([ir, vi]).contiguous(memory_format=torch.channels_last)
        features = self.act1(self.conv1(sources))
        shallow = self._fuse(features, over) if self.skips else None
        features = self.act2(self.conv2(features))
        middle = self._fuse(features, over) if self.skips else None
        features = self.heads(features).tanh_()
        x = self.act5(self.conv5(self._fuse(features, over, self.groups)))
        del features
        x = self.act6(self.conv6(x if middle is None else torch.cat([x, middle], 1)))
        del middle
        return self.conv7(x if shallow is None else torch.cat([x, shallow], 1)).sigmoid_()

    def _fuse(self, features: Tensor, over: Over, groups: int = 1) -> Tensor:
        return self.fusion(*features.tensor_split(2), groups=groups, over=over)


def _fold(block: ConvBlock) -> nn.Conv2d:
    return fuse_conv_bn_eval(block.conv.eval(), block.norm.eval())


def _merge(convolutions: list[nn.Conv2d]) -> nn.Conv2d:
    """One convolution whose output is the given convolutions' outputs, concatenated."""
    first = convolutions[0]
    merged = nn.Conv2d(
        first.in_channels, sum(c.out_channels for c in convolutions), 3, padding=1
    ).to(first.weight)
    with torch.no_grad():
        merged.weight.copy_(torch.cat([c.weight for c in convolutions]))
        merged.bias.copy_(torch.cat([c.bias for c in convolutions]))
    return merged


def build(
    rule: str,
    channel_attention: str,
    gamma: float,
    gain: float,
    variant: str,
    skips: bool,
    channels: int,
) -> DIDFuseNetwork:
    """Make the network from the model's options, which :class:`DIDFuse` documents."""
    check_choice("variant", variant, VARIANTS)
    branches, _ = VARIANTS[variant]
    fusion = FusionLayer(rule, channel_attention, gamma, gain)
    return DIDFuseNetwork(channels, branches, skips, fusion)
