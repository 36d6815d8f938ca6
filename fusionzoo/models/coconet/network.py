"""CoCoNet's U-Net with multi-level attention on VGG-19 features (section 3.3, Figs 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models.spread import check_gain, spread
from fusionzoo.strips import Inner, Over, at_once

from .vgg import ReleasedVGGFeatures, VGGFeatures

WIDTHS = (32, 64, 128, 256)
LEVELS = ("low", "middle", "high")  # of VGG: 64, 128, 256 channels
ATTENTION_RULES = ("scaled", "paper", "released")
VARIANTS = ("paper", "released")
_SLOPE = 0.2
_TRAINED_ON = 64  # edge of the paper's training patches in pixels
_REACH = 2 / 3  # of `gain` about the mean, before tanh; further off, contrast is as trained
_RELEASED_REACH = 112  # 74 down through its VGG, 35 up again, as whole eights


class ConvBlock(nn.Module):
    """3×3 convolution, batch norm, LeakyReLU: the order of section 3.3."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), _SLOPE)


class ReleasedBlock(ConvBlock):
    """3×3 convolution, LeakyReLU, batch norm: the order of the released code.

    Args:
        in_channels: of its input.
        out_channels: of its output.
        norm: the released code's last block has none.
        own_statistics: norm by the statistics of each image at test time, too.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: bool = True, own_statistics: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels)
        if not norm:
            self.norm = nn.Identity()
        elif own_statistics:
            self.norm = OwnStatistics(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.leaky_relu(self.conv(x), _SLOPE))


class OwnStatistics(nn.BatchNorm2d):
    """Batch norm that takes the statistics of each image alone at test time.

    This is what batch norm gives for single images in a program that never calls ``eval()``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


class ChannelAttention(nn.Module):
    """Attention between channels (Fig. 4): ``γ · softmax(M_P M_Qᵀ) H + H``, by one of three rules.

    ``paper``: without γ. The C×C logits are sums over all positions: they grow with the image, and
    the map comes near one-hot.

    ``scaled``: γ is learned from 0, as in the released code. The logits are means over the
    positions, times the square root of ``positions``, the number of positions in a training patch
    at this level: there this is the usual scaled dot product, and larger images give the same
    attention as patches of them.

    ``released``: γ is learned from 0. The logits are each row's largest sum less the sums, so that
    a channel attends to those least like it. (What is common to a row does not change its softmax.)
    """

    def __init__(self, channels: int, positions: int, rule: str = "scaled") -> None:
        super().__init__()
        check_choice("attention_rule", rule, ATTENTION_RULES)
        self.p = nn.Conv2d(channels, channels, 3, padding=1)
        self.q = nn.Conv2d(channels, channels, 3, padding=1)
        self.h = nn.Conv2d(channels, channels, 3, padding=1)
        self.gamma = None if rule == "paper" else nn.Parameter(torch.zeros(1))
        self.scale = positions**0.5
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, self.map(self.p(x), self.q(x)))

    def map(self, p: Tensor, q: Tensor) -> Tensor:
        """The attention map ``(B, C, C)``; rows sum to 1."""
        return self.logits(p, q).softmax(-1)

    def logits(self, p: Tensor, q: Tensor) -> Tensor:
        """What :meth:`map` is the softmax of: a mean over the positions, or a sum (unscaled)."""
        logits = p.flatten(2) @ q.flatten(2).transpose(1, 2)
        if self.rule == "scaled":
            return logits.float() * (self.scale / p[0, 0].numel())
        return logits.float() if self.rule == "paper" else -logits.float()

    def attend(self, x: Tensor, attention: Tensor) -> Tensor:
        """Add to each channel what the map lets in of all."""
        h = self.h(x)
        attended = (attention.to(h.dtype) @ h.flatten(2)).view_as(h)
        return attended + h if self.gamma is None else self.gamma * attended + h


class MultiLevelAttention(nn.Module):
    """The MAM at one level (eqs 11 and 12): attend U-Net and VGG features alike, then merge them.

    ``attention=False`` merges them as they are; without VGG features there is one map to merge.
    """

    def __init__(
        self, channels: int, sources: int, positions: int, attention: bool, rule: str = "scaled"
    ) -> None:
        super().__init__()
        self.attention = ChannelAttention(channels, positions, rule) if attention else None
        self.merge = nn.Conv2d(sources * channels, channels, 3, padding=1)
        self.sources = sources

    def forward(
        self, features: Tensor, extra: Tensor | None, logits: Tensor | None = None
    ) -> Tensor:
        """Attend and merge.

        Args:
            features: ``(B, C, H, W)``.
            extra: ``(2B, C, H, W)``: infrared, then visible; or None.
            logits: those of the whole image, if these are maps of a part of one.
        """
        maps = self._together(features, extra)
        if self.attention is not None:
            maps = (
                self.attention(maps)
                if logits is None
                else self.attention.attend(maps, logits.softmax(-1))
            )
        return self.merge(torch.cat(maps.tensor_split(self.sources), 1))

    def logits(self, features: Tensor, extra: Tensor | None, inner: Inner) -> Tensor:
        """The attention's logits of a part of an image; arguments as above."""
        maps = self._together(features, extra)
        return self.attention.logits(inner(self.attention.p(maps)), inner(self.attention.q(maps)))

    def _together(self, features: Tensor, extra: Tensor | None) -> Tensor:
        # All sources in one batch: the attention's weights are shared.
        return features if extra is None else torch.cat([features, extra.to(features.dtype)])


class Up(nn.Module):
    """Twice the size, half the channels; merged with the skip."""

    def __init__(
        self, in_channels: int, out_channels: int, block: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.block = nn.Sequential(
            block(2 * out_channels, out_channels), block(out_channels, out_channels)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        return self.block(torch.cat([self.reduce(x), skip], 1))


class CoCoNetNetwork(nn.Module):
    """U-Net with multi-level attention; 6.8 M trained parameters and 0.6 M of frozen VGG-19.

    ``variant="released"`` has 6.8 M and 2.3 M.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in [-1, 1], H and W multiples of 8, and
    returns the fused image of that shape in (-1, 1), in train and eval mode alike.

    Args:
        attention: channel attention in the MAM (Table 2 turns it off).
        backbone: VGG features in the MAM (Table 2 turns them off). With neither, the skips are
            plain.
        vgg_levels: which VGG maps take part: some of ``low``, ``middle``, ``high`` (Table 3).
        gain: contrast of the fused image about its mean, before tanh; it falls to 1 with the
            distance from the mean. 1 is the paper's.
        attention_rule: see :class:`ChannelAttention`.
        variant: ``released`` is the network of the released code: LeakyReLU before batch norm, no
            norm in the last block, VGG-19 as :class:`~.vgg.ReleasedVGGFeatures` gives it.
        as_test_script: compute what the released test script does, which never calls ``eval()``
            and reads images in 0…255: batch norm takes each image's own statistics. ``released``
            only.
    """

    size_multiple = 8
    min_size = 16  # two positions a side at the lowest level
    value_range = (-1.0, 1.0)
    bytes_per_pixel = 2200  # measured
    reach: int | None = 88  # 53 down to the bottom, 35 up again

    def __init__(
        self,
        attention: bool = True,
        backbone: bool = True,
        vgg_levels: tuple[str, ...] = LEVELS,
        gain: float = 1.0,
        attention_rule: str = "scaled",
        variant: str = "paper",
        as_test_script: bool = False,
    ) -> None:
        super().__init__()
        check_gain(gain)
        check_choice("variant", variant, VARIANTS)
        check_choice("attention_rule", attention_rule, ATTENTION_RULES)
        released = variant == "released"
        if as_test_script and not released:
            raise InputError('as_test_script goes with variant "released" only')
        unknown = set(vgg_levels) - set(LEVELS)
        if unknown or not vgg_levels:
            listed = ", ".join(map(repr, LEVELS))
            raise InputError(f"vgg_levels must be some of {listed}, not {vgg_levels!r}")
        self.vgg = (ReleasedVGGFeatures() if released else VGGFeatures()) if backbone else None
        block: Callable[..., nn.Module] = ConvBlock
        if released:
            block = partial(ReleasedBlock, own_statistics=as_test_script)
        widths = WIDTHS
        self.down1 = nn.Sequential(block(2, widths[0]), block(widths[0], widths[0]))
        self.down2 = nn.Sequential(block(widths[0], widths[1]), block(widths[1], widths[1]))
        self.down3 = nn.Sequential(block(widths[1], widths[2]), block(widths[2], widths[2]))
        self.down4 = block(widths[2], widths[3])
        self.bottom = block(widths[3], widths[3])
        self.mams = nn.ModuleList()
        for number, level in enumerate(LEVELS, start=1):
            sources = 3 if backbone and level in vgg_levels else 1
            positions = (_TRAINED_ON >> number) ** 2
            # Nothing to attend to and nothing to merge is a plain skip.
            plain = not attention and sources == 1
            self.mams.append(
                nn.Identity()
                if plain
                else MultiLevelAttention(
                    widths[number], sources, positions, attention, attention_rule
                )
            )
        self.up3 = Up(widths[3], widths[2], block)
        self.up2 = Up(widths[2], widths[1], block)
        self.up1 = Up(widths[1], widths[0], block)
        if released:
            self.up1.block[-1] = ReleasedBlock(widths[0], widths[0], norm=False)
        self.last = nn.Conv2d(widths[0], 1, 1)
        self.attention_rule = attention_rule
        self.as_test_script = as_test_script
        if released and backbone:
            self.reach = _RELEASED_REACH
        if as_test_script:
            # A norm by the image's own statistics has to see all of the image, layer by layer.
            self.reach = None
        self.vgg_levels = tuple(vgg_levels)
        self.gain = gain

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse ``(B, 1, H, W)`` in [-1, 1] to an image of that shape and range."""
        return self.finish(self.logits(ir, vi), at_once)

    def finish(self, logits: Tensor, over: Over) -> Tensor:
        """The fused image, its contrast raised by ``gain``, of its logits or a part of these."""
        return torch.tanh(spread(logits, self.gain, _REACH, over))

    def fuse_part(self, ir: Tensor, vi: Tensor, over: Over) -> Tensor:
        """The :meth:`logits` of a part of the images."""
        return self.logits(ir, vi, over)

    def logits(self, ir: Tensor, vi: Tensor, over: Over | None = None) -> Tensor:
        """What tanh makes the fused image of, as it is trained: without ``gain``."""
        if self.as_test_script:
            ir, vi = (127.5 * image + 127.5 for image in (ir, vi))
        extras = self._extras(ir, vi)
        skip1 = self.down1(torch.cat([ir, vi], 1))
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        skip3 = self.down3(F.max_pool2d(skip2, 2))
        x = self.down4(F.max_pool2d(skip3, 2))
        whole = self._logits_over([skip2, skip3, x], extras, over)
        x = self.bottom(self._attend(2, x, extras, whole))
        x = self.up3(x, self._attend(1, skip3, extras, whole))
        x = self.up2(x, self._attend(0, skip2, extras, whole))
        return self.last(self.up1(x, skip1))

    def _logits_over(
        self, maps: list[Tensor], extras: list[Tensor | None], over: Over | None
    ) -> list[Tensor | None]:
        """The logits of all attentions, where ``maps`` show a part of an image; else None each."""
        logits: list[Tensor | None] = [None] * len(LEVELS)
        if over is None:
            return logits
        attending = [
            number
            for number, mam in enumerate(self.mams)
            if isinstance(mam, MultiLevelAttention) and mam.attention is not None
        ]
        measures = [
            partial(self.mams[number].logits, maps[number], extras[number]) for number in attending
        ]
        how: Literal["mean", "sum"] = "mean" if self.attention_rule == "scaled" else "sum"
        found_of = over(*measures, how=how) if measures else []
        for number, found in zip(attending, found_of, strict=True):
            logits[number] = found
        return logits

    def _extras(self, ir: Tensor, vi: Tensor) -> list[Tensor | None]:
        """VGG maps of both sources in one batch, None where a level does without."""
        if self.vgg is None:
            return [None] * len(LEVELS)
        maps = self.vgg.skips(torch.cat([ir, vi]))
        return [
            features if level in self.vgg_levels else None
            for level, features in zip(LEVELS, maps, strict=True)
        ]

    def _attend(
        self,
        number: int,
        features: Tensor,
        extras: list[Tensor | None],
        logits: list[Tensor | None],
    ) -> Tensor:
        mam = self.mams[number]
        if isinstance(mam, nn.Identity):
            return features
        extra, extras[number] = extras[number], None  # let go of it as soon as it is merged
        return mam(features, extra, logits[number])

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode: batch norm folded, channels last."""
        for module in list(self.modules()):
            # A norm behind the activation, or by the image's own statistics, cannot be folded.
            if type(module) is ConvBlock and not isinstance(module.norm, nn.Identity):
                module.conv = fuse_conv_bn_eval(module.conv.eval(), module.norm.eval())
                module.norm = nn.Identity()
        return self.to(memory_format=torch.channels_last)


def build(
    attention: bool,
    backbone: bool,
    vgg_levels: Sequence[str],
    gain: float,
    attention_rule: str,
    variant: str,
    as_test_script: bool,
) -> CoCoNetNetwork:
    """Make the network from the model's options, which :class:`CoCoNet` documents."""
    return CoCoNetNetwork(
        attention, backbone, tuple(vgg_levels), gain, attention_rule, variant, as_test_script
    )
