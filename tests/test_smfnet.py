"""SMFNet: attention, invertible steps, graph, streamed inference, ablations, roles."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import fusionzoo
from fusionzoo.models.smfnet import inference
from fusionzoo.models.smfnet.attention import MDTA, ChannelNorm, DenseAttention, LeFF
from fusionzoo.models.smfnet.detail import (
    AffineInvertible,
    Coupling,
    CrossAttention,
    GradientDense,
)
from fusionzoo.models.smfnet.graph import ConvGRU, CrossEdges, Reasoning

ABLATIONS = (
    {},
    {"residual": False},
    {"cross_attention": False},
    {"graph": False},
    {"swap_fusion": True},
)


def small(**options):
    torch.manual_seed(0)
    return fusionzoo.create_model("smfnet", channels=32, **options)


def stirred(module):
    """Every parameter off its starting value, batch norm off its neutral statistics."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.2 if parameter.ndim < 4 else 0.05)
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.copy_(torch.randn(part.num_features, generator=generator) / 5)
                part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
    return module


def literal_attention(q, k, v, temperature, projection):
    """Heads one by one, with normalised q and k, in float64."""
    heads = []
    parts = (x.double().flatten(2).chunk(len(temperature), 1) for x in (q, k, v))
    for one_q, one_k, one_v, t in zip(*parts, temperature.double(), strict=True):
        cosines = F.normalize(one_q, dim=-1) @ F.normalize(one_k, dim=-1).mT
        heads.append((cosines * t).softmax(-1) @ one_v)
    attended = torch.cat(heads, 1).view(v.shape)
    bias = None if projection.bias is None else projection.bias.double()
    return F.conv2d(attended, projection.weight.double(), bias)


# Transformer blocks


@pytest.mark.parametrize("kind", [MDTA, DenseAttention])
def test_attention_is_the_literal_one(kind):
    torch.manual_seed(0)
    attention = stirred(kind(16))
    x = torch.randn(2, 16, 9, 11)
    second = attention.depthwise if kind is MDTA else attention.dense
    q, k, v = second(attention.qkv(x)).chunk(3, 1)
    expected = literal_attention(q, k, v, attention.temperature, attention.projection)
    assert torch.allclose(attention(x).double(), expected, atol=1e-5)
    assert expected.std() > 1e-3


def test_two_convolutions_of_dense_attention_are_one():
    torch.manual_seed(0)
    attention = DenseAttention(16)
    x = torch.randn(1, 16, 7, 8)
    expected = attention.dense(attention.qkv(x))
    composed = F.conv2d(x, attention.composed_weight(), padding=1)
    assert torch.allclose(composed, expected, atol=1e-5)
    composed.sum().backward()
    assert attention.qkv.weight.grad.any()
    assert attention.dense.weight.grad.any()


def test_attention_does_not_grow_with_the_image():
    """A repeated image has the channels' cosines of the image itself."""
    torch.manual_seed(0)
    attention = stirred(MDTA(16))
    attention.depthwise.weight.data[..., 1, 1] = 1
    attention.depthwise.weight.data[..., [0, 2], :] = 0
    attention.depthwise.weight.data[..., [0, 2]] = 0  # nothing looks across the seams
    x = torch.randn(1, 16, 8, 8)
    repeated = attention(x.repeat(1, 1, 3, 2))[..., :8, :8]
    assert torch.allclose(repeated, attention(x), atol=1e-5)


def test_norm_and_feed_forward():
    torch.manual_seed(0)
    norm, x = stirred(ChannelNorm(16)), torch.randn(2, 16, 5, 6)
    mean, deviation = x.mean(1, True), (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
    assert torch.allclose(norm(x), (x - mean) / deviation * scale + shift, atol=1e-5)
    leff = LeFF(16)
    torch.nn.init.zeros_(leff.leave.weight)
    torch.nn.init.zeros_(leff.leave.bias)
    assert torch.equal(leff(x), x), "residual around it"


# Detail


def test_coupling_inverts_to_1e_5():
    torch.manual_seed(0)
    coupling = Coupling(64)
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter.mul_(2)
    halves = torch.randn(2, 3, 32, 17, 20)
    changed = coupling(*halves)
    for before, after, back in zip(halves, changed, coupling.inverse(*changed), strict=True):
        assert (after - before).abs().max() > 0.1, "or else nothing was inverted"
        assert (back - before).abs().max() < 1e-5


def test_coupling_is_that_of_eqs_5_and_6():
    torch.manual_seed(0)
    coupling = Coupling(16)
    z1, z2 = torch.randn(2, 1, 8, 6, 7)
    y1, y2 = coupling(z1, z2)
    assert torch.allclose(y2, z2 + coupling.phi(z1))
    assert torch.allclose(y1, z1 * coupling.rho(y2).exp() + coupling.eta(y2), atol=1e-6)


def test_affine_block_inverts_and_its_factors_are_bounded():
    torch.manual_seed(0)
    block = AffineInvertible(16).double()
    x = torch.randn(2, 16, 9, 8, dtype=torch.float64)
    y = block(x)
    assert (y - x).abs().max() > 0.1
    assert torch.allclose(block.inverse(y), x, atol=1e-5)
    assert block.exponent(torch.tensor([-1e3, 0.0, 1e3])).tolist() == [-2, 0, 2]


def test_each_half_queries_the_other():
    torch.manual_seed(0)
    cross = stirred(CrossAttention(16))
    x = torch.randn(2, 16, 6, 7)
    halves = [norm(half) for norm, half in zip(cross.norms, x.chunk(2, 1), strict=True)]
    qkv = []
    for number, half in enumerate(halves):
        rows = slice(24 * number, 24 * number + 24)
        own = F.conv2d(half, cross.qkv.weight[rows], cross.qkv.bias[rows])
        weight, bias = cross.depthwise.weight[rows], cross.depthwise.bias[rows]
        qkv.append(F.conv2d(own, weight, bias, padding=1, groups=24).chunk(3, 1))
    for number, found in enumerate(cross(x).chunk(2, 1)):
        (_, k, v), q = qkv[number], qkv[1 - number][0]
        expected = literal_attention(q, k, v, cross.temperature[number], cross.projections[number])
        assert torch.allclose(found.double(), expected, atol=1e-5)


def test_gradient_of_the_dense_block_is_sobels():
    block = GradientDense(2)
    ramp = torch.arange(8.0).expand(1, 2, 6, 8)
    inner = block.edges(ramp)[..., 1:-1, 1:-1]
    assert torch.equal(inner, torch.full_like(inner, 8))
    assert torch.equal(block.edges(ramp.mT)[..., 1:-1, 1:-1], inner.mT)
    assert "sobel" not in block.state_dict()
    assert not [name for name, _ in block.named_parameters() if "sobel" in name]


# Graph


def test_gru_keeps_or_takes_by_its_gate():
    gru = ConvGRU(4)
    message, node = torch.randn(2, 1, 4, 5, 5)
    torch.nn.init.constant_(gru.gates.bias, -50.0)
    assert torch.allclose(gru(message, node), node)
    torch.nn.init.constant_(gru.gates.bias, 50.0)
    candidate = torch.tanh(gru.candidate(torch.cat([message, node], 1)))
    assert torch.allclose(gru(message, node), candidate, atol=1e-5)


def test_messages_are_gated_by_differences():
    """Eq. 15 written out: σ of a 1×1 convolution of v_l - v_k, times v_k, summed over k."""
    torch.manual_seed(0)
    reasoning = Reasoning(4, 3)
    nodes = list(torch.randn(3, 2, 4, 5, 6))
    messages = reasoning.messages(nodes)
    for to in range(3):
        expected = 0
        for place, source in enumerate(k for k in range(3) if k != to):
            weight = reasoning.edge.weight[place : place + 1]
            expected = expected + nodes[source] * torch.sigmoid(
                F.conv2d(nodes[to] - nodes[source], weight)
            )
        assert torch.allclose(messages[to], expected, atol=1e-6)
    assert torch.equal(torch.stack(reasoning(nodes)), torch.stack(nodes)), "the scale is 0 at first"
    torch.nn.init.constant_(reasoning.gamma, 0.5)
    expected = nodes[1] + 0.5 * reasoning.update(messages[1], nodes[1])
    assert torch.allclose(reasoning(nodes)[1], expected, atol=1e-6)


def test_cross_edges_add_the_other_modality():
    torch.manual_seed(0)
    cross = CrossEdges(4)
    ir, vi = torch.randn(2, 1, 4, 5, 6)
    to_ir, to_vi = cross(ir, vi)
    assert torch.allclose(to_ir, ir + vi * torch.sigmoid(cross.to_ir(vi - ir)), atol=1e-6)
    assert torch.allclose(to_vi, vi + ir * torch.sigmoid(cross.to_vi(ir - vi)), atol=1e-6)


# The whole


def test_size_of_the_network():
    network = fusionzoo.create_model("smfnet").network
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6, 2) == 2.65


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_ablations_train_every_parameter_they_have(options):
    model = small(**options)
    stirred(model.network)
    ir, vi = torch.rand(2, 2, 1, 20, 24)
    model.network.fuse(ir, vi).image.mean().backward()
    without = [
        name
        for name, parameter in model.network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not without
    assert (model.network.graph is None) == (options.get("graph") is False)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_streamed_network_is_the_plain_one(options, monkeypatch):
    """With windows as small as they get, so that every kind of border occurs."""
    network = stirred(small(**options).network).eval()
    fast = copy.deepcopy(network).for_inference()
    monkeypatch.setattr(inference, "_BUDGET", 1)
    for height, width in [(75, 9), (3, 40), (2, 2)]:
        ir, vi = torch.rand(2, 2, 1, height, width)
        with torch.no_grad():
            expected = network(ir, vi)
            assert torch.allclose(fast(ir, vi), expected, atol=1e-5)
        assert expected.std() > 1e-3


def test_swapped_fusion_layers():
    model, swapped = small(), small(swap_fusion=True)
    assert model.network.fusion_layer("base") is model.network.base_fusion
    assert swapped.network.fusion_layer("base") is swapped.network.detail_fusion
    assert swapped.network.fusion_layer("detail") is swapped.network.base_fusion
    ir, vi = torch.rand(2, 1, 1, 16, 16)
    with torch.no_grad():
        assert not torch.equal(model.network.eval()(ir, vi), swapped.network.eval()(ir, vi))


def test_stages_share_the_features():
    network = small().network.eval()
    ir, vi = torch.rand(2, 2, 1, 16, 18)
    with torch.no_grad():
        rebuilt, fused = network.reconstruct(ir, vi), network.fuse(ir, vi)
        assert torch.equal(network(ir, vi), fused.image)
        for one, other in zip(rebuilt.features, fused.features, strict=True):
            assert one.shape == (4, 32, 16, 18)
            assert torch.equal(one, other)
        total = sum(part[2:] for part in rebuilt.features)
        assert torch.allclose(network.decoder(total), rebuilt.vi, atol=1e-6)


def test_network_runs_in_mixed_precision():
    network = small().network
    ir, vi = torch.rand(2, 2, 1, 16, 16)
    exact = network.fuse(ir, vi).image
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.fuse(ir, vi).image
    assert (exact - rough.float()).abs().mean() < 0.02


def test_medical_model_keeps_the_functional_images_colour():
    model = small(task="medical").eval()
    assert model.modalities == ("functional", "MRI")
    assert small().modalities == ("infrared", "visible")
    rng = np.random.default_rng(0)
    pet = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    mri = rng.integers(0, 256, (32, 40), dtype=np.uint8)
    assert model.fuse(pet, mri).shape == pet.shape
    assert model.fuse(pet, mri, color=False).shape == mri.shape


@pytest.mark.parametrize(
    "options",
    [
        {"task": "x"},
        {"graph_term": "x"},
        {"channels": 16},
        {"channels": 40},
        {"delta": 1.0},
        {"semantic_bins": 1},
    ],
)
def test_wrong_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        fusionzoo.create_model("smfnet", **options)
