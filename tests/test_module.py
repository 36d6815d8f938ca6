"""What a model is to its users beyond the contract that all models keep: test_models has that."""

import copy
import threading

import pytest
import torch

import fusionzoo
from fusionzoo.errors import InputError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    model = fusionzoo.create_model("didfuse", channels=4, rule="average")
    return model.save_pretrained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def model(trained):
    return fusionzoo.load(trained)


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, 40, 56, generator=generator).unbind()


def by_data(model):
    for parameter in model.network.parameters():
        parameter.data.mul_(1.5)


def by_numpy(model):
    for parameter in model.network.parameters():
        array = parameter.detach().numpy()
        array *= 1.5


def by_option(model):
    model.network.fusion.rule = "l1"


def by_new_network(model):
    model.network = fusionzoo.create_model("didfuse", channels=4).network


@pytest.mark.parametrize("change", [by_data, by_numpy, by_option, by_new_network])
def test_fuse_follows_the_model_however_it_changes(model, change):
    pair = images()
    before = model.fuse(*pair)
    change(model)
    after = model.fuse(*pair)
    assert not torch.equal(after, before)
    assert torch.equal(after, copy.deepcopy(model).fuse(*pair))


def test_prepared_fuses_as_the_model_did(model):
    pairs = [images(seed) for seed in range(3)]
    expected = [model.fuse(*pair) for pair in pairs]
    fuse = model.prepared()
    by_data(model)
    by_option(model)
    assert all(
        torch.equal(fuse(*pair), result) for pair, result in zip(pairs, expected, strict=True)
    )
    rgb = torch.rand(3, 40, 56)
    assert fuse(images()[0], rgb, color=False).shape == (1, 40, 56)
    rough = model.prepared(dtype=torch.bfloat16)
    assert torch.equal(rough(*pairs[0]), model.fuse(*pairs[0], dtype=torch.bfloat16))


def test_threads_leave_the_random_state(model):
    state = torch.get_rng_state()
    threads = [threading.Thread(target=model.fuse, args=images()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)


def test_models_loaded_in_inference_mode_fuse(trained, model):
    expected = model.fuse(*images())
    with torch.inference_mode():
        inside = fusionzoo.load(trained)
        assert torch.equal(inside.fuse(*images()), expected)
        assert torch.equal(model.fuse(*images()), expected)
    assert torch.equal(inside.fuse(*images()), expected)
    assert torch.equal(inside.prepared()(*images()), expected)


def wrapped(model, backend):
    model.network = torch.compile(model.network, backend=backend)


def in_place(model, backend):
    model.network.compile(backend=backend)


@pytest.mark.parametrize("compiled", [wrapped, in_place])
def test_compiled_networks_fuse_and_are_saved(model, compiled, tmp_path):
    pair = images()
    expected = model.fuse(*pair)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled(model, backend)
    assert torch.allclose(model.fuse(*pair), expected, atol=1e-5)
    assert graphs, "the compiled network itself has to run"
    by_data(model)
    changed = model.fuse(*pair)
    assert not torch.allclose(changed, expected, atol=1e-3)

    model.train()  # as it is, it would fuse by the statistics of the batch
    assert torch.allclose(model.fuse(*pair), changed, atol=1e-5)
    assert model.network.training
    assert model.fuse(*pair, dtype=torch.bfloat16).dtype == torch.float32
    vi = pair[1].clone().requires_grad_()
    model.fuse(pair[0], vi, grad=True).mean().backward()
    assert vi.grad.abs().sum() > 0
    assert torch.allclose(model.prepared()(*pair), changed, atol=1e-5)
    loaded = fusionzoo.load(model.save_pretrained(tmp_path / "saved"))
    assert torch.allclose(loaded.fuse(*pair), changed, atol=1e-5)


def test_gradients_are_refused_elsewhere(model):
    with pytest.raises(InputError, match=r"grad=True runs on the model as it is .* move it there"):
        model.fuse(*images(), grad=True, dtype=torch.float64)
