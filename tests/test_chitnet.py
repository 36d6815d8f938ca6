"""CHITNet: attention and decoder against literal versions, losses, phases, resuming."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionzoo.models.chitnet.blocks import ChannelAttention, LinearDecoder, moments
from fusionzoo.models.chitnet.network import SIPHIA, CHITNetNetwork, MutualRepresentation


def features(batch=2, channels=6, height=12, width=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, batch, channels, height, width, generator=generator).add(0.3).unbind()


def literal_attention(layer, query, key, value):
    """Eqs 2 and 5 with rows of unit length in place of 1/√d, pixel by pixel."""
    q, k = (
        F.normalize(conv(x).flatten(2), dim=2)
        for conv, x in ((layer.query, query), (layer.key, key))
    )
    weights = (layer.log_scale.exp() * q @ k.mT).softmax(2)
    return layer.out((weights @ layer.value(value).flatten(2)).view_as(value))


# Network


def test_mutual_representation_is_eqs_2_and_3():
    layer = MutualRepresentation(6, 3.0)
    ir, vi = features()
    found = layer(ir, vi)
    expected = literal_attention(layer.to_ir, ir, ir, vi) + ir
    assert torch.allclose(found.ir, expected, atol=1e-5)
    expected = literal_attention(layer.to_vi, vi, vi, ir) + vi
    assert torch.allclose(found.vi, expected, atol=1e-5)


def test_siphia_is_eqs_5_to_10():
    layer = SIPHIA(6, 3.0)
    x, _ = features()
    found = layer(x)
    one, two = x[:, layer.order].chunk(2, 1)
    for group, expected in zip(found.groups, (one, two), strict=True):
        assert torch.equal(group, expected)
    enhanced = (
        literal_attention(layer.attend1, two, one, one) + one,
        literal_attention(layer.attend2, one, two, two) + two,
    )
    for which, edge in enumerate((layer.edge1, layer.edge2)):
        assert torch.allclose(found.enhanced[which], enhanced[which], atol=1e-5)
        assert torch.allclose(found.edges[which], edge(enhanced[which]).tanh(), atol=1e-5)


def test_decoder_is_two_convolutions_and_tanh():
    decoder = LinearDecoder(12, 5)
    ir, vi = features()
    for height, width in ((12, 17), (1, 1), (1, 5), (2, 3)):
        parts = ir[..., :height, :width], vi[..., :height, :width]
        expected = torch.tanh(decoder.out(decoder.mix(torch.cat(parts, 1))))
        assert torch.allclose(decoder(parts), expected, atol=1e-6)
