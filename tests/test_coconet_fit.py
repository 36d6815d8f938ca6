"""CoCoNet's two stages in one fit, and what they ask for."""

import lightning
import pytest
import torch
from cli_helpers import pairs_folder
from safetensors.torch import save_file
from test_coconet import small, vgg_tensors

from fusionzoo.data import FusionDataModule

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), [str(n) for n in range(6)], color=False)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(vgg_tensors(), path)
    return str(path)


def fit(model, root, epochs, folder, mask="saliency", ckpt_path=None):
    """Returns the terms of every step, and the checkpoint at the end."""
    steps = []
    log = model.log_losses
    model.log_losses = lambda terms: (steps.append(set(terms)), log(terms))
    data = FusionDataModule(
        str(root), mask=mask, crop_size=32, crop="random", batch_size=3, drop_last=True, seed=1
    )
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    trainer.save_checkpoint(folder / "end.ckpt")
    return steps, folder / "end.ckpt"


def test_contrast_begins_in_the_second_stage_and_resuming_is_exact(root, vgg, tmp_path):
    options = {"first_stage_epochs": 1, "vgg_weights": vgg, "lr": 1e-3}
    for name in "abc":
        (tmp_path / name).mkdir()
    straight = small(**options)
    steps, _ = fit(straight, root, 2, tmp_path / "a")
    assert [{"target", "detail"} & terms for terms in steps] == [set()] * 2 + [
        {"target", "detail"}
    ] * 2

    _, middle = fit(small(**options), root, 1, tmp_path / "b")
    # A checkpoint brings VGG's weights: the file is not asked for again.
    resumed = small(first_stage_epochs=1, lr=1e-3)
    assert not resumed.network.vgg.trained
    steps, _ = fit(resumed, root, 2, tmp_path / "c", ckpt_path=middle)
    assert len(steps) == 2
    expected = straight.state_dict()
    found = resumed.state_dict()
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert resumed.network.vgg.trained
    fresh = small(**options).state_dict()
    moved = {key for key in expected if not torch.equal(expected[key], fresh[key])}
    assert any("mams" in key for key in moved)


def test_second_stage_needs_masks_and_other_pairs(root, vgg, tmp_path):
    with pytest.raises(ValueError, match=r"data\.mask"):
        fit(small(first_stage_epochs=0, vgg_weights=vgg), root, 1, tmp_path, mask=None)
    model = small(first_stage_epochs=0)
    with pytest.raises(ValueError, match="batch_size"):
        model._anchors({"ir": torch.zeros(2, 1, 8, 8), "mask": None})


def test_fresh_training_without_vgg_weights_says_where_to_get_them(root, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(RuntimeError, match=r"vgg_weights"):
        fit(small(), root, 1, tmp_path)


def test_batch_norm_can_be_fixed_for_the_last_epochs(root, vgg, tmp_path):
    def statistics(model):
        return {k: v.clone() for k, v in model.state_dict().items() if "running" in k}

    options = {"first_stage_epochs": 9, "vgg_weights": vgg, "fixed_norm_from": 1}
    first = small(**options)
    _, middle = fit(first, root, 1, tmp_path)
    assert first.network.down1[0].norm.training
    model = small(**options)
    fit(model, root, 2, tmp_path, ckpt_path=middle)
    before, after = statistics(first), statistics(model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not torch.equal(first.network.last.weight, model.network.last.weight)
    assert any(not torch.equal(x, torch.zeros_like(x)) for k, x in before.items() if "mean" in k)
