"""CHITNet: mutual information transfer, two SIPHIAs, fusion result reconstruction (Fig. 2)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models.spread import check_gain, spread
from fusionzoo.strips import Edges, Inner, Over, at_once, in_windows, pixels_within, windows

from .blocks import ChannelAttention, Encoder, LinearDecoder, Mixing, moments

# Edge encoders, decoder and the sum over its taps see a pixel further each.
_REACH_OF_THE_REST = 3

#: Ablations of Table I by name: whether there is MIT's transfer, and whether there are SIPHIAs.
VARIANTS = {
    "full": (True, True),
    "no_mit": (False, True),
    "no_siphia": (True, False),
    "end_to_end": (True, True),
}


class Transferred(NamedTuple):
    """What MIT gives: ``ir`` is F_vis↔ir, ``vi`` is F_ir↔vis, each ``(B, C, H, W)``."""

    ir: Tensor
    vi: Tensor


class Harmonious(NamedTuple):
    """What one SIPHIA gives; of two maps in a pair the first stands for infrared.

    ``groups``: the halves of the shuffled channels, ``(B, C/2, H, W)``.
    ``enhanced``: F_en of eq. 10, those halves after cross attention, ``(B, C/2, H, W)``.
    ``edges``: F_ed of eq. 9, ``(B, C, H, W)`` in (-1, 1).
    """

    groups: tuple[Tensor, Tensor]
    enhanced: tuple[Tensor, Tensor]
    edges: tuple[Tensor, Tensor]


class MutualRepresentation(nn.Module):
    """MRL (eqs 2–3): the channels of one source mixed as those of the other are alike.

    Each direction has its own Q, K, V and output convolution, as Algorithm 1 lists them; the
    released code shares one set.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.to_ir = ChannelAttention(channels, scale)
        self.to_vi = ChannelAttention(channels, scale)

    def forward(self, ir: Tensor, vi: Tensor) -> Transferred:
        return self.mix(ir, vi, self.mixing(moments(ir), moments(vi)))

    def mixing(self, of_ir: Tensor, of_vi: Tensor) -> tuple[Mixing, Mixing]:
        """What both directions do to each pixel, from the :func:`moments` of both sources."""
        return self.to_ir.mixing(of_ir, of_ir, of_ir), self.to_vi.mixing(of_vi, of_vi, of_vi)

    def mix(self, ir: Tensor, vi: Tensor, mixing: tuple[Mixing, Mixing]) -> Transferred:
        """Apply what :meth:`mixing` gives, to whole images or to parts of them."""
        to_ir, to_vi = mixing
        return Transferred(self.to_ir.mix(vi, to_ir) + ir, self.to_vi.mix(ir, to_vi) + vi)


class SIPHIA(nn.Module):
    """Structure information preserved harmonious information acquisition (section III-C).

    Shuffles the channels once and for all, lets the two halves attend to each other (eqs 5–6)
    and encodes the edges of each (eq. 7). The decoders of eqs 4, 8 and 15, which only the losses
    need, are in :class:`fusionzoo.models.chitnet.heads.SIPHIAHeads`.

    The edge encoders end in tanh (eq. 7); the released code has a LeakyReLU there.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        half = channels // 2
        # Drawn once and stored with the weights: which channels go together is part of them.
        self.register_buffer("order", torch.randperm(channels))
        self.attend1 = ChannelAttention(half, scale)
        self.attend2 = ChannelAttention(half, scale)
        self.edge1 = nn.Conv2d(half, channels, 3, padding=1)
        self.edge2 = nn.Conv2d(half, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Harmonious:
        """Take F_vis↔ir or F_ir↔vis, ``(B, C, H, W)``."""
        return self.acquire(features, self.mixing(moments(features)))

    def acquire(self, features: Tensor, mixing: tuple[Mixing, Mixing]) -> Harmonious:
        """All but what needs whole images, which is in :meth:`mixing`."""
        groups = one, two = self.shuffle(features)
        to_one, to_two = mixing
        enhanced = self.attend1.mix(one, to_one) + one, self.attend2.mix(two, to_two) + two
        edges = torch.tanh(self.edge1(enhanced[0])), torch.tanh(self.edge2(enhanced[1]))
        return Harmonious(groups, enhanced, edges)

    def shuffle(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The halves of the shuffled channels, ``(B, C/2, H, W)`` each."""
        # A convolution with ones and zeros: several times as fast as indexing, forth and back.
        places = F.one_hot(self.order, len(self.order)).to(features.dtype)
        one, two = (F.conv2d(features, half[..., None, None]) for half in places.chunk(2))
        return one, two

    def mixing(self, joint: Tensor) -> tuple[Mixing, Mixing]:
        """What both attentions do to each pixel, from the :func:`moments` of the features."""
        one, two = (F.pad(half, (0, 1), value=len(self.order)) for half in self.order.chunk(2))
        first, second = joint[:, one][..., one], joint[:, two][..., two]
        cross = joint[:, one][..., two]
        return (
            self.attend1.mixing(second, cross.mT, first),
            self.attend2.mixing(first, cross, second),
        )


class CHITNetNetwork(nn.Module):
    """MIT, two SIPHIAs and FRR of CHITNet; 0.90 M parameters at 64 channels.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in [0, 1] and returns the fused image of
    that shape in [0, 1], in train and eval mode alike: the decoder's tanh is compared with
    images as it is, and what little lies below zero is cut. Any size works unpadded.

    Args:
        channels: of all features (64 in the released code); even.
        attention_scale: initial sharpness of every attention, see :class:`ChannelAttention`.
        transfer: image inversion and MRL; without them (ablation "w/o MIT") the encoders'
            features go on as they are.
        siphia: whether there are SIPHIAs (ablation "w/o SIPHIA").
        gain: contrast of the fused image about its mean; 1 is the paper's.

    Raises:
        InputError: channels that cannot be halved, or a scale or gain that is not positive.
    """

    size_multiple = 1
    min_size = 1
    value_range = (0.0, 1.0)
    bytes_per_pixel = 700  # measured

    def __init__(
        self,
        channels: int = 64,
        attention_scale: float = 10.0,
        transfer: bool = True,
        siphia: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_gain(gain)
        self.gain = gain
        if channels < 2 or channels % 2:
            raise InputError(f"channels must be an even number of at least 2, not {channels}")
        if not attention_scale > 0:
            raise InputError(f"attention_scale must be above 0, not {attention_scale}")
        self.transfers = transfer
        sources = 2 if transfer else 1
        self.encoder_ir = Encoder(sources, channels)
        self.encoder_vi = Encoder(sources, channels)
        self.mutual = MutualRepresentation(channels, attention_scale) if transfer else None
        self.siphia_ir = SIPHIA(channels, attention_scale) if siphia else None
        self.siphia_vi = SIPHIA(channels, attention_scale) if siphia else None
        self.decoder = LinearDecoder((8 if siphia else 2) * channels, channels)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse ``(B, 1, H, W)`` in [0, 1] to an image of that shape and range."""
        transferred = self.transfer(ir, vi)
        return self.finish(self.reconstruct(transferred, self.acquire(transferred)))

    def finish(self, fused: Tensor, over: Over = at_once) -> Tensor:
        """What :meth:`reconstruct` gives as an image in [0, 1], its contrast raised by ``gain``."""
        return spread(fused, self.gain, over=over).clamp(0, 1)

    def transfer(self, ir: Tensor, vi: Tensor) -> Transferred:
        """MIT (section III-B) of images ``(B, 1, H, W)``."""
        ir, vi = self._encode(self.encoder_ir, ir), self._encode(self.encoder_vi, vi)
        return self.mutual(ir, vi) if self.mutual is not None else Transferred(ir, vi)

    def _encode(self, encoder: Encoder, image: Tensor) -> Tensor:
        return encoder(self.inverted(image))

    def inverted(self, image: Tensor) -> Tensor:
        """Image inversion: ``(B, 2, H, W)``, the image and its negative, with channels last."""
        if self.transfers:
            image = torch.cat([image, 1 - image], 1)
        return image.contiguous(memory_format=torch.channels_last)

    def acquire(self, transferred: Transferred) -> tuple[Harmonious, ...]:
        """Infrared and visible SIPHIA; nothing in the ablation without them."""
        if self.siphia_ir is None:
            return ()
        return self.siphia_ir(transferred.ir), self.siphia_vi(transferred.vi)

    def reconstruct(
        self, transferred: Transferred, acquired: tuple[Harmonious, ...] = ()
    ) -> Tensor:
        """FRR (eq. 11): the fused image before it is cut to [0, 1], ``(B, 1, H, W)`` in (-1, 1)."""
        features = [*transferred]
        for harmonious in acquired:
            features += [*harmonious.edges, *harmonious.enhanced]
        return self.decoder(features)

    @property
    def reach(self) -> int:
        """How many pixels far this sees, but for what it needs of the whole image."""
        return self.encoder_ir.reach + _REACH_OF_THE_REST

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode, which needs little memory for large images."""
        return _InWindows(self)

    def transfer_parts(self) -> list[nn.Module]:
        """What phaseM trains: encoders, MRL and decoder (Algorithm 1, line 6)."""
        parts = (self.encoder_ir, self.encoder_vi, self.mutual, self.decoder)
        return [part for part in parts if part is not None]


class _InWindows(nn.Module):
    """CHITNet for inference: passes over windows, between which attentions need moments only.

    Beside what is inside a window, the features of both sources exist.
    """

    def __init__(self, network: CHITNetNetwork) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        # One by one: each image has matrices of its own, and memory counts.
        pairs = zip(ir.split(1), vi.split(1), strict=True)
        return torch.cat([self.finish(self.fuse_part(*pair, at_once), at_once) for pair in pairs])

    def finish(self, fused: Tensor, over: Over) -> Tensor:
        """See :meth:`CHITNetNetwork.finish`."""
        return self.network.finish(fused, over)

    def fuse_part(self, ir: Tensor, vi: Tensor, over: Over) -> Tensor:
        """What :meth:`finish` makes the fused image of, for a pair or a part of a larger one."""
        network = self.network
        encoders = (network.encoder_ir, network.encoder_vi)
        # The dense blocks' features are four times as many as those that they give.
        pixels = pixels_within(ir, 4 * network.encoder_ir.head.out_channels)
        features = [
            in_windows(encoder, network.inverted(image), halo=encoder.reach, pixels=pixels)
            for encoder, image in zip(encoders, (ir, vi), strict=True)
        ]
        if network.mutual is not None:
            mixing = network.mutual.mixing(*_moments(features, pixels, over))
            for window in windows(*ir.shape[2:], 0, pixels):
                parts = (x[window.place] for x in features)
                for whole, part in zip(features, network.mutual.mix(*parts, mixing), strict=True):
                    whole[window.place] = part
        siphias = [
            siphia for siphia in (network.siphia_ir, network.siphia_vi) if siphia is not None
        ]
        found = _moments(features, pixels, over) if siphias else []
        mixings = [siphia.mixing(moments) for siphia, moments in zip(siphias, found, strict=True)]

        def reconstruct(ir: Tensor, vi: Tensor, _: Edges) -> Tensor:
            acquired = tuple(
                siphia.acquire(x, mixing)
                for siphia, x, mixing in zip(siphias, (ir, vi), mixings, strict=False)
            )
            return network.reconstruct(Transferred(ir, vi), acquired)

        return in_windows(reconstruct, *features, halo=_REACH_OF_THE_REST, pixels=pixels)


def _moments(features: list[Tensor], pixels: int, over: Over) -> list[Tensor]:
    """:func:`moments` of each, summed over windows in float64 where there is that."""

    def measure(of: Tensor, inner: Inner) -> Tensor:
        of = inner(of)
        height, width = of.shape[2:]
        exact = torch.float32 if of.device.type == "mps" else torch.float64
        total = 0.0
        for window in windows(height, width, 0, pixels):
            part = of[window.place]
            share = part.shape[2] * part.shape[3] / (height * width)
            total = total + share * moments(part).to(exact)
        return total

    return [found.float() for found in over(*(partial(measure, x) for x in features))]


def build(variant: str, channels: int, attention_scale: float, gain: float) -> CHITNetNetwork:
    """Make the network from the model's options, which :class:`CHITNet` documents."""
    check_choice("variant", variant, VARIANTS)
    transfer, siphia = VARIANTS[variant]
    return CHITNetNetwork(channels, attention_scale, transfer, siphia, gain)
