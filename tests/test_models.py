"""Every registered model keeps the same contract."""

import copy
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import fusionzoo
from fusionzoo.errors import InputError, InputTypeError, OutOfMemoryError
from fusionzoo.models import MODELS
from fusionzoo.module import FusionModule
from fusionzoo.network import check_network

MODEL_NAMES = sorted(MODELS)


@pytest.fixture(scope="module", params=MODEL_NAMES)
def model(request):
    torch.manual_seed(0)
    return fusionzoo.create_model(request.param).eval()


def images(height, width, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, 1, height, width, generator=generator).unbind()


def test_network_declares_what_it_needs(model):
    network = type(model.network)
    low, high = network.value_range
    assert low < high
    assert network.size_multiple >= 1
    assert network.min_size >= 1
    assert network.bytes_per_pixel > 0
    check_network(model.network)


def test_a_network_that_does_not_declare_what_it_needs_is_refused():
    class Bare(torch.nn.Module):
        size_multiple = 1

    with pytest.raises(InputTypeError, match="Bare does not declare value_range, min_size, for_"):
        FusionModule(Bare())


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"device": "cuda:99"},
        {"device": "gpu"},
        {"grad": 1},
        {"batch_size": True},
        {"color": "no"},
        {"resize": "vis"},
        {"ir_range": (1, 0)},
    ],
    ids=str,
)
def test_wrong_options_are_refused_by_name_before_anything_else(model, options):
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}(=| must be)"):
        model.fuse("no/such.png", "no/such.png", **options)


def test_a_picture_that_needs_more_memory_than_there_is_is_refused(model, monkeypatch):
    monkeypatch.setenv("FUSIONZOO_MEMORY_GB", "0.2")
    ir = torch.zeros(1, 1500, 2000)
    with pytest.raises(OutOfMemoryError, match=r"2000 x 1500 .* takes about .* GB.*lapnet"):
        model.fuse(ir, ir, tile="off")


@pytest.mark.parametrize("size", [(33, 47), (64, 1000), (2, 2), (5, 120)], ids=str)
def test_fuse_takes_any_size(model, size):
    ir, vi = images(*size)
    fused = model.fuse(ir, vi)
    assert fused.shape == vi.shape
    assert torch.isfinite(fused).all()
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_declared_sizes_are_what_the_network_takes(model):
    network = model.network
    side = network.size_multiple * -(-network.min_size // network.size_multiple)
    ir, vi = images(side, side + network.size_multiple)
    low, high = network.value_range
    with torch.no_grad():
        fused = network(ir * (high - low) + low, vi * (high - low) + low)
    assert fused.shape == vi.shape


def test_network_returns_the_same_kind_in_train_and_eval(model):
    network = copy.deepcopy(model.network).train()
    ir, vi = images(64, 64, batch=2)
    with torch.no_grad():
        assert network(ir, vi).shape == network.eval()(ir, vi).shape == ir.shape


def test_inference_copy_computes_the_same(model):
    """Folding and merging for speed must not change the picture."""
    network = model.network
    ir, vi = images(64, 96, batch=2)
    low, high = network.value_range
    with torch.no_grad():
        plain = network(ir * (high - low) + low, vi * (high - low) + low)
        plain = ((plain - low) / (high - low)).clamp(0, 1)
    assert torch.allclose(model.fuse(ir, vi, batch_size=2), plain, atol=1e-5)


def test_batch_equals_singles(model):
    ir, vi = images(40, 56, batch=3)
    together = model.fuse(ir, vi, batch_size=3)
    singles = torch.cat([model.fuse(i[None], v[None]) for i, v in zip(ir, vi, strict=True)])
    assert torch.allclose(together, singles, atol=1e-5)


def test_fuse_ignores_and_keeps_the_training_flag(model):
    ir, vi = images(40, 56)
    expected = model.fuse(ir, vi)
    model.train()
    try:
        assert torch.equal(model.fuse(ir, vi), expected)
        assert all(module.training for module in model.modules())
        state = copy.deepcopy(model.state_dict())
        model.fuse(ir, vi, grad=True)
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    finally:
        model.eval()


def test_fuse_leaves_no_trace(model):
    ir, vi = images(40, 56)
    keys = set(vars(model)), set(vars(model.network))
    rng, dtype = torch.get_rng_state(), torch.get_default_dtype()
    with torch.enable_grad():
        fused = model.fuse(ir, vi)
        assert torch.is_grad_enabled()
    assert not fused.requires_grad
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.get_default_dtype() == dtype
    assert (set(vars(model)), set(vars(model.network))) == keys
    assert torch.equal(model.fuse(ir, vi), fused), "same input, same output, bit for bit"


def test_fuse_follows_changed_weights(model):
    """The copy made for inference must not outlive the weights it was made from."""
    changed = copy.deepcopy(model)
    ir, vi = images(40, 56)
    before = changed.fuse(ir, vi)
    with torch.no_grad():
        for parameter in changed.network.parameters():
            parameter.mul_(1.5).add_(0.01)
    assert not torch.equal(changed.fuse(ir, vi), before)
    assert torch.equal(model.fuse(ir, vi), before)


def test_threads_share_a_model(model):
    shared = copy.deepcopy(model)  # no inference copy yet: threads race to make it
    pairs = [images(40, 56, seed=seed) for seed in range(4)]
    results = [None] * len(pairs)

    def work(index):
        results[index] = shared.fuse(*pairs[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (ir, vi), result in zip(pairs, results, strict=True):
        assert torch.equal(result, model.fuse(ir, vi))


def test_gradients_reach_inputs_and_parameters(model):
    ir, vi = images(40, 56)
    ir.requires_grad_()
    vi.requires_grad_()
    twin = copy.deepcopy(model)
    twin.fuse(ir, vi, grad=True).mean().backward()
    assert ir.grad.abs().sum() > 0
    assert vi.grad.abs().sum() > 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in twin.network.parameters())


def test_bfloat16(model):
    ir, vi = images(40, 56)
    rough = model.fuse(ir, vi, dtype=torch.bfloat16)
    assert rough.dtype == vi.dtype
    assert (rough - model.fuse(ir, vi)).abs().mean() < 0.02
    assert next(model.network.parameters()).dtype == torch.float32


def test_colour_of_the_visible_image_is_kept(model):
    rgb = np.asarray(Image.effect_mandelbrot((56, 40), (-2, -1, 1, 1), 50))
    rgb = np.stack([rgb // 2 + 40, rgb // 3 + 60, 200 - rgb // 2], -1).astype(np.uint8)
    ir = np.full((40, 56), 90, np.uint8)
    fused = model.fuse(ir, rgb)
    assert fused.shape == rgb.shape
    assert fused.dtype == np.uint8
    assert model.fuse(ir, rgb, color=False).shape == ir.shape


def test_saved_model_loads_back_and_fuses_the_same(model, tmp_path):
    ir, vi = images(40, 56)
    loaded = fusionzoo.load(model.save_pretrained(tmp_path / "saved"))
    assert not loaded.training
    assert loaded.options == model.options
    assert torch.equal(loaded.fuse(ir, vi), model.fuse(ir, vi))


def test_pretrained_models_come_in_eval_mode_and_name_their_modalities():
    for name in fusionzoo.list_models(pretrained=True):
        model = fusionzoo.load(name)
        assert not model.training
        assert tuple(model.modalities) == MODELS[model.name].modalities_of(name)
