"""IFESNet: losses against literal versions, variants, windows, smoothing, decomposition."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from cli_helpers import asset, pairs_folder
from kornia.filters import gaussian_blur2d
from PIL import Image

import fusionzoo
from fusionzoo import strips
from fusionzoo.cli import main
from fusionzoo.models.ifesnet.losses import (
    brightness_loss,
    expected_patches,
    structural_similarity,
    weight_sum_loss,
    windows,
)
from fusionzoo.models.ifesnet.network import (
    VARIANTS,
    WEIGHT_ACTIVATIONS,
    Conv3,
    Decomposition,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"channels": 2}


def small_model(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fusionzoo.create_model("ifesnet", **{**SMALL, **options})


def images(height=24, width=24, batch=1, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, 1, height, width, generator=generator, dtype=dtype).unbind()


# Losses


def literal_similarity(fused, ir, vi, window, xi, power, constant):
    """Eqs 9–11, window by window, in plain Python numbers."""
    values = []
    for b, y, x in itertools.product(
        range(fused.shape[0]),
        range(fused.shape[2] - window + 1),
        range(fused.shape[3] - window + 1),
    ):
        cut = np.s_[b, 0, y : y + window, x : x + window]
        f, *sources = (image[cut].double().numpy() for image in (fused, ir, vi))
        sources = [source - source.mean() for source in sources]
        contrasts = [math.sqrt((source**2).sum()) for source in sources]
        structure = np.zeros_like(f)
        for source, contrast in zip(sources, contrasts, strict=True):
            if contrast > 1e-6:
                structure += (contrast / max(contrasts)) ** power * source / contrast
        norm = math.sqrt((structure**2).sum())
        expected = xi * max(contrasts) * structure / norm if norm > 1e-6 else 0 * structure
        covariance = (expected * (f - f.mean())).mean()
        values.append((2 * covariance + constant) / ((expected**2).mean() + f.var() + constant))
    return float(np.mean(values))


def real_images():
    ir, vi = (
        torch.tensor(np.asarray(Image.fromarray(asset(name)).convert("L")))[30:48, 20:41] / 255
        for name in ("ir", "vi")
    )
    return ir[None, None], vi[None, None]


@pytest.mark.parametrize("window", [8, 11])
@pytest.mark.parametrize(("xi", "power"), [(1.7, 0.0), (1.7, 2.0), (1.0, 1.0)])
def test_similarity_is_the_papers_window_by_window(window, xi, power):
    for ir, vi in (images(14, 17, batch=2), real_images()):
        fused = 0.3 * ir + 0.8 * vi
        expected = expected_patches(ir, vi, window, xi, power)
        found = structural_similarity(fused, expected, window, 9e-4)
        literal = literal_similarity(fused, ir, vi, window, xi, power, 9e-4)
        assert found.item() == pytest.approx(literal, abs=1e-5)


def test_windows_that_are_flat_or_contradict_each_other():
    ir, _ = images(9, 10)
    flat = torch.full_like(ir, 0.9)
    for power in (0.0, 2.0):
        alone = expected_patches(ir, flat, 8, 1.0, power)
        assert torch.allclose(alone, windows(ir, 8), atol=1e-5), "one source has all the structure"
        assert expected_patches(flat, flat, 8, 1.0, power).abs().max() < 1e-5
        assert expected_patches(ir, 1 - ir, 8, 1.0, power).isfinite().all()
    ignored = 1 - 0.5 * ir  # opposite structure, half the contrast
    against = expected_patches(ir, ignored, 8, 1.0, 2.0)
    assert torch.allclose(against, windows(ir, 8), atol=1e-5)


def test_expected_image_of_equal_sources_is_they_with_more_contrast():
    ir, _ = images()
    expected = expected_patches(ir, ir, 8, 1.7)
    assert structural_similarity(1.7 * ir + 0.2, expected, 8).item() == pytest.approx(1, abs=1e-5)
    assert structural_similarity(ir, expected, 8) < 0.95
    assert structural_similarity(1 - ir, expected, 8) < -0.8


def test_weight_sum_loss():
    first, second = images()
    literal = np.abs(1.2 - first.numpy() - second.numpy()).mean()
    assert weight_sum_loss(first, second, 1.2).item() == pytest.approx(literal, rel=1e-5)
    assert weight_sum_loss(first, 1 - first) < 1e-6


def test_brightness_loss():
    fused, ir, vi = (image[0, 0].numpy() for image in (*images(9, 10), images(9, 10, seed=1)[0]))
    distances = []
    for y, x in itertools.product(range(9 - 4), range(10 - 4)):
        means = [image[y : y + 5, x : x + 5].mean() for image in (fused, ir, vi)]
        distances.append(abs(means[0] - max(means[1:])))
    tensors = (torch.tensor(image)[None, None] for image in (fused, ir, vi))
    assert brightness_loss(*tensors, 5).item() == pytest.approx(np.mean(distances), rel=1e-5)
    bright, dark = torch.full((1, 1, 9, 9), 0.75), torch.full((1, 1, 9, 9), 0.25)
    assert brightness_loss(bright, dark, bright) == brightness_loss(bright, bright, dark) == 0
    assert brightness_loss(dark, dark, bright) == 0.5


@pytest.mark.parametrize("window", [8, 11])
@pytest.mark.parametrize("power", [0.0, 2.0])
def test_gradcheck_of_the_losses(window, power):
    ir, vi = images(12, 13, dtype=torch.float64)
    fused, weight = images(12, 13, seed=1, dtype=torch.float64)
    expected = expected_patches(ir, vi, window, 1.7, power)
    fused.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: structural_similarity(x, expected, window), fused)
    assert torch.autograd.gradcheck(lambda x: weight_sum_loss(x, vi), weight)
    assert torch.autograd.gradcheck(lambda x: brightness_loss(x, ir, vi, window), fused)


def test_images_smaller_than_the_window_are_refused():
    ir, vi = images(8, 30)
    with pytest.raises(ValueError, match=r"8 x 30.*window=11"):
        expected_patches(ir, vi, 11)


def test_total_is_eq_6_and_the_brightness():
    weights = {"weight_rebuild": 3.0, "weight_fuse": 0.5, "weight_sum": 2.0}
    model = small_model(**weights, weight_brightness=0.7)
    ir, vi = images(batch=2)
    terms = model.losses(ir, vi, model.network.decompose(ir, vi))
    expected = (
        3.0 * (terms["rebuild_ir"] + terms["rebuild_vi"])
        + 0.5 * terms["fuse"]
        + 2.0 * terms["weight_sum"]
        + 0.7 * terms["brightness"]
    )
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    maps = model.network.decompose(ir, vi)
    assert terms["rebuild_ir"].item() == pytest.approx((maps.ir - ir).square().mean().item())
    assert terms["rebuild_vi"].item() == pytest.approx((maps.vi - vi).square().mean().item())


# Variants


def widths(layers):
    return [layer.out_channels for layer in layers.modules() if isinstance(layer, Conv3)]


def test_layers_are_the_papers():
    """Section III-B; the reconstruction networks' layers hold both sources' channels."""
    network = small_model(channels=64).network
    assert widths(network.fusion) == [64, 64, 128, 128, 256, 256]
    assert widths(network.weighting) == [256, 128, 64, 2]
    assert widths(network.branches) == [2 * width for width in (64, 128, 256)]
    assert widths(network.rebuilding) == [2 * width for width in (128, 64, 1)]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_variants_train_every_parameter_they_have(variant):
    # Wide enough that no layer is dead by chance.
    model = small_model(variant=variant, channels=8)
    ir, vi = images(batch=2)
    model.losses(ir, vi, model.network.decompose(ir, vi))["loss"].backward()
    without = [
        name
        for name, parameter in model.network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert not without
    assert len(model.network.fusion) == VARIANTS[variant]["stages"]


def test_hierarchical_stages_read_the_features_of_two_stages_before():
    plain, hierarchical = (small_model(variant=name).network for name in ("s4", "hc"))
    more = [
        wide[0].in_channels - narrow[0].in_channels
        for wide, narrow in zip(hierarchical.fusion, plain.fusion, strict=True)
    ]
    f1, f2, f3, _ = (stage[-1].out_channels for stage in plain.fusion)
    assert more == [0, f1, f1 + f2, f2 + f3]


def test_reconstruction_sees_the_other_source_only_by_interaction():
    ir, vi = images()
    for variant, interacts in (("s3", True), ("no_ifem", False)):
        network = small_model(variant=variant).network
        with torch.no_grad():
            one, other = (network.decompose(ir, source) for source in (vi, vi.flip(-1)))
        assert torch.equal(one.ir, other.ir) != interacts
        assert not torch.equal(one.fused, other.fused)


@pytest.mark.parametrize("activation", WEIGHT_ACTIVATIONS)
def test_training_starts_near_the_mean_of_the_sources(activation):
    model = small_model(channels=16, weight_activation=activation)
    ir, vi = images()
    maps = model.decompose(ir, vi)
    for weight in (maps.weight_ir, maps.weight_vi):
        assert weight.mean().item() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    "options", [{"variant": "s5"}, {"weight_activation": "tanh"}, {"window": 1}, {"channels": 0}]
)
def test_wrong_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        small_model(**options)


# Windows


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize("smooth", [False, True])
def test_windows_are_exact(monkeypatch, variant, smooth):
    network = small_model(variant=variant, channels=4, smooth=smooth).network.eval()
    for size, budget in itertools.product([(1, 1), (2, 5), (97, 83), (37, 200)], [1, 10**5, 10**9]):
        monkeypatch.setitem(strips._BUDGET, "cpu", budget)
        ir, vi = images(*size, batch=2)
        with torch.no_grad():
            plain = network.decompose(ir, vi)
            fused = network.fuse_in_windows(ir, vi)
            in_windows = network.decompose_in_windows(ir, vi)
        assert torch.allclose(fused, plain.fused, atol=1e-6)
        for one, other in zip(in_windows, plain, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_layers_see_no_more_than_they_have_to(monkeypatch):
    """Where the image goes on, each layer gives a pixel less than it reads."""
    sizes = {}
    plain = Conv3.forward

    def spy(layer, x, edges):
        y = plain(layer, x, edges)
        sizes.setdefault(layer, set()).add((y.shape[2], edges[2:]))
        return y

    monkeypatch.setattr(Conv3, "forward", spy)
    monkeypatch.setitem(strips._BUDGET, "cpu", 80 * 46 * 16 * 4)  # three windows
    model = small_model(channels=4)  # 16 channels at most
    model.fuse(*images(150, 46))
    reach = 11
    heights = [sorted(size) for size in sizes.values()]
    assert len(heights) == 12
    for left, found in zip(range(reach, -1, -1), heights, strict=True):
        assert found == sorted({(50 + left, (0, 1)), (50 + left, (1, 0)), (50 + 2 * left, (0, 0))})


def test_inference_leaves_out_the_reconstruction():
    network = small_model(channels=16).network.eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    ready = copy.deepcopy(network).for_inference()
    left_out = sum(p.numel() for p in [*network.rebuilding.parameters()])
    left_out += sum(p.numel() for p in network.branches[-1].parameters())
    assert sum(parameter.numel() for parameter in ready.parameters()) == count - left_out


# Smoothing


def test_smooth_blurs_the_weight_maps_with_a_gaussian_of_variance_2():
    plain, smooth = (small_model(smooth=value) for value in (False, True))
    smooth.load_state_dict(plain.state_dict())
    ir, vi = images(20, 26)
    raw, blurred = plain.decompose(ir, vi), smooth.decompose(ir, vi)
    for name in ("weight_ir", "weight_vi"):
        expected = gaussian_blur2d(
            getattr(raw, name), (5, 5), (math.sqrt(2), math.sqrt(2)), border_type="replicate"
        )
        assert torch.allclose(getattr(blurred, name), expected, atol=1e-5)
    fused = blurred.weight_ir * ir + blurred.weight_vi * vi
    assert torch.allclose(smooth.fuse(ir, vi), fused.clamp(0, 1), atol=1e-5)
    assert torch.equal(blurred.ir, raw.ir)
    assert not torch.allclose(smooth.fuse(ir, vi), plain.fuse(ir, vi), atol=1e-3)


def test_smooth_can_be_chosen_when_loading(tmp_path):
    folder = small_model().save_pretrained(tmp_path / "model")
    loaded = fusionzoo.load(folder, smooth=True)
    assert loaded.options["smooth"] is True
    ir, vi = images()
    assert not torch.equal(loaded.fuse(ir, vi), fusionzoo.load(folder).fuse(ir, vi))


# Decomposition


def test_decomposition_explains_the_fused_image():
    model = small_model(channels=8)
    ir, vi = images(21, 34, batch=3)
    maps = model.train().decompose(ir, vi)
    assert model.training
    assert isinstance(maps, Decomposition)
    for part in maps:
        assert part.shape == ir.shape
        assert not part.requires_grad
    assert torch.allclose(maps.fused, model.fuse(ir, vi), atol=1e-6)
    fused = (maps.weight_ir * ir + maps.weight_vi * vi).clamp(0, 1)
    assert torch.allclose(maps.fused, fused, atol=1e-6)
    assert min(maps.ir.min(), maps.vi.min()) > 0
    assert max(maps.ir.max(), maps.vi.max()) < 1


def test_decomposition_takes_other_kinds_of_images(tmp_path):
    model = small_model()
    ir, vi = asset("ir")[:30, :40], asset("vi")[:30, :40]
    paths = [tmp_path / "ir.png", tmp_path / "vi.png"]
    for path, pixels in zip(paths, (ir, vi), strict=True):
        Image.fromarray(pixels).save(path)
    of_arrays, of_paths = model.decompose(ir, vi), model.decompose(*paths)
    for one, other in zip(of_arrays, of_paths, strict=True):
        assert one.shape == (1, 1, 30, 40)
        assert torch.equal(one, other)
    assert torch.allclose(
        of_arrays.fused[0, 0] * 255,
        torch.tensor(model.fuse(ir, vi, color=False)).float(),
        atol=0.51,
    )


def test_decomposition_refuses_pairs_that_do_not_match():
    model = small_model()
    ir, vi = images()
    with pytest.raises(ValueError, match=r"ir is .* and vi .*one size"):
        model.decompose(ir, vi[..., 1:])
    with pytest.raises(ValueError, match="vi_range"):
        model.decompose(ir, vi, vi_range=(1, 0))


# Training


def test_training_lowers_every_term():
    model = small_model(channels=8, lr=3e-3)
    optimizer = model.configure_optimizers()
    ir, vi = (x.repeat(1, 1, 1, 1) for x in real_images())
    history = []
    for _ in range(60):
        maps = model.network.decompose(ir, vi)
        terms = model.losses(ir, vi, maps)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        history.append({key: value.item() for key, value in terms.items()})
    for key in ("rebuild_ir", "rebuild_vi", "fuse", "loss"):
        assert history[-1][key] < 0.8 * history[0][key], key
    assert history[-1]["weight_sum"] < 0.2


def test_optimizer_and_schedule():
    assert isinstance(small_model().configure_optimizers(), torch.optim.AdamW)
    made = small_model(lr=0.5, weight_decay=0.25, cosine_epochs=4).configure_optimizers()
    group = made["optimizer"].param_groups[0]
    assert group["weight_decay"] == 0.25
    rates = []
    for _ in range(5):
        rates.append(group["lr"])
        made["optimizer"].step()
        made["lr_scheduler"].step()
    expected = [0.25 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(5)]
    assert rates == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:::lightning")
@pytest.mark.parametrize("config", ["ifesnet", "ifesnet.hc"])
def test_packaged_configurations_train_and_resume(config, tmp_path):
    root = pairs_folder(tmp_path / "pairs", [str(n) for n in range(4)], color=False)

    def fit(folder, epochs, *more):
        arguments = [
            *("fit", "--config", config, f"--data.root={root}", "--data.holdout=1"),
            *("--data.batch_size=2", "--data.crop_size=24", "--data.pairs_per_epoch=4"),
            *("--model.init_args.channels=2", f"--trainer.max_epochs={epochs}"),
            *("--trainer.accelerator=cpu", "--trainer.precision=bf16-mixed"),
            *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
            f"--trainer.default_root_dir={folder}",
        ]
        assert main([*arguments, *more]) == 0
        return folder / "version_0" / "pretrained"

    straight = fit(tmp_path / "straight", 2)
    fit(tmp_path / "cut", 1)
    resumed = fit(tmp_path / "cut", 2, "--ckpt_path", "last")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (straight, resumed)]
    assert weights[0] == weights[1]
    variant = fusionzoo.load(resumed).options["variant"]
    assert variant == {"ifesnet": "s3", "ifesnet.hc": "hc"}[config]
