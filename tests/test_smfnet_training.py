"""SMFNet's losses, schedule and two stages."""

import lightning
import numpy as np
import pytest
import torch
from cli_helpers import asset, pairs_folder
from kornia.filters import sobel
from test_smfnet import small

from fusionzoo.data import FusionDataModule
from fusionzoo.models.smfnet.losses import (
    brightest_loss,
    correlation,
    decomposition,
    dissimilarity,
    edge_loss,
    edges,
    gradient_loss,
    has_contrast,
    intensity_loss,
    memberships,
    semantic_loss,
    strongest_edge_loss,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), [str(n) for n in range(4)], color=False)


def real_pair(size=48):
    images = [asset(name).astype(np.float32) / 255 for name in ("ir", "vi")]
    images = [image.mean(-1) if image.ndim == 3 else image for image in images]
    return [torch.from_numpy(image)[None, None, :size, :size].contiguous() for image in images]


# Terms


@pytest.mark.parametrize(
    "loss", [dissimilarity, edge_loss, gradient_loss, intensity_loss, semantic_loss]
)
def test_rebuilding_terms_are_zero_for_a_perfect_rebuild_only(loss):
    ir, vi = real_pair()
    both = torch.cat([ir, vi])
    assert torch.allclose(loss(both, both), torch.zeros(2), atol=1e-5)
    worse = [loss((both * factor + 0.02), both) for factor in (0.9, 0.5)]
    assert (worse[0] > 1e-6).all()
    assert (worse[1] > worse[0]).all()
    assert torch.allclose(loss(worse_first := both.flip(0), both)[1:], loss(worse_first[1:], vi))


@pytest.mark.parametrize("loss", [edge_loss, gradient_loss, intensity_loss, semantic_loss])
def test_gradcheck_of_the_rebuilding_terms(loss):
    generator = torch.Generator().manual_seed(0)
    image, source = torch.rand(2, 2, 1, 6, 7, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, source), image.requires_grad_())


def test_memberships_are_shares_of_the_two_nearest_levels():
    image = torch.tensor([0.0, 0.1, 0.5, 1.0]).view(1, 1, 2, 2)
    found = memberships(image, 6).flatten(2)[0].T
    expected = torch.tensor(
        [[1, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0, 1]]
    )
    assert torch.allclose(found, expected, atol=1e-5)


def test_semantic_term_is_the_jaccard_loss_of_grey_levels():
    """On pixels that lie on levels the Lovász extension is the mean of 1 - IoU itself."""
    generator = torch.Generator().manual_seed(0)
    source, image = torch.randint(0, 4, (2, 1, 1, 8, 9), generator=generator)
    source[source == 3] = 2  # a level that the source has not does not count
    ious = [
        ((source == level) & (image == level)).sum() / ((source == level) | (image == level)).sum()
        for level in range(3)
    ]
    found = semantic_loss(image / 3, source / 3, bins=4)
    assert found.item() == pytest.approx(1 - sum(ious).item() / 3, abs=1e-5)


def test_semantic_term_teaches():
    """Gradient descent on it alone brings an image nearer to its source."""
    _, source = real_pair(24)
    image = (0.9 * source + 0.04).requires_grad_()
    before = (image.detach() - source).abs().mean()
    for _ in range(30):
        (gradient,) = torch.autograd.grad(semantic_loss(image, source).sum(), image)
        image = (image - 0.002 * gradient.sign()).detach().requires_grad_()
    assert gradient.any()
    assert (image.detach() - source).abs().mean() < 0.5 * before


def test_correlation_is_pearsons_by_channel_with_gradient():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 2, 3, 5, 6, generator=generator, dtype=torch.float64)
    expected = [
        np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, two, strict=True)])
        for one, two in zip(first.numpy(), second.numpy(), strict=True)
    ]
    assert correlation(first, second).tolist() == pytest.approx(expected)
    assert torch.allclose(correlation(first, 3 * first + 1), torch.ones(2, dtype=torch.float64))
    assert torch.autograd.gradcheck(correlation, (first.requires_grad_(), second.requires_grad_()))


def test_constant_features_are_uncorrelated_and_harmless():
    constant = torch.full((1, 2, 4, 4), 0.3, requires_grad=True)
    value = correlation(constant, torch.rand(1, 2, 4, 4))
    value.sum().backward()
    assert value.abs() < 1e-3
    assert torch.isfinite(constant.grad).all()


def test_decomposition_is_eqs_26_and_27():
    detail, base, graph = (torch.tensor([value]) for value in (0.5, 0.2, -0.3))
    assert decomposition(detail, base).item() == pytest.approx(0.25 / 1.21)
    assert decomposition(detail, base, graph).item() == pytest.approx(0.34 / 1.21)


def test_fusing_terms_follow_the_greater_source():
    ir, vi = real_pair()
    assert brightest_loss(torch.maximum(ir, vi), ir, vi) == 0
    assert brightest_loss(vi, ir, vi) > 0
    assert strongest_edge_loss(vi, vi, torch.full_like(vi, 0.5)) == 0
    expected = (edges(ir) - torch.maximum(edges(ir), edges(vi))).abs().mean()
    assert strongest_edge_loss(ir, ir, vi).item() == pytest.approx(expected.item())
    ramp = torch.arange(8.0).expand(1, 1, 6, 8) / 8
    inner = edges(ramp)[..., 1:-1, 1:-1]
    assert torch.allclose(inner, 8 * sobel(ramp, eps=0.0)[..., 1:-1, 1:-1], atol=1e-4)


def test_contrast_is_the_spread_of_the_middle_grey_values():
    ramp = torch.linspace(0.5, 1, 100).view(1, 1, 10, 10)
    low, high = np.percentile(ramp.numpy(), [10, 90])
    ratio = (high - low) / high
    images = torch.cat([ramp, torch.full_like(ramp, 0.4), torch.zeros_like(ramp)])
    assert has_contrast(images, 0.98 * ratio).tolist() == [True, False, False]
    assert not has_contrast(ramp, 1.02 * ratio)
    assert has_contrast(images, 0).tolist() == [True, True, False]


# Stages


def losses_of(model, stage):
    ir, vi = (image.repeat(2, 1, 1, 1) for image in real_pair(24))
    if stage == 1:
        return model.first_stage_losses(ir, vi, model.network.reconstruct(ir, vi))
    return model.second_stage_losses(ir, vi, model.network.fuse(ir, vi))


def test_totals_are_eqs_17_to_19_and_28():
    weights = {"alpha1": 1.5, "alpha2": 2.5, "alpha3": 3.5, "alpha4": 4.5, "alpha5": 5.5}
    model = small(**weights, beta1=6.5)
    found = losses_of(model, 1)
    expected = (
        3.5 * (found["ssim_vi"] + found["ssim_ir"]) + 6.5 * (found["edges_vi"] + found["edges_ir"])
        + found["semantic"] + found["intensity"] + 1.5 * found["decomposition"]
        + 2.5 * found["gradient"]
    )  # fmt: skip
    assert torch.allclose(found["loss"], expected)
    found = losses_of(model, 2)
    expected = found["fused_intensity"] + 4.5 * found["fused_decomposition"]
    assert torch.allclose(found["loss"], expected + 5.5 * found["fused_gradient"])


def test_ablations_of_the_losses():
    full = losses_of(small(), 1)
    assert not {"semantic", "intensity"} & losses_of(small(appearance=False), 1).keys()
    both = losses_of(small(graph_term="both"), 1)
    assert (both["decomposition"] > full["decomposition"]).all(), "a square more"
    second, never = (losses_of(small(graph_term=term), 2) for term in ("second", "none"))
    assert (second["fused_decomposition"] > never["fused_decomposition"]).all()
    without = losses_of(small(graph=False, graph_term="both"), 2)
    assert torch.isfinite(without["loss"]).all()


@pytest.mark.parametrize("stage", [1, 2])
def test_every_branch_learns_from_the_correlations(stage):
    model = small(graph_term="both")
    terms = losses_of(model, stage)
    terms["decomposition" if stage == 1 else "fused_decomposition"].sum().backward()
    for branch in (model.network.base, model.network.detail, model.network.graph.ir.merge):
        assert any(p.grad is not None and p.grad.any() for p in branch.parameters())


def test_rates_halve_to_the_floor_and_fusion_layers_start_later():
    model = small(lr=1e-4, first_stage_epochs=40)
    made = model.configure_optimizers()
    groups = made["optimizer"].param_groups
    fusion = {*model.network.base_fusion.parameters(), *model.network.detail_fusion.parameters()}
    assert set(groups[1]["params"]) == fusion
    assert set(groups[0]["params"]) | fusion == set(model.network.parameters())
    rates = []
    for _ in range(300):
        rates.append([group["lr"] for group in groups])
        made["optimizer"].step()
        made["lr_scheduler"].step()
    assert [rates[epoch][0] for epoch in (0, 19, 20, 40, 119)] == pytest.approx(
        [1e-4, 1e-4, 5e-5, 2.5e-5, 3.125e-6]
    )
    assert [rates[epoch][1] for epoch in (0, 59, 60, 119)] == pytest.approx(
        [1e-4, 1e-4, 5e-5, 1.25e-5]
    )
    assert rates[-1] == pytest.approx([1e-6, 1e-6])
    joint = small(two_stage=False).configure_optimizers()["lr_scheduler"]
    assert joint.lr_lambdas[0](20) == joint.lr_lambdas[1](20) == 0.5


def fit(model, root, epochs, folder, every=None, ckpt_path=None):
    """Terms of every step; checkpoints ``<folder>/step<N>.ckpt`` after each epoch on demand."""
    steps = []
    log = model.log_losses

    def note(terms):
        steps.append({key: value.item() for key, value in terms.items()})
        log(terms)

    model.log_losses = note
    data = FusionDataModule(
        str(root), crop_size=24, crop="random", flip=True, batch_size=2, seed=1, cache=True
    )
    callbacks = [every] if every else []
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
        enable_checkpointing=bool(every),
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return steps, trainer


OPTIONS = {"first_stage_epochs": 1, "lr": 1e-3, "lr_step": 1, "min_contrast": 0.0}


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory):
    """Two stages of an epoch (two steps) each, with a checkpoint at every epoch's end."""
    folder = tmp_path_factory.mktemp("straight")
    every = lightning.pytorch.callbacks.ModelCheckpoint(
        folder,
        "step{step}",
        auto_insert_metric_name=False,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        save_top_k=-1,
    )
    model = small(**OPTIONS)
    steps, trainer = fit(model, root, 2, folder, every)
    return model, steps, trainer, folder


def test_stages_change_by_the_epoch(straight):
    _, steps, _, _ = straight
    assert ["ssim_vi" in terms for terms in steps] == [True, True, False, False]
    assert ["fused_intensity" in terms for terms in steps] == [False, False, True, True]
    joint, _ = fit(small(**OPTIONS, two_stage=False), *_rest(straight))
    assert all("fused_intensity" in terms for terms in joint)


def _rest(straight):
    _, _, trainer, folder = straight
    return trainer.datamodule.roots["train"][0], 1, folder


def test_first_stage_leaves_the_fusion_layers_alone(straight):
    fresh = small(**OPTIONS).state_dict()
    _, _, _, folder = straight
    after = torch.load(folder / "step2.ckpt", weights_only=True)["state_dict"]
    moved = {key.split(".")[1] for key in fresh if not torch.equal(fresh[key], after[key])}
    assert moved == {"encoder", "base", "detail", "graph", "decoder"}
    assert torch.equal(after["network.graph.merge.weight"], fresh["network.graph.merge.weight"])
    end = straight[0].state_dict()
    moved = {key.split(".")[1] for key in fresh if not torch.equal(after[key], end[key])}
    assert {"base_fusion", "detail_fusion"} <= moved


def test_resuming_between_the_stages_is_exact(straight, root, tmp_path):
    model, expected, trainer, folder = straight
    resumed = small(**OPTIONS)
    steps, again = fit(resumed, root, 2, tmp_path, ckpt_path=folder / "step2.ckpt")
    assert steps == expected[2:]
    found, wanted = resumed.state_dict(), model.state_dict()
    assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []
    one, other = (t.optimizers[0].state_dict()["param_groups"] for t in (trainer, again))
    assert [group["lr"] for group in one] == [group["lr"] for group in other]


def test_pairs_without_contrast_do_not_count(monkeypatch):
    model = small(min_contrast=0.1)
    ir, vi = torch.rand(2, 3, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    vi[1] = 0.5
    ir[2] = 0
    assert model._used(ir, vi).tolist() == [1, 0, 0]
    assert small(min_contrast=0)._used(ir[:2], vi[:2]).tolist() == [1, 1]
    given = {}
    monkeypatch.setattr(
        model, "step_optimizer", lambda loss, *_, **more: given.update(loss=loss, **more)
    )
    monkeypatch.setattr(model, "optimizers", lambda: None)
    monkeypatch.setattr(model, "log_losses", lambda terms: given.update(terms=terms))
    model.network.eval()  # batch norm would mix the pairs
    model.training_step({"ir": ir, "vi": vi}, 0)
    alone = model.first_stage_losses(ir[:1], vi[:1], model.network.reconstruct(ir[:1], vi[:1]))
    assert given["loss"].item() == pytest.approx(alone["loss"].item(), rel=1e-4)
    assert given["clip_norm"] == 0.01
    assert given["terms"]["used"].item() == pytest.approx(1 / 3)
    model.training_step({"ir": ir[1:], "vi": vi[1:]}, 0)
    assert given["loss"] == 0, "nothing left is no error"
