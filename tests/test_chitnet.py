"""CHITNet: attention and decoder against literal versions, losses, phases, resuming."""

import lightning
import pytest
import torch
from cli_helpers import one_thread
from data_helpers import real_pairs
from lightning.pytorch.callbacks import Callback
from safetensors import safe_open
from torch.nn import functional as F

import fusionzoo
from fusionzoo.data import FusionDataModule
from fusionzoo.models.chitnet.blocks import LinearDecoder
from fusionzoo.models.chitnet.module import VARIANTS, CHITNet
from fusionzoo.models.chitnet.network import SIPHIA, MutualRepresentation
from fusionzoo.models.chitnet.schedule import FIRST, INFRARED, SECOND, VISIBLE, decay, phase_of

# What Lightning remarks on such short runs is not the matter here.
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")


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


# Phases


class Probe(Callback):
    """Keeps the weights before every batch, and writes checkpoints after those that are asked for.

    ``steps[(epoch, batch)]`` is a copy of all weights before that batch.
    """

    def __init__(self, folder=None, after=()):
        self.folder, self.after = folder, after
        self.steps, self.rates = {}, {}

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        at = trainer.current_epoch, batch_idx
        self.steps[at] = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.rates[at] = [o.param_groups[0]["lr"] for o in trainer.optimizers]

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) in self.after:
            name = f"{trainer.current_epoch}-{batch_idx}.ckpt"
            trainer.save_checkpoint(self.folder / name)


LENGTH, BATCHES = 2, 3
SMALL = {"channels": 8, "phase_epochs": LENGTH, "lr": 0.01, "lr_second": 1e-3}


def train(root, probe, ckpt_path=None, **options):
    torch.manual_seed(0)
    model = fusionzoo.create_model("chitnet", **{**SMALL, **options})
    data = FusionDataModule(str(root), crop_size=24, batch_size=2, pairs_per_epoch=2 * BATCHES)
    trainer = lightning.Trainer(
        max_epochs=5 * LENGTH,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[probe],
    )
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return model, trainer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return real_pairs(tmp_path_factory.mktemp("pairs"), 5)


# In the middle of each phase's second epoch, and in that of the first one of the second phaseM.
CUTS = [(LENGTH * phase + 1, 1) for phase in range(5)] + [(2 * LENGTH, 0)]


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuts")
    probe = Probe(folder, CUTS)
    with one_thread():
        return (*train(root, probe), probe, folder)


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
    train(root, probe, carry_decoder=False)
    before, at_start = probe.steps[0, 0], probe.steps[2 * LENGTH, 0]
    assert "second" not in parts(changed(before, at_start))


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_run_cut_in_any_phase_goes_on_as_if_it_had_not_been(straight, root, cut):
    expected, expected_trainer, whole, folder = straight
    probe = Probe()
    found, trainer = train(root, probe, folder / f"{cut[0]}-{cut[1]}.ckpt")
    assert min(probe.steps) == (cut[0], cut[1] + 1)
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
    model, trainer = train(root, probe, variant=variant)
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
    trainer.fit(model, data)
    (terms,) = seen
    assert terms["loss"] == pytest.approx(
        terms["mit"] + terms["siphia_ir"] + terms["siphia_vi"], rel=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [{"variant": "x"}, {"phases": 4}, {"phases": 1}, {"phase_epochs": 0}, {"channels": 5},
     {"attention_scale": 0.0}],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        fusionzoo.create_model("chitnet", **options)
