"""CHITNet: attention and decoder against literal versions, losses, phases, resuming."""

import copy
import os
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from data_helpers import ASSETS, real_pairs
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image
from safetensors import safe_open
from torch.nn import functional as F

import fusionzoo
from fusionzoo import strips
from fusionzoo.data import FusionDataModule
from fusionzoo.models.chitnet import losses
from fusionzoo.models.chitnet.blocks import LinearDecoder, moments
from fusionzoo.models.chitnet.module import VARIANTS, CHITNet, Targets
from fusionzoo.models.chitnet.network import SIPHIA, CHITNetNetwork, MutualRepresentation
from fusionzoo.models.chitnet.schedule import FIRST, INFRARED, SECOND, VISIBLE, decay, phase_of

DATA = os.environ.get("FUSIONZOO_TEST_DATA")

# What Lightning remarks on such short runs is not the matter here.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]


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


def test_first_half_of_the_shuffled_channels_is_drawn_once():
    one, two = (SIPHIA(16, 1.0) for _ in range(2))
    assert sorted(one.order.tolist()) == list(range(16))
    assert not torch.equal(one.order, two.order)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.order, two.order)


def test_size_of_the_network():
    network = fusionzoo.create_model("chitnet").network
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == 0.90
    assert network.decoder.mix.in_channels == 512


def test_brightness_does_not_sharpen_the_attention():
    layer = MutualRepresentation(6, 3.0).to_ir
    torch.nn.init.zeros_(layer.query.bias)
    torch.nn.init.zeros_(layer.key.bias)
    ir, _ = features()
    dim, bright = ([moments(x)] * 3 for x in (0.1 * ir, ir))
    assert torch.allclose(layer.weights(*dim), layer.weights(*bright), atol=1e-5)


# Crops and whole images


def gray(folder, name):
    with Image.open(folder / name) as image:
        return torch.from_numpy(np.array(image.convert("L"))).float()[None, None] / 255


@pytest.fixture(scope="module")
def crop_and_whole():
    """A network, a real 120×120 pair and the 480×640 scene that repeats it."""
    torch.manual_seed(2)
    network = CHITNetNetwork(32).eval()
    crop = [gray(ASSETS, f"evaluate_{side}.png")[..., :120, :120] for side in ("ir", "vi")]
    whole = [image.repeat(1, 1, 4, 6)[..., :640] for image in crop]
    with torch.no_grad():
        return network, *((pair, network.transfer(*pair)) for pair in (crop, whole))


def inner(maps):
    """Without the border, where it matters what lies beyond (in a crop: zeros)."""
    return maps[..., 10:-10, 10:-10]


def rows_differ(maps):
    """Mean distance of two attention maps' rows, which are distributions: 0 to 2."""
    return (maps[0] - maps[1]).abs().sum(2).mean()


@torch.no_grad()
def test_attention_of_crops_is_that_of_whole_images(crop_and_whole):
    network, *pairs = crop_and_whole
    layer = network.mutual.to_ir
    encoded = [network.encoder_ir(network.inverted(images[0])) for images, _ in pairs]
    assert rows_differ([layer.weights(*[moments(x)] * 3) for x in encoded]) < 0.2
    # Without unit lengths the logits grow with the number of pixels: another softmax altogether.
    logits = [layer.query(x).flatten(2) @ layer.key(x).flatten(2).mT for x in encoded]
    assert rows_differ([(x / layer.query.out_channels).softmax(2) for x in logits]) > 0.8


@torch.no_grad()
def test_statistics_of_crops_are_those_of_whole_images(crop_and_whole):
    network, (_, crop), (_, whole) = crop_and_whole
    acquired = [network.acquire(transferred) for transferred in (crop, whole)]
    small = [*crop, *(edge for harmonious in acquired[0] for edge in harmonious.edges)]
    large = [*whole, *(edge for harmonious in acquired[1] for edge in harmonious.edges)]
    for one, repeated in zip(small, large, strict=True):
        # All whole repetitions, each without its border, where the scene has seams.
        tiles = repeated[..., :600].unflatten(3, (5, 120)).unflatten(2, (4, 120))
        tiles = inner(tiles.transpose(3, 4)).flatten(2)
        for statistic in (torch.mean, torch.std):
            found, expected = statistic(tiles, 2), statistic(inner(one).flatten(2), 2)
            assert (found - expected).norm() < 0.1 * expected.norm()


@torch.no_grad()
def test_crops_fuse_as_they_do_in_the_whole_image(crop_and_whole):
    network, (_, crop), (_, whole) = crop_and_whole
    small, large = (network.reconstruct(x, network.acquire(x)) for x in (crop, whole))
    small, large = inner(small), inner(large[..., 120:240, 240:360])
    assert (small - large).abs().mean() < 0.2 * small.std()


@pytest.mark.skipif(not DATA, reason="FUSIONZOO_TEST_DATA names no folder of real data")
@pytest.mark.skipif(
    "chitnet" not in fusionzoo.list_models(pretrained=True), reason="no trained weights"
)
def test_trained_network_fuses_crops_as_whole_images():
    # The gain turns on the mean of what it is given, which is another in a crop.
    model = fusionzoo.load("chitnet", gain=1.0)
    folder = Path(DATA) / "roadscene" / "test"
    names = sorted(path.name for path in (folder / "ir").iterdir())[:3]
    for name in names:
        whole = [gray(folder / side, name) for side in ("ir", "vi")]
        top, left = (whole[0].shape[2] - 120) // 2, (whole[0].shape[3] - 120) // 2
        window = np.s_[..., top : top + 120, left : left + 120]
        found, expected = model.fuse(*(image[window] for image in whole)), model.fuse(*whole)
        assert (inner(found) - inner(expected[window])).abs().mean() < 0.04


# Inference


@pytest.mark.parametrize("budget", [1 << 25, 1], ids=["one window", "windows"])
@pytest.mark.parametrize(
    "options", [{}, {"transfer": False}, {"siphia": False}, {"gain": 1.5}], ids=str
)
def test_inference_by_windows_computes_the_same(monkeypatch, budget, options):
    monkeypatch.setitem(strips._BUDGET, "cpu", budget)
    torch.manual_seed(1)
    network = CHITNetNetwork(8, **options).eval()
    with torch.no_grad():
        network.decoder.out.bias.add_(0.4)  # keeps the picture off the clamp
        network.decoder.out.weight.mul_(3)
        quick = copy.deepcopy(network).for_inference()
        # One row, and fewer rows or columns than convolutions reach.
        for size in ((48, 64), (1, 30), (33, 7), (9, 40), (25, 20)):
            ir, vi = torch.rand(2, 2, 1, *size)
            expected = network(ir, vi)
            assert torch.allclose(quick(ir, vi), expected, atol=1e-5), size
            assert expected.max() > 0.1


# Losses


def images(size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 2, 1, size, size, generator=generator, dtype=torch.float64).unbind()


def test_joint_gradient_is_the_stronger_laplacian_with_its_sign():
    """Eq. 12 at inner pixels; kornia's kernel is normalised to magnitudes that sum to one."""
    ir, vi, _ = images()
    kernel = torch.ones(1, 1, 3, 3, dtype=ir.dtype)
    kernel[..., 1, 1] = -8
    found = losses.joint_gradient(ir, vi)[..., 1:-1, 1:-1]
    one, two = (F.conv2d(x, kernel / 16) for x in (ir, vi))
    expected = torch.where(one.abs() > two.abs(), one, two)
    assert torch.allclose(found, expected)
    assert (expected < 0).any()
    assert (expected > 0).any()


def test_salient_mean_follows_what_stands_out():
    """A hot spot in an even scene: there infrared must lead, elsewhere the two are balanced."""
    ir, vi = torch.zeros(1, 1, 32, 32), torch.full((1, 1, 32, 32), 0.4)
    ir[..., 12:16, 12:16] = 1.0
    found = losses.salient_mean(ir, vi)
    assert torch.allclose(found[..., 12:16, 12:16], torch.tensor(1.0))
    assert found[0, 0, 0, 0] == pytest.approx(0.2, abs=0.01)
    one, two, _ = (x.float() for x in images())
    found = losses.salient_mean(one, two)
    assert (found >= torch.minimum(one, two) - 1e-6).all()
    assert (found <= torch.maximum(one, two) + 1e-6).all()
    assert torch.allclose(losses.salient_mean(two, one), found, atol=1e-6)


def test_interaction_is_the_divergence_from_the_label():
    """Eq. 19 written out; the label gets no gradient."""
    label, image, _ = images()
    label.requires_grad_()
    image.requires_grad_()
    p, q = (x.flatten(1).exp() / x.flatten(1).exp().sum(1, keepdim=True) for x in (label, image))
    expected = (p * (p / q).log()).sum(1).mean()
    found = losses.interaction(label, image)
    assert torch.allclose(found, expected)
    found.backward()
    assert label.grad is None
    assert image.grad.abs().sum() > 0
    assert losses.interaction(image, image).item() == pytest.approx(0, abs=1e-12)


def test_gradcheck_of_the_losses():
    fused, ir, vi = images(size=5)
    fused.requires_grad_()
    joint = losses.joint_gradient(ir, vi)
    checks = [
        lambda x: losses.fusion_terms(x, ir, joint),
        lambda x: losses.interaction(vi, x),
        lambda x: losses.reconstruction((x, x), ir, vi),
        lambda x: losses.edge_reconstruction((x, x), ir, vi),
    ]
    for check in checks:
        assert torch.autograd.gradcheck(check, fused)


def test_totals_are_eqs_14_and_17_to_19():
    model = fusionzoo.create_model("chitnet", channels=4, lambda_jg=3.0, lambda_edge=5.0)
    fused, ir, vi = (x.float() for x in images())
    targets = Targets(ir, vi, losses.salient_mean(ir, vi), losses.joint_gradient(ir, vi))
    t = model.mit_losses(fused, targets)
    assert torch.isclose(t["mit"], t["intensity"] + 3 * t["joint_gradient"])
    acquired = model.network.acquire(model.network.transfer(ir, vi))
    t = model.siphia_losses(model.heads_ir(acquired[0]), fused, targets)
    expected = t["reconstruction"] + t["gradient"] + t["content"] + 5 * t["edge"]
    assert torch.isclose(t["siphia"], expected + t["interaction"])


def test_reconstruction_wants_infrared_first():
    _, ir, vi = images()
    for loss in (losses.reconstruction, losses.edge_reconstruction):
        assert loss((ir, vi), ir, vi) == 0
        assert loss((vi, ir), ir, vi) > 0


# Phases


class Probe(Callback):
    """Keeps the weights before every batch.

    ``steps[(epoch, batch)]`` is a copy of all weights before that batch.
    """

    def __init__(self):
        self.steps, self.rates = {}, {}

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        at = trainer.current_epoch, batch_idx
        self.steps[at] = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.rates[at] = [o.param_groups[0]["lr"] for o in trainer.optimizers]


LENGTH, BATCHES = 2, 3
SMALL = {"channels": 8, "phase_epochs": LENGTH, "lr": 0.01, "lr_second": 1e-3}


def train(root, *callbacks, ckpt_path=None, **options):
    torch.manual_seed(0)
    options = {**SMALL, **options}
    model = fusionzoo.create_model("chitnet", **options)
    data = FusionDataModule(str(root), crop_size=24, batch_size=2, pairs_per_epoch=2 * BATCHES)
    trainer = lightning.Trainer(
        max_epochs=5 * options["phase_epochs"],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=len(callbacks) > 1,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=list(callbacks),
    )
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return model, trainer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return real_pairs(tmp_path_factory.mktemp("pairs"), 5)


# The last whole epoch: in the middle of the first three phases, and where they end.
CUTS = [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuts")
    probe = Probe()
    checkpoints = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, every_n_epochs=1)
    return (*train(root, probe, checkpoints), probe, folder)


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def parts(names):
    """The parts of the model that parameters belong to."""
    kinds = {"network.siphia_ir": "ir", "heads_ir": "ir", "network.siphia_vi": "vi"}
    kinds |= {"heads_vi": "vi", "network.decoder": "second", "first_decoder": "first"}
    return {
        next((kind for start, kind in kinds.items() if name.startswith(start)), "mit")
        for name in names
    }


def test_each_phase_trains_its_own_and_nothing_else(straight):
    model, _, probe, _ = straight
    own = [{"mit", "first"}, {"ir", "vi"}, {"mit", "second"}, {"ir", "vi"}, {"mit", "second"}]
    names = set(dict(model.named_parameters()))
    for phase, expected in enumerate(own):
        # The new decoder's start belongs to no step: it lies before a phase's first batch.
        before, after = probe.steps[LENGTH * phase, 0], probe.steps[LENGTH * phase + 1, BATCHES - 1]
        moved = changed(before, after)
        assert moved == {name for name in names if parts([name]) <= expected}, f"phase {phase}"


def test_frozen_parts_have_no_gradient_but_all_can_be_trained_afterwards(straight):
    model, _, _, _ = straight
    assert all(parameter.requires_grad for parameter in model.parameters())
    frozen = {n for n, p in model.named_parameters() if p.grad is None}
    assert not frozen  # every part got gradients in its own phase


def test_second_decoder_starts_as_the_first(straight):
    _, _, probe, _ = straight
    before, at_start = probe.steps[2 * LENGTH - 1, BATCHES - 1], probe.steps[2 * LENGTH, 0]
    assert parts(changed(before, at_start)) == {"ir", "vi", "second"}
    first, second = (f"{name}decoder.mix.weight" for name in ("first_", "network."))
    assert torch.equal(at_start[second][:, :16], at_start[first])
    assert at_start[second][:, 16:].abs().max() == 0
    assert torch.equal(at_start["network.decoder.out.bias"], at_start["first_decoder.out.bias"])


def test_second_decoder_starts_anew_if_asked_to(root):
    probe = Probe()
    train(root, probe, carry_decoder=False, phase_epochs=1)
    before, at_start = probe.steps[0, 0], probe.steps[2, 0]
    assert "second" not in parts(changed(before, at_start))


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_run_cut_after_any_epoch_goes_on_as_if_it_had_not_been(straight, root, cut):
    expected, expected_trainer, whole, folder = straight
    probe = Probe()
    found, trainer = train(root, probe, ckpt_path=folder / f"epoch={cut}.ckpt")
    assert min(probe.steps) == (cut + 1, 0)
    for at, weights in probe.steps.items():
        assert not changed(weights, whole.steps[at]), at
        assert probe.rates[at] == whole.rates[at], at
    assert not changed(dict(expected.named_parameters()), dict(found.named_parameters()))
    assert trainer.global_step == expected_trainer.global_step
    for mine, theirs in zip(trainer.optimizers, expected_trainer.optimizers, strict=True):
        states = [optimizer.state_dict()["state"] for optimizer in (mine, theirs)]
        torch.testing.assert_close(*states, rtol=0, atol=0)


def test_rates_fall_tenfold_each_half_phase_of_an_optimizers_own_epochs(straight):
    """Section IV-B: 1e-3, 1e-4 after 100 epochs, 1e-7 after 400; here from 1e-2."""
    _, _, probe, _ = straight
    rates = torch.tensor([probe.rates[epoch, 0] for epoch in range(5 * LENGTH)]).T
    expected = {
        0: (FIRST, [1e-2, 1e-3]),
        1: (INFRARED, [1e-2, 1e-3]),
        2: (SECOND, [1e-3, 1e-4]),
        3: (VISIBLE, [1e-4, 1e-5]),
        4: (SECOND, [1e-5, 1e-6]),
    }
    for phase, (optimizer, values) in expected.items():
        found = rates[optimizer, LENGTH * phase : LENGTH * (phase + 1)]
        assert torch.allclose(found, torch.tensor(values))


def test_the_paper_s_schedule():
    steps = [decay(own, 200, 0.1) for own in (0, 99, 100, 399, 400)]
    assert steps == pytest.approx([1, 1, 1e-1, 1e-3, 1e-4])
    phases = [phase_of(epoch, 5, 200) for epoch in (0, 199, 200, 400, 999, 1000, 5000)]
    assert phases == [0, 0, 1, 2, 4, 4, 4]


def test_the_first_stage_s_decoder_and_the_heads_are_not_shipped(straight, tmp_path):
    model, _, _, _ = straight
    folder = model.save_pretrained(tmp_path / "saved")
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == set(model.network.state_dict())
    assert not {name for name in names if "first" in name or "heads" in name}
    # ... but training goes on with them.
    assert {"first_decoder.mix.weight", "heads_ir.rec1.weight"} <= set(model.state_dict())


# Ablations


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_ablations_train_every_parameter_of_the_network(root, variant):
    probe = Probe()
    model, trainer = train(root, probe, variant=variant, phase_epochs=1)
    start, end = probe.steps[0, 0], dict(model.named_parameters())
    assert changed(start, end) == set(end)
    names = {part for part, module in model.network.named_children() if module is not None}
    everything = {"encoder_ir", "encoder_vi", "mutual", "siphia_ir", "siphia_vi", "decoder"}
    missing = {"no_mit": {"mutual"}, "no_siphia": {"siphia_ir", "siphia_vi"}}.get(variant, set())
    assert names == everything - missing
    assert len(trainer.optimizers) == (4 if variant in ("full", "no_mit") else 1)
    ir, vi = torch.rand(2, 1, 1, 30, 41)
    with torch.no_grad():
        plain = model.network.eval()(ir, vi)
    assert torch.allclose(model.fuse(ir, vi), plain, atol=1e-5)


def test_without_siphias_the_decoder_reads_the_transferred_features_only():
    network = fusionzoo.create_model("chitnet", channels=6, variant="no_siphia").network
    assert network.decoder.mix.in_channels == 12
    assert network.acquire(network.transfer(*torch.rand(2, 1, 1, 9, 9))) == ()


def test_gain_spreads_fused_images_about_their_mean_and_training_does_without():
    torch.manual_seed(0)
    network = CHITNetNetwork(channels=4, gain=1.5).eval()
    ir, vi = torch.rand(2, 2, 1, 20, 24)
    with torch.no_grad():
        transferred = network.transfer(ir, vi)
        plain = network.reconstruct(transferred, network.acquire(transferred))
        mean = plain.mean((2, 3), keepdim=True)
        assert torch.allclose(network(ir, vi), (mean + 1.5 * (plain - mean)).clamp(0, 1))
    assert mean[0] != mean[1]


def test_end_to_end_minimises_the_sum_of_all_losses(root):
    seen = []

    class Watched(CHITNet):
        def log_losses(self, terms):
            seen.append({key: value.item() for key, value in terms.items()})

    torch.manual_seed(0)
    model = Watched("end_to_end", channels=4, phase_epochs=1)
    data = FusionDataModule(str(root), crop_size=24, batch_size=2, pairs_per_epoch=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, limit_val_batches=0, **quiet
    )
    with pytest.warns(UserWarning, match=r"max_epochs is 1, but 5 phases of 1 epochs are 5"):
        trainer.fit(model, data)
    (terms,) = seen
    assert terms["loss"] == pytest.approx(
        terms["mit"] + terms["siphia_ir"] + terms["siphia_vi"], rel=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [{"variant": "x"}, {"phases": 4}, {"phases": 1}, {"phase_epochs": 0}, {"channels": 5},
     {"attention_scale": 0.0}, {"gain": 0.0}],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        fusionzoo.create_model("chitnet", **options)
