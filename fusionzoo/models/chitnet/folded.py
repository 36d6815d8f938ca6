"""CHITNet for inference: the same picture with fewer multiplications and little memory.

Between the encoders and the edge features everything is linear but for the attentions, whose
matrices follow from second moments. So one pass over strips of rows encodes both sources and sums
up the moments of all their channels together; then a few small matrices say what MRL and SIPHIAs
do to a pixel; a second pass over strips applies these and decodes. Only the encoders' features
ever exist as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ChannelAttention, Encoder

if TYPE_CHECKING:
    from .network import SIPHIA, CHITNetNetwork

# A strip's features should stay in the processor's cache; other devices want large pieces.
_STRIP_PIXELS = {"cpu": 1 << 16}
_STRIP_PIXELS_ELSEWHERE = 1 << 21


class Recipe(NamedTuple):
    """What the second pass does to one pair of images, as matrices for ``[F_ir, F_vis, 1]``.

    ``enhanced``: gives each of the four halves that edges are made of, ``(C/2, 2C + 1)``.
    ``taps``: gives the decoder's nine maps without the edges' part, ``(9, 2C + 1, 3, 3)``.
    """

    enhanced: tuple[Tensor, ...]
    taps: Tensor


class FoldedCHITNet(nn.Module):
    """An equivalent of :class:`CHITNetNetwork` in eval mode; takes and gives what that does."""

    def __init__(self, network: CHITNetNetwork):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        taps, bias = network.decoder.taps()
        self.register_buffer("taps", taps)
        self.register_buffer("bias", bias)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        # One by one: each image has matrices of its own.
        pairs = zip(ir.split(1), vi.split(1), strict=True)
        return torch.cat([self._fuse(*pair) for pair in pairs])

    def _fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        features, moments = self._encode(ir, vi)
        recipe = self._recipe(moments)
        fused = torch.empty_like(ir)
        height, width = ir.shape[-2:]
        for start, stop in strips(height, width, ir.device):
            # Edge encoder, decoder and the sum over its taps look one row further each.
            above, below = min(start, 3), min(height - stop, 3)
            strip = self._decode(features[start - above : stop + below], recipe)
            fused[:, :, start:stop] = strip[:, :, above : above + stop - start]
        return self.network.finish(fused)

    # -- first pass --------------------------------------------------------------------------

    def _encode(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(H, W, 2C)`` of both sources and their second moments ``(2C + 1, 2C + 1)``."""
        network = self.network
        height, width = ir.shape[-2:]
        channels = network.encoder_ir.head.out_channels
        features = ir.new_empty(height, width, 2 * channels)
        # Sums over a whole image; Apple's devices have no float64.
        exact = torch.float32 if ir.device.type == "mps" else torch.float64
        second = torch.zeros(2 * channels, 2 * channels, dtype=exact, device=ir.device)
        total = second.new_zeros(2 * channels)
        sources = (
            (network.encoder_ir, network.inverted(ir)),
            (network.encoder_vi, network.inverted(vi)),
        )
        for start, stop in strips(height, width, ir.device):
            strip = features[start:stop]
            for index, (encoder, image) in enumerate(sources):
                part = strip[..., index * channels : (index + 1) * channels]
                part.copy_(_encode_rows(encoder, image, start, stop))
            pixels = strip.flatten(0, 1).float()
            second += pixels.T @ pixels
            total += pixels.sum(0)
        second, mean = second / (height * width), total / (height * width)
        last = torch.cat([mean, mean.new_ones(1)])
        return features, torch.cat([torch.cat([second, mean[:, None]], 1), last[None]])

    # -- matrices ----------------------------------------------------------------------------

    def _recipe(self, moments: Tensor) -> Recipe:
        network = self.network
        constant = len(moments) - 1
        channels = constant // 2
        one, two = (
            torch.tensor([*range(start, start + channels), constant], device=moments.device)
            for start in (0, channels)
        )
        # Rows: the channels of F_vis↔ir and F_ir↔vis, made of the encoders' channels and 1.
        identity = torch.eye(constant + 1, dtype=moments.dtype, device=moments.device)
        transferred = [identity[one[:-1]], identity[two[:-1]]]
        if network.mutual is not None:
            directions = ((network.mutual.to_ir, one, two), (network.mutual.to_vi, two, one))
            transferred = [
                transferred[index]
                + _mixing(attention, *[moments[own][:, own]] * 3) @ identity[other]
                for index, (attention, own, other) in enumerate(directions)
            ]
        kernels = self.taps.to(moments.dtype).split(channels, 1)
        # What the decoder reads, in matrices like these, and the kernel that reads it.
        read = list(zip(transferred, kernels, strict=False))
        enhanced = []
        if network.siphia_ir is not None:
            siphias = (network.siphia_ir, kernels[4]), (network.siphia_vi, kernels[7])
            for (siphia, kernel), source in zip(siphias, transferred, strict=True):
                halves = _enhanced(siphia, source, moments)
                read.append((torch.cat(halves), kernel))
                enhanced += halves
        taps = sum(torch.einsum("tcyx,ck->tkyx", kernel, matrix) for matrix, kernel in read)
        dtype = self.taps.dtype
        return Recipe(tuple(half.to(dtype) for half in enhanced), taps.to(dtype))

    # -- second pass -------------------------------------------------------------------------

    def _decode(self, features: Tensor, recipe: Recipe) -> Tensor:
        """Fused rows ``(1, 1, H, W)`` from features ``(H, W, 2C)``, as if these were all."""
        height, width, _ = features.shape
        pixels = features.flatten(0, 1)
        image = features.permute(2, 0, 1).unsqueeze(0)
        maps = F.conv2d(image, recipe.taps[:, :-1], self.bias, padding=1)
        # The constant's part: less at the borders, since padding is with zeros.
        maps += F.conv2d(image.new_ones(1, 1, height, width), recipe.taps[:, -1:], padding=1)
        for conv, matrix, kernel in zip(
            self._edge_encoders(), recipe.enhanced, self._edge_taps(), strict=True
        ):
            half = torch.addmm(matrix[:, -1], pixels, matrix[:, :-1].T)
            edges = conv(half.view(1, height, width, -1).permute(0, 3, 1, 2)).tanh_()
            maps += F.conv2d(edges, kernel, padding=1)
        return self.network.decoder.gather(maps).to(features.dtype)

    def _edge_encoders(self) -> list[nn.Conv2d]:
        network = self.network
        siphias = [s for s in (network.siphia_ir, network.siphia_vi) if s is not None]
        return [conv for siphia in siphias for conv in (siphia.edge1, siphia.edge2)]

    def _edge_taps(self) -> list[Tensor]:
        kernels = self.taps.split(self.network.encoder_ir.head.out_channels, 1)
        return [kernels[index] for index in (2, 3, 5, 6)] if len(kernels) > 2 else []


def strips(height: int, width: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """Yield the first and last-plus-one row of each strip of an image."""
    pixels = _STRIP_PIXELS.get(device.type, _STRIP_PIXELS_ELSEWHERE)
    rows = max(8, pixels // width)
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def _encode_rows(encoder: Encoder, image: Tensor, start: int, stop: int) -> Tensor:
    """Rows ``start`` to ``stop`` of an image's features, ``(stop - start, W, C)``.

    Each convolution looks one row further; rows beyond what is still needed are dropped after it,
    and beyond the image there are the zeros that the convolutions pad with.
    """
    height = image.shape[2]
    convs = [encoder.head, *encoder.body.convs]
    reach = len(convs)

    def halo(left: int) -> tuple[int, int]:
        return min(start, left), min(height - stop, left)

    above, below = halo(reach)
    features = image[:, :, start - above : stop + below]
    for index, conv in enumerate(convs):
        made = conv(features)
        made = F.leaky_relu_(made, 0.2) if index == 0 else made.relu_()
        before, (above, below) = halo(reach - index), halo(reach - index - 1)
        kept = slice(before[0] - above, made.shape[2] - (before[1] - below))
        made = made[:, :, kept]
        features = made if index == 0 else torch.cat([features[:, :, kept], made], 1)
    rows = features.permute(0, 2, 3, 1)[0]
    channels = encoder.head.out_channels
    merged = rows @ encoder.body.merge.weight.flatten(1).T
    return merged.add_(rows[..., :channels])


def _mixing(attention: ChannelAttention, query: Tensor, cross: Tensor, key: Tensor) -> Tensor:
    """What an attention does to its value's channels and 1, as one matrix ``(C, C + 1)``."""
    matrix, shift = attention.mixing(*(m.float().unsqueeze(0) for m in (query, cross, key)))
    return torch.cat([matrix[0], shift[0].T], 1).to(query.dtype)


def _enhanced(siphia: SIPHIA, source: Tensor, moments: Tensor) -> list[Tensor]:
    """F_en of one SIPHIA: for each half a matrix for what ``source``'s columns stand for."""
    constant = torch.zeros_like(source[:1])
    constant[:, -1] = 1
    groups = [torch.cat([source[half], constant]) for half in siphia.order.chunk(2)]
    one, two = groups
    first, cross, second = (a @ moments @ b.T for a, b in ((one, one), (one, two), (two, two)))
    mixing = (
        _mixing(siphia.attend1, second, cross.T, first),
        _mixing(siphia.attend2, first, cross, second),
    )
    return [group[:-1] + matrix @ group for group, matrix in zip(groups, mixing, strict=True)]
