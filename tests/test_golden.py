"""Published weights give the results stored for them."""

from __future__ import annotations

import golden
import pytest
import torch
from golden import GOLDEN, TOLERANCE, fused_by, made_with, problem, store
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import fusionzoo

KEYS = fusionzoo.list_models(pretrained=True)


@pytest.mark.parametrize("key", KEYS)
def test_output_is_the_golden_one(key):
    assert problem(key) is None


def test_no_golden_output_is_left_over():
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(
        f"{key}.safetensors" for key in KEYS
    )


@pytest.mark.parametrize("key", KEYS)
def test_golden_outputs_are_pictures(key):
    golden = load_file(GOLDEN / f"{key}.safetensors")["fused"]
    assert golden.dtype == torch.float32
    assert golden.shape[0] == (3 if fusionzoo.load(key).color_from == "ir" else 1)
    assert 0 <= golden.min() < golden.max() <= 1
    # Little of it is clipped, so that it tells what the network does.
    assert ((golden == 0) | (golden == 1)).float().mean() < 0.5
    assert golden.std() > 0.05


def test_problems_are_told_apart(tmp_path):
    key = KEYS[0]
    assert "no golden output of these weights; store it with python tools/" in problem(
        key, tmp_path
    )
    path = store(key, tmp_path)
    assert path.read_bytes() == store(key, tmp_path).read_bytes()
    assert problem(key, tmp_path) is None
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"made_with": made_with(key)}

    golden, now = load_file(path)["fused"], {"made_with": made_with(key)}
    shifted = golden.clone()
    shifted[0, 3, 5] += 1.5 * TOLERANCE
    save_file({"fused": shifted}, path, now)
    assert "the output differs from the golden one by up to 0.00015" in problem(key, tmp_path)
    save_file({"fused": golden * torch.nan}, path, now)
    assert "the output differs" in problem(key, tmp_path)
    save_file({"fused": golden[..., 1:].contiguous()}, path, now)
    assert "shape" in problem(key, tmp_path)
    save_file({"fused": golden}, path, {"made_with": "0" * 16})
    assert "no golden output of these weights" in problem(key, tmp_path)


def test_weights_for_new_inputs_need_a_pair(monkeypatch):
    monkeypatch.setattr(golden, "PAIRS", {})
    with pytest.raises(ValueError, match="add such a pair to PAIRS"):
        fused_by(KEYS[0])
