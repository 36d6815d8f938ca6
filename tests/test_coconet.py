"""CoCoNet: VGG features, attention, losses of both stages, roles, options."""

import sys
import types

import numpy as np
import pytest
import torch
from cli_helpers import asset
from torch.nn import functional as F

import fusionzoo
from fusionzoo.inference import fuse_images
from fusionzoo.models.coconet.losses import (
    adaptive_terms,
    adaptive_weights,
    average_gradient,
    contrast_ratio,
    entropy,
)
from fusionzoo.models.coconet.network import ChannelAttention
from fusionzoo.models.coconet.vgg import LUMA, VGGFeatures
from fusionzoo.models.coconet.vgg_weights import fill_vgg


def vgg_tensors(layers=(0, 2, 5, 7, 10)):
    """Weights under timm's names, of VGG-19's shapes."""
    generator = torch.Generator().manual_seed(0)
    channels = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256)}
    channels |= {12: (256, 256), 14: (256, 256), 16: (256, 256), 19: (256, 512)}
    channels |= dict.fromkeys((21, 23, 25, 28), (512, 512))
    tensors = {}
    for layer in layers:
        before, width = channels[layer]
        weight = torch.randn(width, before, 3, 3, generator=generator)
        tensors[f"features.{layer}.weight"] = weight / (3 * before**0.5)
        tensors[f"features.{layer}.bias"] = 0.1 * torch.randn(width, generator=generator)
    return tensors


def real_pair(size=64):
    """A real pair as ``(1, 1, size, size)`` in [0, 1]."""
    images = [asset(name).astype(np.float32) / 255 for name in ("ir", "vi")]
    images = [image.mean(-1) if image.ndim == 3 else image for image in images]
    return [torch.from_numpy(image)[None, None, :size, :size] for image in images]


def small(**options):
    torch.manual_seed(0)
    return fusionzoo.create_model("coconet", **options)


# VGG-19


def test_vgg_takes_timms_layers_and_sees_grey_as_weighted_rgb():
    tensors, vgg = vgg_tensors(), VGGFeatures()
    assert not vgg.trained
    vgg.take(tensors, "a test")
    assert vgg.trained
    image = torch.rand(2, 1, 16, 24) * 2 - 1
    mean = sum(a * b for a, b in zip(LUMA, (0.485, 0.456, 0.406), strict=True))
    std = sum(a * b for a, b in zip(LUMA, (0.229, 0.224, 0.225), strict=True))
    rgb = torch.cat([(image / 2 + 0.5 - mean) / std * weight for weight in LUMA], 1)

    def conv(x, layer):
        weight, bias = (tensors[f"features.{layer}.{kind}"] for kind in ("weight", "bias"))
        return F.relu(F.conv2d(x, weight, bias, padding=1))

    low = conv(rgb, 0)
    middle = conv(F.max_pool2d(conv(low, 2), 2), 5)
    high = conv(F.max_pool2d(conv(middle, 7), 2), 10)
    for found, expected in zip(vgg(image), (low, middle, high), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)
    skips = vgg.skips(image)
    assert [tuple(x.shape[1:]) for x in skips] == [(64, 8, 12), (128, 4, 6), (256, 2, 3)]
    assert torch.allclose(skips[0], F.max_pool2d(conv(low, 2), 2), atol=1e-4)
    assert torch.allclose(skips[2], F.max_pool2d(high, 2), atol=1e-4)


def test_vgg_refuses_what_is_not_vgg19():
    with pytest.raises(ValueError, match=r"a file has no features\.10\.weight"):
        VGGFeatures().take(vgg_tensors((0, 2, 5, 7)), "a file")
    tensors = vgg_tensors()
    tensors["features.5.weight"] = tensors["features.5.weight"][:, :, :1]
    vgg = VGGFeatures()
    with pytest.raises(ValueError, match=r"features\.5\.weight"):
        vgg.take(tensors, "a file")
    assert not vgg.trained


def test_vgg_comes_from_a_file_or_from_timm(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    save_file(vgg_tensors(), tmp_path / "vgg.safetensors")
    vgg = VGGFeatures()
    fill_vgg(vgg, tmp_path / "vgg.safetensors")
    assert vgg.trained
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fill_vgg(VGGFeatures(), tmp_path / "nowhere.safetensors")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeError, match=r"fusionzoo\[timm\].*vgg_weights"):
        fill_vgg(VGGFeatures())


def test_timm_is_asked_for_pretrained_vgg19(monkeypatch):
    asked = []

    def create_model(name, pretrained):
        asked.append((name, pretrained))
        return types.SimpleNamespace(state_dict=vgg_tensors)

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    vgg = VGGFeatures()
    fill_vgg(vgg)
    assert asked == [("vgg19", True)]
    assert torch.equal(vgg.blocks[1][0].weight, vgg_tensors()["features.5.weight"])

    def no_network(name, pretrained):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=no_network))
    with pytest.raises(RuntimeError, match=r"no network.*vgg_weights"):
        fill_vgg(VGGFeatures())


# Network


def test_attention_is_a_softmax_of_channel_products():
    torch.manual_seed(0)
    attention = ChannelAttention(6, positions=49)
    x = torch.randn(2, 6, 7, 7)
    assert torch.allclose(attention(x), attention.h(x), atol=1e-6), "gamma starts at 0"
    torch.nn.init.constant_(attention.gamma, 0.7)
    p, q, h = (getattr(attention, name)(x).flatten(2).double() for name in "pqh")
    logits = torch.einsum("bcn,bdn->bcd", p, q) / 7  # the square root of 49 positions
    expected = 0.7 * torch.einsum("bcd,bdn->bcn", logits.softmax(-1), h) + h
    assert torch.allclose(attention(x).double(), expected.view_as(x), atol=1e-5)


def test_attention_by_the_papers_and_by_the_released_rule():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 7, 7)
    for rule in ("paper", "released"):
        attention = ChannelAttention(6, positions=49, rule=rule)
        p, q, h = (getattr(attention, name)(x).flatten(2).double() for name in "pqh")
        sums = torch.einsum("bcn,bdn->bcd", p, q)
        if rule == "paper":
            assert attention.gamma is None
            expected = torch.einsum("bcd,bdn->bcn", sums.softmax(-1), h) + h
        else:
            assert attention.gamma.item() == 0
            torch.nn.init.constant_(attention.gamma, 0.7)
            weights = (sums.max(-1, keepdim=True)[0] - sums).softmax(-1)
            expected = 0.7 * torch.einsum("bcd,bdn->bcn", weights, h) + h
        assert torch.allclose(attention(x).double(), expected.view_as(x), atol=1e-4)
    with pytest.raises(ValueError, match="attention_rule"):
        ChannelAttention(6, positions=49, rule="unscaled")


def test_unscaled_sums_are_those_of_the_whole_image_in_tiles_too():
    network = small(variant="released", attention_rule="paper").network.eval()
    for mam in network.mams:
        for parameter in (*mam.attention.p.parameters(), *mam.attention.q.parameters()):
            parameter.data *= (
                0.3  # no near-one-hot map, which would look alike for parts of the sums
            )
    ir, vi = (2 * image - 1 for image in real_pair())
    ir, vi = (image.repeat(1, 1, 7, 1)[..., :16] for image in (ir, vi))
    how = {"value_range": (-1.0, 1.0), "size_multiple": 8, "min_size": 16}
    with torch.no_grad():
        whole = fuse_images(network, ir / 2 + 0.5, vi / 2 + 0.5, tile="off", **how)
        tiled = fuse_images(network, ir / 2 + 0.5, vi / 2 + 0.5, tile=1, reach=network.reach, **how)
        network.attention_rule = "scaled"  # means over tiles, in place of sums
        wrong = fuse_images(network, ir / 2 + 0.5, vi / 2 + 0.5, tile=1, reach=network.reach, **how)
    assert (tiled - whole).abs().max() < 1e-5
    assert (wrong - whole).abs().max() > 1e-4


def test_attention_of_a_large_image_is_that_of_its_patches():
    """Sums over positions would make logits grow with the image."""
    torch.manual_seed(0)
    attention = ChannelAttention(6, positions=256)
    p, q = torch.randn(2, 1, 6, 16, 16)
    patch = attention.map(p, q)
    image = attention.map(*(x.repeat(1, 1, 6, 4) for x in (p, q)))
    assert torch.allclose(image, patch, atol=1e-5)
    assert patch.max() > 0.3, "or else any attention is alike"


def test_size_of_the_network_is_the_sheets():
    network = small().network
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert round(trained / 1e6, 1) == 6.8
    assert round(sum(p.numel() for p in network.vgg.parameters()) / 1e6, 2) == 0.55


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backbone": False},
        {"attention": False},
        {"attention": False, "backbone": False},
        *({"vgg_levels": levels} for levels in (["low"], ["middle"], ["high"])),
        {"attention_rule": "paper"},
        {"variant": "released", "attention_rule": "released"},
        {"vgg_levels": ["middle", "high"]},
    ],
    ids=str,
)
def test_ablations_of_the_architecture_train_all_they_have(options):
    model = small(**options)
    for module in model.network.modules():
        if isinstance(module, ChannelAttention) and module.gamma is not None:
            torch.nn.init.ones_(module.gamma)  # at 0 nothing reaches the attention map
    ir, vi = torch.rand(2, 2, 1, 32, 40)
    model.network(ir, vi).mean().backward()
    without = [
        name
        for name, parameter in model.network.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.any())
        # A constant before batch norm changes nothing.
        and not name.endswith("conv.bias")
        and "reduce.bias" not in name
    ]
    assert not without
    assert (model.network.vgg is None) == (not options.get("backbone", True))
    sources = [
        m.merge.in_channels // m.merge.out_channels
        for m in model.network.mams
        if len([*m.children()])
    ]
    levels = options.get("vgg_levels", ["low", "middle", "high"])
    if options.get("backbone", True):
        assert sources == [3 if level in levels else 1 for level in ("low", "middle", "high")]


def test_gain_spreads_the_logits_near_their_mean_and_not_far_from_it(monkeypatch):
    network = small(gain=1.5).network.eval()
    ramp = torch.linspace(-3, 3, 32 * 40).view(1, 1, 32, 40).double()
    monkeypatch.setattr(network, "logits", lambda ir, vi: ramp + 0.3)
    after = torch.atanh(network(None, None)).flatten()
    slope = after.diff() / ramp.flatten().diff()
    middle = slope.numel() // 2
    assert after.mean().item() == pytest.approx(0.3), "a ramp's mean stays"
    assert slope[middle].item() == pytest.approx(1.5, abs=1e-3)
    assert (slope[:middle].diff() > 0).all()
    assert (slope[middle + 1 :].diff() < 0).all()
    assert slope.min().item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_training_does_without_gain(gain):
    network = small(gain=gain).network.eval()
    ir, vi = torch.rand(2, 2, 1, 32, 40) * 2 - 1
    with torch.no_grad():
        logits, fused = network.logits(ir, vi), network(ir, vi)
        plain = small(gain=1.0).network.eval().logits(ir, vi)
    assert torch.equal(logits, plain)
    assert torch.allclose(torch.tanh(logits), fused) == (gain == 1.0)


# The self-adaptive loss


def test_measures_are_those_of_eqs_6_and_8():
    image = torch.from_numpy(asset("vi")[:20, :30].astype(np.float32))
    image = image.mean(-1) if image.ndim == 3 else image
    levels = image.round().numpy()
    counts = np.unique(levels, return_counts=True)[1] / levels.size
    assert entropy(torch.from_numpy(levels / 255)[None, None].float()).item() == pytest.approx(
        -(counts * np.log2(counts)).sum(), abs=1e-5
    )
    horizontal = np.abs(levels[:, 1:] - levels[:, :-1]).mean()
    vertical = np.abs(levels[1:] - levels[:-1]).mean()
    found = average_gradient(torch.from_numpy(levels)[None, None])
    assert found.item() == pytest.approx(horizontal + vertical, rel=1e-5)


def test_weights_are_a_softmax_per_pair_without_gradient():
    ir, vi = real_pair()
    ir, vi = torch.cat([ir, vi]), torch.cat([vi, ir])
    vi.requires_grad_()
    sigma, gamma = adaptive_weights(ir, vi, gradient_range=255)
    assert not sigma.requires_grad
    exponents = [(255 * average_gradient(x.detach())).double().exp() for x in (vi, ir)]
    assert torch.allclose(sigma.double(), exponents[0] / sum(exponents), atol=1e-5)
    exponents = [entropy(x.detach()).double().exp() for x in (vi, ir)]
    assert torch.allclose(gamma.double(), exponents[0] / sum(exponents), atol=1e-5)
    assert sigma.sum() == pytest.approx(1, abs=1e-5), "swapped sources, swapped weights"
    released = adaptive_weights(ir, vi, "released")
    share = average_gradient(vi.detach()) / (average_gradient(vi.detach()) + average_gradient(ir))
    expected = torch.softmax(torch.stack([share, 1 - share]) / 0.5, 0)[0]
    assert torch.allclose(released.sigma, expected, atol=1e-5)


def test_adaptive_terms_prefer_the_heavier_source():
    ir, vi = real_pair()
    model = small(fixed_sigma=0.9, fixed_gamma=0.8)
    weights = model.weights(ir, vi)
    assert weights == (torch.tensor([0.9]), torch.tensor([0.8]))
    as_visible, as_infrared = (adaptive_terms(x, ir, vi, weights) for x in (vi, ir))
    error = ((2 * (ir - vi)) ** 2).mean()
    assert torch.allclose(as_visible.intensity, 0.2 * error, atol=1e-6)
    assert torch.allclose(as_infrared.intensity, 0.8 * error, atol=1e-6)
    assert as_infrared.structure / as_visible.structure == pytest.approx(9, rel=1e-3)
    total = model.adaptive_loss(vi, ir, vi)["adaptive"]
    assert torch.allclose(total, 20 * as_visible.structure + as_visible.intensity)


# The contrastive losses


def test_contrast_is_the_ratio_of_eq_1():
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 2, 8, 8), (3, 4, 4, 4))

    def maps():
        return [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    anchor, positive, negatives = maps(), maps(), [maps(), maps(), maps()]
    found = contrast_ratio(anchor, positive, negatives, [0.5, 2.0])
    for pair in range(3):
        expected = 0.0
        for level, weight in enumerate((0.5, 2.0)):
            near = (anchor[level][pair] - positive[level][pair]).abs().sum()
            far = sum((anchor[level][pair] - n[level][pair]).abs().sum() for n in negatives)
            expected += weight * near / far
        assert found[pair].item() == pytest.approx(expected.item())
    first = anchor[0].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: contrast_ratio([x, anchor[1]], positive, negatives, [0.5, 2.0]), first
    )


@pytest.fixture(scope="module")
def contrasting():
    model = small(level_weights=[1.0, 1.0, 1.0])
    model.network.vgg.take(vgg_tensors(), "a test")
    generator = torch.Generator().manual_seed(1)
    irs, vis = (
        [torch.rand(2, 1, 32, 32, generator=generator) * 2 - 1 for _ in range(3)] for _ in range(2)
    )
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    return model, irs, vis, mask


@pytest.mark.parametrize("task", ["infrared-visible", "medical"])
def test_the_masked_region_follows_the_right_source(contrasting, task):
    _, irs, vis, mask = contrasting
    model = small(task=task, level_weights=[1.0, 1.0, 1.0])
    model.network.vgg.take(vgg_tensors(), "a test")
    inside, outside = (irs, vis) if task == "infrared-visible" else (vis, irs)
    ideal = inside[0] * mask + outside[0] * (1 - mask)
    losses = model.contrastive_losses(ideal, irs, vis, mask)
    assert losses.keys() == {"target", "detail"}
    assert losses["target"] == 0
    assert losses["detail"] == 0
    worst = outside[0] * mask + inside[0] * (1 - mask)
    assert all(value > 0.5 for value in model.contrastive_losses(worst, irs, vis, mask).values())


def test_pairs_with_an_empty_region_are_left_out(contrasting):
    model, irs, vis, mask = contrasting
    fused = (irs[0] + vis[0]) / 2
    both = model.contrastive_losses(fused, irs, vis, mask)
    partly = mask.clone()
    partly[1] = 0
    first = [[x[:1] for x in images] for images in (irs, vis)]
    alone = model.contrastive_losses(fused[:1], *first, mask[:1])
    found = model.contrastive_losses(fused, irs, vis, partly)
    assert found["target"].item() == pytest.approx(alone["target"].item(), rel=1e-5)
    assert found["target"] != both["target"]
    assert model.contrastive_losses(fused, irs, vis, torch.zeros_like(mask))["target"] == 0
    assert model.contrastive_losses(fused, irs, vis, torch.ones_like(mask))["detail"] == 0


def test_contrast_teaches_the_network_and_not_the_backbone(contrasting):
    model, irs, vis, mask = contrasting
    fused = ((irs[0] + vis[0]) / 2).requires_grad_()
    sum(model.contrastive_losses(fused, irs, vis, mask).values()).backward()
    assert fused.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.network.vgg.parameters())
    trained = {
        id(p) for group in model.configure_optimizers().param_groups for p in group["params"]
    }
    assert not trained & {id(parameter) for parameter in model.network.vgg.parameters()}


@pytest.mark.parametrize(
    ("contrast", "names"),
    [("both", {"target", "detail"}), ("target", {"target"}), ("detail", {"detail"}),
     ("random", {"target", "detail"}), ("none", set())],
)  # fmt: skip
def test_ablations_of_the_contrast(contrasting, contrast, names):
    _, irs, vis, mask = contrasting
    model = small(contrast=contrast)
    model.network.vgg.take(vgg_tensors(), "a test")
    fused = irs[0] * mask + vis[0] * (1 - mask)
    losses = model.contrastive_losses(fused, irs, vis, mask)
    assert losses.keys() == names
    if contrast == "random":
        assert losses["target"] > 0, "the pair's own target is no positive here"


def test_losses_get_a_vgg_of_their_own_where_the_network_has_none(tmp_path, contrasting):
    from safetensors.torch import save_file

    _, irs, vis, mask = contrasting
    save_file(vgg_tensors(), tmp_path / "vgg.safetensors")
    model = small(backbone=False, vgg_weights=str(tmp_path / "vgg.safetensors"))
    assert model.contrastive_losses(vis[0], irs, vis, mask)["target"] > 0
    assert not any("vgg" in name for name in model.state_dict()), "not part of checkpoints"
    assert "vgg_weights" not in model.options


# Roles and options


def test_medical_model_keeps_the_functional_images_colour():
    model = small(task="medical").eval()
    assert model.modalities == ("functional", "MRI")
    assert fusionzoo.create_model("coconet").modalities == ("infrared", "visible")
    rng = np.random.default_rng(0)
    pet = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    mri = rng.integers(0, 256, (32, 40), dtype=np.uint8)
    fused = model.fuse(pet, mri)
    assert fused.shape == pet.shape
    grey = model.fuse(pet, mri, color=False)
    assert grey.shape == mri.shape
    # Differences between channels are the functional image's, where nothing was clipped.
    inner = ((fused > 0) & (fused < 255)).all(-1)
    for one, other in ((0, 1), (2, 1)):
        difference = [x[..., one].astype(int) - x[..., other] for x in (fused, pet)]
        assert np.abs(difference[0] - difference[1])[inner].max() <= 1
    assert inner.any()


@pytest.mark.parametrize(
    "options",
    [{"task": "x"}, {"weight_rule": "x"}, {"contrast": "x"}, {"fixed_sigma": 2.0},
     {"fixed_gamma": -1.0}, {"gain": 0.0}, {"level_weights": []}, {"vgg_levels": ["deep"]},
     {"attention_rule": "x"}, {"variant": "x"}],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        fusionzoo.create_model("coconet", **options)
