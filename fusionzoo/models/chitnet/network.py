"""CHITNet: mutual information transfer, two SIPHIAs, fusion result reconstruction (Fig. 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models.spread import check_gain, spread

from .blocks import ChannelAttention, Encoder, LinearDecoder, moments
from .folded import FoldedCHITNet

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

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.to_ir = ChannelAttention(channels, scale)
        self.to_vi = ChannelAttention(channels, scale)

    def forward(self, ir: Tensor, vi: Tensor) -> Transferred:
        of_ir, of_vi = moments(ir), moments(vi)
        return Transferred(
            self.to_ir(vi, of_ir, of_ir, of_ir) + ir, self.to_vi(ir, of_vi, of_vi, of_vi) + vi
        )


class SIPHIA(nn.Module):
    """Structure information preserved harmonious information acquisition (section III-C).

    Shuffles the channels once and for all, lets the two halves attend to each other (eqs 5–6)
    and encodes the edges of each (eq. 7). The decoders of eqs 4, 8 and 15, which only the losses
    need, are in :class:`fusionzoo.models.chitnet.heads.SIPHIAHeads`.

    The edge encoders end in tanh (eq. 7); the released code has a LeakyReLU there.
    """

    def __init__(self, channels: int, scale: float):
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
        groups = one, two = self.shuffle(features)
        first, cross, second = self.moments(features)
        enhanced = (
            self.attend1(one, second, cross.mT, first) + one,
            self.attend2(two, first, cross, second) + two,
        )
        edges = torch.tanh(self.edge1(enhanced[0])), torch.tanh(self.edge2(enhanced[1]))
        return Harmonious(groups, enhanced, edges)

    def shuffle(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The halves of the shuffled channels, ``(B, C/2, H, W)`` each."""
        # A convolution with ones and zeros: several times as fast as indexing, forth and back.
        places = F.one_hot(self.order, len(self.order)).to(features.dtype)
        one, two = (F.conv2d(features, half[..., None, None]) for half in places.chunk(2))
        return one, two

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Second moments of the first half, of the first with the second, and of the second."""
        one, two = (F.pad(half, (0, 1), value=len(self.order)) for half in self.order.chunk(2))
        joint = moments(features)
        return joint[:, one][..., one], joint[:, one][..., two], joint[:, two][..., two]


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
    ):
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
        transferred = self.transfer(ir, vi)
        return self.finish(self.reconstruct(transferred, self.acquire(transferred)))

    def finish(self, fused: Tensor) -> Tensor:
        """What :meth:`reconstruct` gives as an image in [0, 1], its contrast raised by ``gain``."""
        return spread(fused, self.gain).clamp(0, 1)

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

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode, see :mod:`fusionzoo.models.chitnet.folded`."""
        return FoldedCHITNet(self)

    def transfer_parts(self) -> list[nn.Module]:
        """What phaseM trains: encoders, MRL and decoder (Algorithm 1, line 6)."""
        parts = (self.encoder_ir, self.encoder_vi, self.mutual, self.decoder)
        return [part for part in parts if part is not None]


def build(variant: str, channels: int, attention_scale: float, gain: float) -> CHITNetNetwork:
    """Make the network from the model's options, which :class:`CHITNet` documents."""
    check_choice("variant", variant, VARIANTS)
    transfer, siphia = VARIANTS[variant]
    return CHITNetNetwork(channels, attention_scale, transfer, siphia, gain)
