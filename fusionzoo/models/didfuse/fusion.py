"""DIDFuse's fusion layer: how features of the two sources become one (section III-D, eqs 6–17)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models.spread import check_gain, spread
from fusionzoo.strips import Inner, Over, at_once

RULES = ("sum", "average", "l1", "saliency")
CHANNEL_ATTENTION = ("none", "absolute", "signed")

_EPS = 1e-6
_LEVELS = 256  # eq. 9 sums over grey levels 0 … 255


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise InputError(f"gamma must lie in [0, 1], not {gamma}")


_CHECKS: dict[str, Callable[[Any], object]] = {
    "rule": lambda rule: check_choice("rule", rule, RULES),
    "channel_attention": lambda name: check_choice("channel_attention", name, CHANNEL_ATTENTION),
    "gamma": _check_gamma,
    "gain": check_gain,
}


class FusionLayer(nn.Module):
    """Merge infrared and visible features ``(B, C, H, W)`` into one map of that shape.

    The same layer serves base, detail and skip features. Without channel attention the result is
    the spatial rule's; with it, the mean of the spatial and the channel result (eq. 17).

    Args:
        rule: ``sum`` (the conference version), ``average`` (eq. 13), ``l1`` (eqs 7–8) or
            ``saliency`` (eqs 9–12).
        channel_attention: ``none``; ``signed`` pools the features as they are (eq. 14), whose
            weights can leave [0, 1] where the pooled values cancel; ``absolute`` pools magnitudes,
            the stable reading.
        gamma: the infrared weight of ``average``; the visible one is ``1 - gamma`` (eq. 13: 0.5).
        gain: factor on the fused features' deviation from their mean over the image, 1 in the
            paper. All weights but those of ``sum`` add up to one, so that two sources which
            disagree fuse to less contrast than either has. Means stay: features around 0 stand
            for middle grey, so that larger ones would make dark scenes darker still (``sum``,
            ``average`` times 2, does).
        guided_size: side of the guided filter's window in pixels (eq. 11 leaves it open).
        guided_eps: regularisation of that filter for guidance in [0, 1] (left open likewise).
    """

    def __init__(
        self,
        rule: str = "sum",
        channel_attention: str = "none",
        gamma: float = 0.5,
        gain: float = 1.0,
        guided_size: int = 11,
        guided_eps: float = 1e-2,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.channel_attention = channel_attention
        self.gamma = gamma
        self.gain = gain
        self.guided_size = guided_size
        self.guided_eps = guided_eps

    def __setattr__(self, name: str, value: object) -> None:
        """Check the paper's options also where they are set later: ``fusion.rule = "l1"``."""
        if check := _CHECKS.get(name):
            check(value)
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        return f"rule={self.rule!r}, channel_attention={self.channel_attention!r}, gain={self.gain}"

    @property
    def reach(self) -> int:
        """How many pixels far the weights look, but for what they need of the whole image."""
        if self.rule == "saliency":
            return 2 * (self.guided_size // 2)  # means of means
        return 1 if self.rule == "l1" else 0

    def forward(self, ir: Tensor, vi: Tensor, groups: int = 1, over: Over = at_once) -> Tensor:
        """Fuse features; ``groups`` counts feature kinds stacked along the channels.

        Base and detail may be handed over side by side (``groups=2``): what pools over channels
        (``l1``) keeps to its own group. ``over`` is for features of a part of an image.
        """
        return spread(self._merge(ir, vi, groups, over), self.gain, over=over)

    def _merge(self, ir: Tensor, vi: Tensor, groups: int, over: Over) -> Tensor:
        if self.rule == "sum" and self.channel_attention == "none":
            return ir + vi
        # Every rule is a scaled weighted mean, and so is the mean of two of them (eq. 17): one
        # pass over the features does for all.
        scale, spatial, channel = 1.0, self.gamma, None
        if self.rule == "sum":
            scale, spatial = 2.0, 0.5
        elif self.rule == "l1":
            spatial = l1_weight(ir, vi, groups)
        elif self.rule == "saliency":
            spatial = self._saliency_weight(ir, vi, over)
        if self.channel_attention != "none":
            spatial = spatial * (scale / (scale + 1))
            channel = self._channel_weight(ir, vi, over) / (scale + 1)
            scale = (scale + 1) / 2
        fused = torch.lerp(vi, ir, _weights(spatial, channel, ir, groups))
        return fused if scale == 1.0 else fused.mul_(scale)

    def _saliency_weight(self, ir: Tensor, vi: Tensor, over: Over) -> Tensor:
        """Infrared weight in [0, 1], one map a channel (eqs 9–11)."""
        (low,) = over(
            lambda inner: torch.minimum(inner(ir).amin((2, 3), True), inner(vi).amin((2, 3), True)),
            how="min",
        )
        (high,) = over(
            lambda inner: torch.maximum(inner(ir).amax((2, 3), True), inner(vi).amax((2, 3), True)),
            how="max",
        )
        scale = 1.0 / (high - low).clamp_min(_EPS)
        ir, vi = ((x - low) * scale for x in (ir, vi))
        salient_ir, salient_vi = (histogram_contrast(x, over) for x in (ir, vi))
        raw = (salient_ir + _EPS) / (salient_ir + salient_vi + 2 * _EPS)
        # Blurring with reflected borders needs an image larger than half the window.
        size = min(self.guided_size, 2 * min(ir.shape[-2:]) - 1)
        # The filter is a local linear model and may overshoot; weights stay weights.
        smooth_ir = guided_filter(ir, raw, size, self.guided_eps).clamp(_EPS, 1.0)
        smooth_vi = guided_filter(vi, 1.0 - raw, size, self.guided_eps).clamp(_EPS, 1.0)
        return smooth_ir / (smooth_ir + smooth_vi)

    def _channel_weight(self, ir: Tensor, vi: Tensor, over: Over) -> Tensor:
        """Infrared weight of each channel (eqs 14–15), ``(B, C, 1, 1)``."""

        def pooled(features: Tensor, inner: Inner) -> Tensor:
            features = inner(features)
            features = features.abs() if self.channel_attention == "absolute" else features
            return features.mean((2, 3), True)

        pooled_ir, pooled_vi = over(partial(pooled, ir), partial(pooled, vi))
        total = pooled_ir + pooled_vi
        # Signed pooling can cancel; only the division by exactly nothing is kept away.
        smallest = torch.where(total < 0, -_EPS, _EPS).to(total)  # ONNX has no copysign
        return pooled_ir / torch.where(total.abs() < _EPS, smallest, total)


def l1_weight(ir: Tensor, vi: Tensor, groups: int = 1) -> Tensor:
    """Infrared weight ``(B, groups, H, W)`` in [0, 1] from the features' L1 activity (eq. 7)."""
    activity = [_mean3(_group_norm1(x, groups)) for x in (ir, vi)]
    return (activity[0] + _EPS) / (activity[0] + activity[1] + 2 * _EPS)


def _group_norm1(x: Tensor, groups: int) -> Tensor:
    norms = [part.abs().sum(1, keepdim=True) for part in x.chunk(groups, 1)]
    return torch.cat(norms, 1).contiguous()


def _mean3(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def _weights(
    spatial: Tensor | float, channel: Tensor | None, features: Tensor, groups: int
) -> Tensor | float:
    """Weights for ``features``: a map a group (or a channel) plus a value a channel."""
    if not isinstance(spatial, Tensor) or spatial.shape[1] == features.shape[1] > groups:
        return spatial if channel is None else spatial + channel
    if channel is None:
        if groups == 1:
            return spatial  # broadcasts
        channel = spatial.new_zeros(1, features.shape[1], 1, 1)
    # Summed with the channels last, which is how features come at inference.
    maps = spatial.permute(0, 2, 3, 1).unsqueeze(-1)
    values = channel.view(channel.shape[0], 1, 1, groups, -1)
    return (maps + values).flatten(3).permute(0, 3, 1, 2)


def histogram_contrast(x: Tensor, over: Over = at_once) -> Tensor:
    """Mean distance of each value to all values of its channel, in grey levels (eq. 9).

    ``x``: ``(B, C, H, W)`` in [0, 1], quantised to 256 levels; the result has that shape and lies
    in [0, 255]. The histogram is relative, so that the image's size does not matter; ``over`` finds
    it where ``x`` is only a part of the image.
    """
    maps = x.shape[0] * x.shape[1]
    levels = (x * (_LEVELS - 1)).round_().long().clamp_(0, _LEVELS - 1)

    def shares(inner: Inner) -> Tensor:
        values = inner(levels).reshape(maps, -1)
        offsets = torch.arange(maps, device=x.device).unsqueeze(1) * _LEVELS
        counts = torch.bincount((values + offsets).flatten(), minlength=maps * _LEVELS)
        return counts.view(maps, _LEVELS).to(x.dtype) / values.shape[1]

    (histogram,) = over(shares)
    levels = levels.reshape(maps, -1)
    grey = torch.arange(_LEVELS, device=x.device, dtype=x.dtype)
    contrast = histogram @ (grey[:, None] - grey[None, :]).abs()
    return contrast.gather(1, levels).view(x.shape)


def guided_filter(guidance: Tensor, image: Tensor, size: int, eps: float) -> Tensor:
    """Guided filter (He et al.), every channel by itself; all tensors ``(B, C, H, W)``.

    kornia's ``guided_blur`` gives the same values; on the 64 channels that meet here its full
    window convolution takes many times as long as these separable means.
    """
    mean_guidance, mean_image = _box(guidance, size), _box(image, size)
    covariance = _box(guidance * image, size) - mean_guidance * mean_image
    slope = covariance / (_box(guidance * guidance, size) - mean_guidance.square() + eps)
    offset = mean_image - slope * mean_guidance
    return _box(slope, size) * guidance + _box(offset, size)


def _box(x: Tensor, size: int) -> Tensor:
    """Mean over a window with reflected borders: two depthwise convolutions."""
    channels, half = x.shape[1], size // 2
    kernel = x.new_full((channels, 1, 1, size), 1.0 / size)
    x = F.pad(x, (half, half, half, half), mode="reflect")
    x = F.conv2d(x, kernel, groups=channels)
    return F.conv2d(x, kernel.transpose(2, 3), groups=channels)


__all__ = [
    "CHANNEL_ATTENTION",
    "RULES",
    "FusionLayer",
    "guided_filter",
    "histogram_contrast",
    "l1_weight",
]
