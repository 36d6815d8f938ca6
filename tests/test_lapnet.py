"""LapNet: what the page says of the method holds in the code."""

import pytest
import safetensors.torch
import torch
from cli_helpers import pairs_folder
from data_helpers import asset

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.models.lapnet import losses
from fusionzoo.models.lapnet.network import bounded, double, halve


@pytest.fixture(scope="module")
def pair():
    ir, vi = (torch.tensor(asset(name)).float() / 255 for name in ("tno_ir.png", "tno_vi.png"))
    return ir[None, None, :64, :96], vi[None, None, :64, :96]


@pytest.fixture
def network():
    """A network that says something: its last layers do not stand at zero."""
    torch.manual_seed(0)
    network = fusionzoo.create_model("lapnet", channels=8, levels=3).network
    for layer in (network.blocks[0].say, network.mix):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return network.eval()


def descent(model, pair, term, lr, steps):
    """One term of the losses at each step of Adam on their sum."""
    optimizer = torch.optim.Adam(model.network.parameters(), lr)
    values = []
    for _ in range(steps):
        terms = model.losses(model.network(*pair), *pair)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        values.append(terms[term].item())
    return values


def test_the_pyramid_is_exact(pair):
    both = torch.cat(pair, 1)
    low = halve(both)
    assert low.shape[-2:] == (32, 48)
    torch.testing.assert_close(both - double(low) + double(low), both)
    flat = torch.full((1, 1, 8, 8), 0.3)
    torch.testing.assert_close(halve(flat), flat[..., ::2, ::2])
    # A slope stays where it is: neither filter shifts the image.
    slope = torch.arange(64.0).expand(1, 1, 64, 64)
    torch.testing.assert_close(double(halve(slope))[..., 8:-8], slope[..., 8:-8])


def test_halving_and_doubling_are_each_other_turned_round(pair):
    image, small = pair[0][..., 8:-8, 8:-8], torch.rand(1, 1, 24, 40)
    inner = torch.zeros_like(double(small))
    inner[..., 4:-4, 4:-4] = image[..., 4:-4, 4:-4]
    left, right = (halve(inner) * small).sum(), (inner * double(small)).sum() / 4
    torch.testing.assert_close(left, right)


def test_untrained_it_is_a_plain_pyramid(pair):
    """Gains of 1 and the mean of the bases: the sum of both, less the mean of their bases."""
    ir, vi = pair
    network = fusionzoo.create_model("lapnet", channels=8, levels=2, bound=None).network
    low = halve(halve(torch.cat(pair, 1))).mean(1, keepdim=True)
    torch.testing.assert_close(network(ir, vi), ir + vi - double(double(low)), atol=1e-6, rtol=0)


def test_results_keep_to_the_sources_around(pair, network):
    ir, vi = pair
    fused = network(ir, vi)
    high = torch.nn.functional.max_pool2d(torch.maximum(ir, vi), 3, 1, 1)
    low = -torch.nn.functional.max_pool2d(-torch.minimum(ir, vi), 3, 1, 1)
    margin = network.bound * (high - low) + 1e-6
    assert (fused <= high + margin).all()
    assert (fused >= low - margin).all()
    torch.testing.assert_close(
        bounded(ir * 3 - 1, ir, vi, 0.0).clamp(low, high), bounded(ir * 3 - 1, ir, vi, 0.0)
    )


def test_where_both_are_flat_and_equal_the_result_equals_them(network):
    """Black background stays black: corrections and gains have nothing to act on."""
    ir, vi = torch.rand(2, 1, 1, 96, 96).unbind()
    ir[..., 40:], vi[..., 40:] = 0, 0
    assert (network(ir, vi)[..., 41:] == 0).all()


def test_it_runs_in_mixed_precision(pair, network):
    with torch.no_grad():
        whole = network(*pair)
        with torch.autocast("cpu", torch.bfloat16):
            assert (network(*pair) - whole).abs().mean() < 0.02


def test_what_lies_beyond_the_reach_does_not_matter(network):
    reach, side = network.reach, 32 * -(-(2 * network.reach + 64) // 32)
    ir, vi = torch.rand(2, 1, 1, 32, side).unbind()
    middle = side // 2
    changed = ir.clone()
    changed[..., middle + reach + 1 :] = 0
    assert reach < 200
    with torch.no_grad():
        one, other = network(ir, vi), network(changed, vi)
    torch.testing.assert_close(one[..., : middle + 1], other[..., : middle + 1], atol=1e-6, rtol=0)
    assert not torch.allclose(one[..., middle + reach + 1 :], other[..., middle + reach + 1 :])


@pytest.mark.parametrize(
    "options",
    [
        {"shared": False},
        {"residual": 0.0},
        {"bound": None},
        {"base": "mean"},
        {"base": "max"},
        {"levels": 3},
        {"depth": 0},
    ],
    ids=str,
)
def test_ablations_train(options, pair):
    torch.manual_seed(0)
    model = fusionzoo.create_model("lapnet", channels=8, **options)
    values = descent(model, pair, "loss", lr=2e-3, steps=4)
    assert values[-1] < values[0]
    assert all(p.grad is not None for p in model.network.parameters())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore:::lightning")
@pytest.mark.parametrize("config", ["lapnet", "lapnet.tiny", "lapnet.medical"])
def test_every_configuration_trains_from_the_command_line(config, tmp_path):
    root = pairs_folder(tmp_path / "pairs", ["a", "b"], size=64)
    arguments = ["fit", "--config", config, f"--data.root={root}", "--data.holdout=0"]
    arguments += ["--data.ir_dir=ir", "--data.vi_dir=vi", "--data.crop_size=64"]
    arguments += ["--data.pairs_per_epoch=2", "--data.batch_size=2"]
    arguments += ["--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    arguments += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(arguments) == 0
    (trained,) = (tmp_path / "runs").glob("version_*/pretrained")
    network = fusionzoo.load(trained).network
    assert network.blocks[0].say.weight.abs().max() > 0  # it started at 0


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore:::lightning")
def test_a_network_learns_from_a_teacher(pair, tmp_path):
    torch.manual_seed(0)
    terms = [f"weight_{name}" for name in ("vif", "qabf", "ssim", "scd", "brightness", "target")]
    alone = dict.fromkeys(terms, 0.0)
    model = fusionzoo.create_model("lapnet", channels=8, depth=1, teacher="lapnet", **alone)
    model.on_fit_start()
    values = descent(model, pair, "teacher", lr=5e-3, steps=20)
    assert values[-1] < 0.7 * values[0]
    model.save_pretrained(tmp_path)  # without the teacher
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert state.keys() == model.network.state_dict().keys()
    assert len(state) == len(list(model.network.parameters()))


def test_a_teacher_is_a_lapnet(tmp_path):
    with pytest.raises(ValueError, match="didfuse; give those of a lapnet"):
        fusionzoo.create_model("lapnet", teacher="didfuse").on_fit_start()
    with pytest.raises(FileNotFoundError, match=r"config\.json does not exist"):
        fusionzoo.create_model("lapnet", teacher=str(tmp_path)).on_fit_start()


def test_the_sum_of_its_terms_is_the_loss(pair):
    ir, vi = pair
    model = fusionzoo.create_model("lapnet", weight_choice=2.0, weight_scd=0.0)
    terms = model.losses((ir + vi) / 2, ir, vi)
    total = terms.pop("loss")
    assert "scd" not in terms
    expected = sum(model.hparams[f"weight_{name}"] * value for name, value in terms.items())
    torch.testing.assert_close(total, expected)


def test_loss_terms_are_zero_at_what_they_ask_for(pair):
    ir, vi = pair
    assert losses.target_loss(ir, ir) == 0
    assert losses.choice_loss(torch.maximum(ir, vi), ir, vi) == 0
    assert losses.choice_loss((ir + vi) / 2, ir, vi) > 0
    assert losses.brightness_loss(torch.maximum(ir, vi), ir, vi) == 0
    assert losses.overshoot_loss(torch.tensor([-0.5, 0.5, 2.0])) == pytest.approx(0.5)


def test_hotness_marks_what_is_hotter_than_its_surroundings():
    ir = torch.full((1, 1, 64, 64), 0.2)
    ir[..., 28:36, 28:36] = 0.9
    hot = losses.hotness(ir)
    assert hot[..., 30:34, 30:34].min() > 0.99
    assert hot[..., :10, :10].max() < 0.1


@pytest.mark.parametrize(
    ("option", "value"),
    [("levels", 6), ("channels", 0), ("residual", 2.0), ("bound", -1.0), ("base", "median")],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        fusionzoo.create_model("lapnet", **{option: value})
