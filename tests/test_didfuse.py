"""DIDFuse: fusion rules against literal versions, losses, ablations, folding."""

import math

import pytest
import torch
from kornia.filters import guided_blur

import fusionzoo
from fusionzoo.models.didfuse.fusion import (
    CHANNEL_ATTENTION,
    RULES,
    FusionLayer,
    guided_filter,
    histogram_contrast,
    l1_weight,
)
from fusionzoo.models.didfuse.losses import decomposition_gap, gradient_loss, intensity_loss
from fusionzoo.models.didfuse.module import VARIANTS


def features(channels=4, height=12, width=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 2, channels, height, width, generator=generator).mul(2).sub(1).unbind()


# Fusion layer


def test_sum_and_average():
    ir, vi = features()
    assert torch.equal(FusionLayer("sum")(ir, vi), ir + vi)
    assert torch.allclose(FusionLayer("average", gamma=0.3)(ir, vi), 0.3 * ir + 0.7 * vi)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rule", "nope"), ("channel_attention", "l2"), ("gamma", 2), ("gain", 0), ("gain", math.inf)],
)
def test_wrong_options_are_refused_when_made_and_when_set(name, value):
    with pytest.raises(ValueError, match=str(value)):
        FusionLayer(**{name: value})
    layer = FusionLayer()
    with pytest.raises(ValueError, match=str(value)):
        setattr(layer, name, value)
    assert getattr(layer, name) == getattr(FusionLayer(), name)


@pytest.mark.parametrize("rule", RULES)
def test_gain_raises_contrast_and_keeps_means(rule):
    ir, vi = features()
    plain, raised = FusionLayer(rule)(ir, vi), FusionLayer(rule, gain=1.5)(ir, vi)
    assert torch.allclose(raised.mean((2, 3)), plain.mean((2, 3)), atol=1e-5)
    assert torch.allclose(raised.std((2, 3)), 1.5 * plain.std((2, 3)), atol=1e-5)


def test_l1_weight_is_the_boxed_share_of_activity():
    """Eq. 7 written out at inner pixels."""
    ir, vi = features()
    weight = l1_weight(ir, vi)
    for y, x in [(1, 1), (5, 8), (10, 15)]:
        window = (slice(None), slice(None), slice(y - 1, y + 2), slice(x - 1, x + 2))
        activity = [source[window].abs().sum((1, 2, 3)) for source in (ir, vi)]
        expected = activity[0] / (activity[0] + activity[1])
        assert torch.allclose(weight[:, :, y, x], expected[:, None], atol=1e-5)


def test_l1_keeps_to_its_group():
    """Base and detail stacked along the channels fuse as they would apart."""
    ir, vi = features(channels=6)
    layer = FusionLayer("l1")
    apart = [layer(i, v) for i, v in zip(ir.chunk(2, 1), vi.chunk(2, 1), strict=True)]
    assert torch.allclose(layer(ir, vi, groups=2), torch.cat(apart, 1))
    assert not torch.allclose(layer(ir, vi, groups=1), torch.cat(apart, 1), atol=1e-3)


def test_histogram_contrast_is_the_mean_distance_in_grey_levels():
    """Eq. 9 written out over all pairs of pixels."""
    x, _ = features(channels=2, height=5, width=6)
    x = x.abs()
    levels = (x * 255).round()
    flat = levels.flatten(2)
    literal = (flat[..., :, None] - flat[..., None, :]).abs().mean(-1).view(x.shape)
    assert torch.allclose(histogram_contrast(x), literal, atol=1e-3)


def test_guided_filter_is_kornias():
    guidance, image = (x.abs() for x in features(channels=1, height=20, width=23))
    assert torch.allclose(
        guided_filter(guidance, image, 5, 1e-2), guided_blur(guidance, image, 5, 1e-2), atol=1e-5
    )


def test_saliency_follows_the_salient_source():
    """A hot spot in a flat scene: there, the infrared feature must dominate."""
    ir = torch.zeros(1, 1, 32, 32)
    ir[..., 12:20, 12:20] = 1.0
    vi = torch.full((1, 1, 32, 32), 0.2)
    vi[..., ::2] = 0.25
    fused = FusionLayer("saliency", guided_size=5)(ir, vi)
    assert fused[..., 15:17, 15:17].mean() > 0.8
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_channel_attention_halves_with_the_spatial_rule():
    """Eqs 14–17 written out for both poolings."""
    ir, vi = features()
    for mode, pool in [("signed", lambda x: x), ("absolute", torch.abs)]:
        a, b = pool(ir).mean((2, 3), True), pool(vi).mean((2, 3), True)
        channel = a / (a + b) * ir + b / (a + b) * vi
        expected = 0.5 * (0.5 * (ir + vi) + channel)
        assert torch.allclose(FusionLayer("average", mode)(ir, vi), expected, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attention", CHANNEL_ATTENTION)
def test_rules_are_finite_on_constant_and_tiny_features(rule, attention):
    layer = FusionLayer(rule, attention)
    for value in (0.0, 0.7, -0.7):
        flat = torch.full((1, 3, 9, 9), value)
        assert torch.isfinite(layer(flat, flat)).all()
        assert torch.isfinite(layer(flat, -flat)).all()
    tiny = torch.rand(1, 3, 2, 2)
    assert torch.isfinite(layer(tiny, tiny)).all()


@pytest.mark.parametrize("rule", ["average", "l1", "saliency"])
def test_averaging_rules_return_what_both_sources_agree_on(rule):
    ir, _ = features()
    for attention in CHANNEL_ATTENTION:
        assert torch.allclose(FusionLayer(rule, attention)(ir, ir), ir, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attention", ["none", "absolute"])
def test_folded_network_equals_the_plain_one_for_every_rule(rule, attention):
    torch.manual_seed(0)
    model = fusionzoo.create_model("didfuse", rule=rule, channel_attention=attention, channels=8)
    _settle_batch_norm(model.network)
    ir, vi = torch.rand(2, 1, 1, 30, 41)
    with torch.no_grad():
        plain = model.network.eval()(ir, vi)
    assert torch.allclose(model.fuse(ir, vi), plain, atol=1e-5)


def _settle_batch_norm(network):
    """Give batch norm statistics and scales that folding could get wrong."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)


@pytest.mark.parametrize(
    "options",
    [{"rule": "max"}, {"channel_attention": "spatial"}, {"gamma": 1.5}, {"variant": "x"},
     {"gap": "l3"}],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        fusionzoo.create_model("didfuse", **options)


# Losses


def test_decomposition_gap_is_bounded_and_zero_for_equal_features():
    ir, vi = features()
    assert decomposition_gap(ir, ir) == 0
    assert torch.isclose(decomposition_gap(ir, vi), torch.tanh(((ir - vi) ** 2).mean()))
    assert torch.isclose(decomposition_gap(ir, vi, "l1"), torch.tanh((ir - vi).abs().mean()))


def test_reconstruction_losses_are_zero_for_a_perfect_rebuild():
    image = torch.rand(1, 1, 32, 32)
    assert intensity_loss(image, image) == pytest.approx(0, abs=1e-5)
    assert gradient_loss(image, image) == 0
    brighter = (image + 0.1).clamp(0, 1)
    assert intensity_loss(brighter, image) > 1e-3
    assert gradient_loss(torch.zeros_like(image), image) > 0


def test_gradcheck_of_the_losses():
    torch.manual_seed(0)
    rebuilt, source = torch.rand(2, 1, 1, 12, 12, dtype=torch.float64)
    rebuilt.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: intensity_loss(x, source), rebuilt)
    assert torch.autograd.gradcheck(lambda x: gradient_loss(x, source), rebuilt)
    assert torch.autograd.gradcheck(lambda x: decomposition_gap(x, source), rebuilt)


def _terms(**options):
    torch.manual_seed(0)
    model = fusionzoo.create_model("didfuse", channels=4, **options)
    ir, vi = torch.rand(2, 2, 1, 24, 24)
    return model, model.losses(ir, vi, model.network.reconstruct(ir, vi))


def test_total_is_eq_5():
    _, terms = _terms(alpha1=0.3, alpha2=1.5, alpha3=2.5, alpha4=7.0)
    expected = (
        terms["base_gap"] - 0.3 * terms["detail_gap"] + 1.5 * terms["intensity_ir"]
        + 2.5 * terms["intensity_vi"] + 7.0 * terms["gradient_vi"]
    )  # fmt: skip
    assert math.isclose(terms["loss"].item(), expected.item(), rel_tol=1e-5)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize("skips", [True, False])
def test_ablations_train_every_parameter_they_have(variant, skips):
    model, terms = _terms(variant=variant, skips=skips)
    expected = {"full": {"base_gap", "detail_gap"}, "detail_only": {"detail_gap"}}
    expected["base_only"] = {"base_gap"}
    assert {"base_gap", "detail_gap"} & set(terms) == expected.get(variant, set())
    assert ("gradient_ir" in terms) == (variant == "plain")
    terms["loss"].backward()
    without = [name for name, p in model.network.named_parameters() if p.grad is None]
    assert not without


def test_size_of_the_network_is_the_papers():
    model = fusionzoo.create_model("didfuse")
    count = sum(parameter.numel() for parameter in model.network.parameters())
    assert round(count / 1e6, 2) == 0.26
    folded = model.network.eval().for_inference()
    assert folded.heads.out_channels == 128
