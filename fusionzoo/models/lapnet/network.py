"""LapNet's network: two Laplacian pyramids, and one small block that says what to take of which.

Equation numbers are those of ``docs/lapnet.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice

BASES = ("learned", "mean", "max")
MOST_LEVELS = 5

# Bands lie near 0; this brings them to the scale of the images.
_BAND_SCALE = 4.0
# Corrections fade where both bands together are weaker than 1 / this: flat places stay as they are.
_ACTIVITY_SCALE = 8.0
_SLOPE = 0.2  # of the leaky ReLU


class LapNetNetwork(nn.Module):
    """Fuse two images by Laplacian pyramids with learned gains.

    Both sources are split into ``levels`` bands and a base (eq. 1). From the coarsest band to the
    finest, a block of convolutions sees the bands of both sources and its own state one level
    coarser, and gives a gain to each source's band (eqs 2-4). The fused image is the sum of the
    weighted bands on a mixed base (eq. 5), kept between the least and the greatest value that the
    sources have around a pixel (eq. 6).

    Four pixels (2 x 2) of a band share one position of the block: its convolutions run at half of
    the band's resolution, and still give every pixel gains of its own.

    Every pixel of the result depends on the sources within a bounded distance only
    (:attr:`reach`); there is no norm and no pooling over the image.

    Args:
        channels: of the block's state.
        depth: residual convolutions of the block.
        levels: bands, 1 to 5.
        shared: one block for all levels; else one each.
        residual: largest correction per band that is taken from neither source, in units of the
            image's range; 0 leaves it out. It fades in flat places.
        base: what the coarsest images are fused by: ``learned`` weights, their ``mean`` or ``max``.
        bound: how far the result may leave the values that the sources have in the 3 x 3 pixels
            around, as a share of the span of these values; None sets no bound.

    Raises:
        InputError: an option out of range.
    """

    value_range = (0.0, 1.0)
    bytes_per_pixel = 220  # measured
    size_multiple = 2**MOST_LEVELS
    min_size = 2**MOST_LEVELS

    def __init__(
        self,
        channels: int,
        depth: int,
        levels: int,
        shared: bool,
        residual: float,
        base: str,
        bound: float | None,
    ) -> None:
        super().__init__()
        check_choice("base", base, BASES)
        if not 1 <= levels <= MOST_LEVELS:
            raise InputError(f"levels={levels}; use 1 to {MOST_LEVELS}")
        if channels < 1 or depth < 0:
            raise InputError(
                f"channels={channels}, depth={depth}; use at least 1 channel, and depth 0 or more"
            )
        if not 0 <= residual <= 1:
            raise InputError(f"residual={residual}; use a share of the value range, 0 to 1")
        if bound is not None and not bound >= 0:
            raise InputError(f"bound={bound}; use a share of at least 0, or None for no bound")
        self.levels, self.residual, self.base, self.bound = levels, residual, base, bound
        count = 1 if shared else levels
        self.blocks = nn.ModuleList(
            # The coarsest level has no state to carry on.
            Block(channels, depth, residual > 0, carries=level < levels - 1)
            for level in range(count)
        )
        if base == "learned":
            self.mix = _starts_at_zero(nn.Conv2d(channels + 3, 1, 3, padding=1))

    @property
    def reach(self) -> int:
        """How many pixels around a pixel of the result it depends on, at most.

        The base's mixing convolution reaches one position of the coarsest state, each block
        ``depth + 1`` of its level's, which are twice as wide as the level's pixels; a halving or
        doubling adds less than two.
        """
        depth = len(self.blocks[0].think)
        total = 2 ** (self.levels + 1)
        for level in range(self.levels):
            total += 2 ** (level + 1) * (depth + 3)
        return total + 2

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse ``(B, 1, H, W)`` in [0, 1]; H and W are multiples of 32."""
        both = torch.cat([ir, vi], 1)
        pyramid = [both]
        for _ in range(self.levels):
            pyramid.append(halve(pyramid[-1]))
        hidden: Tensor | None = None
        fused: Tensor | None = None
        for level in reversed(range(self.levels)):
            low = pyramid[level + 1]
            # The four pixels that share a position, as channels: first infrared's, then visible's.
            details = gathered(pyramid[level] - double(low))
            strengths = details.abs()
            hidden, said = self._block(level)(details, strengths, low, hidden)
            if fused is None:
                fused = self._mixed_base(low, hidden)
            taken = self._taken(details, strengths, said)
            fused = double(fused) + scattered(taken)
        return fused if self.bound is None else bounded(fused, ir, vi, self.bound)

    def _block(self, level: int) -> Block:
        return self.blocks[level if len(self.blocks) > 1 else 0]

    def _mixed_base(self, low: Tensor, hidden: Tensor) -> Tensor:
        if self.base == "mean":
            return low.mean(1, keepdim=True)
        if self.base == "max":
            return low.amax(1, keepdim=True)
        ir, vi = low.split(1, 1)
        share = torch.sigmoid(self.mix(torch.cat([hidden, low, ir - vi], 1))).to(vi.dtype)
        return torch.lerp(vi, ir, share)

    def _taken(self, details: Tensor, strengths: Tensor, said: Tensor) -> Tensor:
        """The fused band: both bands by their gains, and the correction (eqs 3 and 4)."""
        said = said.contiguous()  # as the bands lie in memory
        of_ir, of_vi = details.split(4, 1)
        gain_ir, gain_vi = said[:, :8].sigmoid().split(4, 1)
        taken = 2 * (gain_ir * of_ir + gain_vi * of_vi)
        if not self.residual:
            return taken
        activity = ((strengths[:, :4] + strengths[:, 4:]) * _ACTIVITY_SCALE).clamp(max=1)
        return taken + self.residual * said[:, 8:].tanh() * activity

    def for_inference(self) -> nn.Module:
        """Return this network with its convolutions' weights laid out for speed."""
        return self.to(memory_format=torch.channels_last)


class Block(nn.Module):
    """What one level says: its state, and the logits of 2 x 2 pixels' gains and correction."""

    def __init__(self, channels: int, depth: int, corrects: bool, carries: bool) -> None:
        super().__init__()
        self.see = nn.Conv2d(18, channels, 3, padding=1)
        if carries:
            self.carry = nn.Conv2d(channels, channels, 1, bias=False)
        self.think = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)
        )
        # Nothing said means gains of 1: the untrained network adds the bands of both sources.
        self.say = _starts_at_zero(nn.Conv2d(channels, 12 if corrects else 8, 1))

    def forward(
        self, details: Tensor, strengths: Tensor, low: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Look at one level.

        Args:
            details: the bands of both sources, ``(B, 8, H, W)`` for a level of 2 H x 2 W pixels.
            strengths: their absolute values.
            low: the next coarser images of both, ``(B, 2, H, W)``.
            hidden: the coarser level's state ``(B, C, H / 2, W / 2)``; None at the coarsest.
        """
        state = self.see(torch.cat([details * _BAND_SCALE, strengths * _BAND_SCALE, low], 1))
        if hidden is not None:
            state = state + double(self.carry(hidden))
        state = F.leaky_relu(state, _SLOPE)
        for layer in self.think:
            state = state + F.leaky_relu(layer(state), _SLOPE)
        return state, self.say(state)


def exporting() -> bool:
    """Whether ``torch.export`` traces this; torch versions that cannot tell do not export it."""
    return bool(getattr(torch.compiler, "is_exporting", bool)())


def gathered(images: Tensor) -> Tensor:
    """The four pixels of each 2 x 2 as channels: ``F.pixel_unshuffle(images, 2)``."""
    if not exporting():
        return F.pixel_unshuffle(images, 2)
    # The same as a convolution with ones and zeros, as in `halve`.
    channels = images.shape[1]
    return F.conv2d(images, _places(images).repeat(channels, 1, 1, 1), stride=2, groups=channels)


def scattered(pixels: Tensor) -> Tensor:
    """Four channels ``(B, 4, H, W)`` as the pixels of one: ``F.pixel_shuffle(pixels, 2)``."""
    if not exporting():
        return F.pixel_shuffle(pixels, 2)
    return F.conv_transpose2d(pixels, _places(pixels), stride=2)


def _places(like: Tensor) -> Tensor:
    return torch.eye(4, dtype=like.dtype, device=like.device).view(4, 1, 2, 2)


def halve(images: Tensor) -> Tensor:
    """Blur by (1 3 3 1) / 8 along both sides and keep every second pixel; borders are repeated.

    The filter is that of :func:`double` turned round, so that neither shifts the image.
    """
    images = F.pad(images, (1, 1, 1, 1), mode="replicate")
    if exporting():
        # One layer in place of many slices: other runtimes run it faster, and tracing is quicker.
        line = images.new_tensor([1.0, 3.0, 3.0, 1.0])
        kernel = (line[:, None] * line / 64).expand(images.shape[1], 1, 4, 4)
        return F.conv2d(images, kernel, stride=2, groups=images.shape[1])
    even, odd = images[..., 0::2, :], images[..., 1::2, :]
    images = even[..., :-1, :] + odd[..., 1:, :] + 3 * (odd[..., :-1, :] + even[..., 1:, :])
    even, odd = images[..., 0::2], images[..., 1::2]
    return (even[..., :-1] + odd[..., 1:] + 3 * (odd[..., :-1] + even[..., 1:])) / 64


def bounded(fused: Tensor, ir: Tensor, vi: Tensor, bound: float) -> Tensor:
    """Keep to what the sources have in the 3 x 3 pixels around, give or take ``bound`` of the span.

    Sliding extremes of three along each side: a fraction of the time that pooling takes.
    """
    highest, lowest = torch.maximum(ir, vi), torch.minimum(ir, vi)
    if exporting():  # as in `halve`
        highest, lowest = F.max_pool2d(highest, 3, 1, 1), -F.max_pool2d(-lowest, 3, 1, 1)
    else:
        for side in (2, 3):
            highest = _of_three(highest, side, torch.maximum)
            lowest = _of_three(lowest, side, torch.minimum)
    if bound:
        margin = bound * (highest - lowest)
        highest, lowest = highest + margin, lowest - margin
    return torch.minimum(torch.maximum(fused, lowest), highest)


def _of_three(images: Tensor, side: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The extreme of each pixel and its two neighbours along one side."""
    length = images.shape[side]
    between = extreme(images.narrow(side, 0, length - 1), images.narrow(side, 1, length - 1))
    inner = extreme(between.narrow(side, 0, length - 2), between.narrow(side, 1, length - 2))
    ends = between.narrow(side, 0, 1), between.narrow(side, length - 2, 1)
    return torch.cat([ends[0], inner, ends[1]], side)


def double(images: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


def _starts_at_zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


#: Makes the network from the model's options, which :class:`LapNet` documents.
build = LapNetNetwork
