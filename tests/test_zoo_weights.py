"""Weight files: written, read, checked, and the table of the published ones."""

import dataclasses
import json
import pickle

import entries
import pytest
import torch
from entries import update_entry
from safetensors.torch import load_file, save_file
from torch import nn

from fusionzoo import __version__, weights
from fusionzoo.errors import FileError
from fusionzoo.weights import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME

CONFIG = weights.make_config("didfuse", {"rule": "sum", "channels": 4})
FACTS = {"origin": "a test", "training_data": "none", "weights_licence": "MIT", "hub_repo": None}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.PReLU())


@pytest.fixture
def folder(tmp_path):
    return weights.write_pretrained(tmp_path / "model", CONFIG, network().state_dict(), "a card\n")


@pytest.fixture
def file(folder):
    return folder / WEIGHTS_NAME


def cfg_of(file, **changes):
    facts = {
        "file": "didfuse/model.safetensors",
        "sha256": weights.sha256_of(file),
        "fingerprint": weights.fingerprint(file.parent),
        "size": file.stat().st_size,
        "parameters": 1,
        **FACTS,
    }
    return weights.WeightsCfg(**{**facts, **changes})


# Writing


def test_a_folder_holds_config_weights_and_card_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CARD_NAME, CONFIG_NAME, WEIGHTS_NAME]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]
    assert (folder / CARD_NAME).read_text() == "a card\n"
    assert weights.read_config(folder) == {
        "format": 1,
        "model": "didfuse",
        "options": {"rule": "sum", "channels": 4},
        "fusionzoo_version": __version__,
    }


def test_what_is_written_is_read_back_exactly(file):
    state, _ = weights.read_safetensors(file)
    expected = network().state_dict()
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor)


def test_equal_states_give_equal_bytes(folder, tmp_path):
    state = network().state_dict()
    backwards = dict(reversed(state.items()))
    other = weights.write_pretrained(tmp_path / "other", CONFIG, backwards, "a card\n")
    assert (other / WEIGHTS_NAME).read_bytes() == (folder / WEIGHTS_NAME).read_bytes()


def test_half_precision_halves_floats_only_and_loads_into_float32(tmp_path):
    model = network()
    folder = weights.write_pretrained(
        tmp_path / "half", CONFIG, model.state_dict(), dtype=torch.float16
    )
    state = load_file(folder / WEIGHTS_NAME)
    assert state["0.weight"].dtype == torch.float16
    assert state["1.num_batches_tracked"].dtype == torch.int64
    other = network()
    weights.load_state(other, state)
    assert other[0].weight.dtype == torch.float32
    torch.testing.assert_close(other[0].weight, model[0].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_float32_is_what_other_precisions_become(tmp_path, dtype):
    state = {"w": torch.rand(3, dtype=dtype)}
    folder = weights.write_pretrained(tmp_path / "m", CONFIG, state)
    assert load_file(folder / WEIGHTS_NAME)["w"].dtype == torch.float32


def test_values_beyond_half_precision_are_refused(tmp_path):
    state = {"norm.running_var": torch.tensor([1.0, 1e6])}
    with pytest.raises(ValueError, match=r"norm\.running_var.*float16.*float32"):
        weights.write_pretrained(tmp_path / "m", CONFIG, state, dtype=torch.float16)
    assert not (tmp_path / "m").exists()


def test_only_two_storage_dtypes_are_offered(tmp_path):
    with pytest.raises(ValueError, match=r"torch\.int8.*torch\.float32 or torch\.float16"):
        weights.write_pretrained(tmp_path / "m", CONFIG, {}, dtype=torch.int8)


def test_shared_strided_and_tracked_tensors_are_stored(tmp_path):
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    state = {
        "whole": base,
        "shared": base,
        "turned": base.t(),
        "slice": base[:, 1:3],
        "last": torch.rand(1, 2, 3, 3).to(memory_format=torch.channels_last),
    }
    folder = weights.write_pretrained(tmp_path / "m", CONFIG, state)
    read = load_file(folder / WEIGHTS_NAME)
    for key, tensor in state.items():
        assert torch.equal(read[key], tensor.detach())


def test_an_existing_folder_keeps_its_other_files(folder):
    (folder / "notes.txt").write_text("mine")
    state = {"w": torch.ones(2)}
    weights.write_pretrained(folder, CONFIG, state, "new card")
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / CARD_NAME).read_text() == "new card"
    assert load_file(folder / WEIGHTS_NAME).keys() == {"w"}


@pytest.mark.parametrize("exists", [False, True])
def test_a_write_that_fails_leaves_things_as_they_were(tmp_path, monkeypatch, exists):
    target = tmp_path / "model"
    if exists:
        weights.write_pretrained(target, CONFIG, {"w": torch.zeros(2)}, "old")
    before = {path.name: path.read_bytes() for path in target.glob("*")}
    write_whole = weights.files.write_whole

    def fail_at_the_card(path, data):
        if path.name == CARD_NAME:
            raise OSError(28, "no space left on device")
        return write_whole(path, data)

    monkeypatch.setattr(weights.files, "write_whole", fail_at_the_card)
    with pytest.raises(FileError, match=r"model cannot be written \(no space"):
        weights.write_pretrained(target, CONFIG, {"w": torch.ones(2)}, "new")
    assert {path.name: path.read_bytes() for path in target.glob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if exists else [])


def test_options_that_json_cannot_hold_are_refused(tmp_path):
    config = weights.make_config("didfuse", {"loss": nn.L1Loss()})
    with pytest.raises(ValueError, match=r"'didfuse'.*JSON.*numbers, strings"):
        weights.write_pretrained(tmp_path / "m", config, {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_overwritten_by_a_folder(tmp_path):
    (tmp_path / "m").write_text("a file")
    with pytest.raises(FileError, match="name a folder"):
        weights.write_pretrained(tmp_path / "m", CONFIG, {})


def test_the_generic_card_has_a_hub_header(tmp_path):
    folder = weights.write_pretrained(tmp_path / "m", CONFIG, {})
    text = (folder / CARD_NAME).read_text()
    assert text == weights.basic_card(CONFIG)
    header = text.split("---\n")[1]
    assert "license: unknown\n" in header
    assert "library_name: fusionzoo\n" in header
    assert "- didfuse\n" in header
    assert '| `rule` | `"sum"` |' in text


def test_card_values_cannot_break_the_header():
    text = weights.basic_card(CONFIG, licence='odd: "one"\n---', tags=["a: b", "didfuse"])
    header = text.split("\n---\n")[0]
    assert "license: other\nlicense_name: odd-one\n" in header
    assert '- "a: b"' in header
    assert header.count("didfuse") == 1


# Reading


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        weights.read_safetensors(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_files_are_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is (truncated|not a safetensors)"):
        weights.read_safetensors(file)


def test_pickles_under_the_name_of_safetensors_are_refused_and_not_run(file, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    for write in (
        lambda: file.write_bytes(pickle.dumps(Evil())),
        lambda: torch.save({"w": Evil()}, file),
    ):
        write()
        with pytest.raises(ValueError, match=r"is a pickle.*refused"):
            weights.read_safetensors(file)
    assert not marker.exists()


def test_other_files_are_refused(file):
    file.write_bytes(b"<!DOCTYPE html><title>404</title>" * 9)
    with pytest.raises(ValueError, match="not a safetensors file"):
        weights.read_safetensors(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "does not describe"),
        ('{"model": "didfuse", "options": {}}', "does not describe"),
        ('{"format": 1, "model": "didfuse", "options": []}', "does not describe"),
        ('{"format": 2, "model": "a", "options": {}, "fusionzoo_version": "9.1"}', r"9\.1"),
    ],
)
def test_a_bad_config_is_refused(folder, text, problem):
    (folder / CONFIG_NAME).write_text(text)
    with pytest.raises(ValueError, match=problem):
        weights.read_config(folder)


# Checking


def test_the_published_file_passes(file):
    weights.verify(file, cfg_of(file))


def test_one_changed_byte_is_refused_with_both_hashes(file):
    published = cfg_of(file)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="not the published file") as caught:
        weights.verify(file, published)
    message = str(caught.value)
    assert published.sha256 in message
    assert weights.sha256_of(file) in message
    assert "install the package again" in message
    assert str(file.parent) in message


def test_a_truncated_file_is_called_truncated(file):
    published = cfg_of(file)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="is truncated") as caught:
        weights.verify(file, published)
    assert published.sha256 in str(caught.value)


def test_a_missing_published_file(file):
    published = cfg_of(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        weights.verify(file, published)


# Loading into a module


def test_every_difference_of_architecture_is_named():
    model = network()
    state = model.state_dict()
    state["0.weight"] = torch.zeros(3, 2, 3, 3)
    state["9.weight"] = state.pop("2.weight")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="do not fit Sequential") as caught:
        weights.load_state(model, state, source="here.safetensors")
    message = str(caught.value)
    assert "here.safetensors" in message
    assert "missing: 2.weight" in message
    assert "unexpected: 9.weight" in message
    assert "differing in shape: 0.weight (file 3×2×3×3, model 3×1×3×3)" in message
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_long_lists_of_keys_are_cut():
    state = {f"extra.{i}": torch.zeros(1) for i in range(30)}
    with pytest.raises(ValueError, match=r"extra\.7 and 22 more"):
        weights.load_state(nn.Identity(), state)


# The table


def test_the_table_measures_what_it_says(folder, tmp_path):
    table = tmp_path / "weights.json"
    entry = update_entry("didfuse.tag", folder, table=table, commit="abc", **FACTS)
    assert weights.weights_table(table) == {"didfuse.tag": entry}
    assert entry.file == "didfuse.tag/model.safetensors"
    assert entry.commit == "abc"
    assert entry.parameters == sum(p.numel() for p in network().parameters())
    weights.verify(folder / WEIGHTS_NAME, entry)


def test_updating_keeps_facts_and_other_entries(folder, tmp_path):
    table = tmp_path / "weights.json"
    other = update_entry("b", folder, table=table, **FACTS)
    old = update_entry("a", folder, table=table, **FACTS)
    save_file({"w": torch.ones(5)}, folder / WEIGHTS_NAME)
    new = update_entry("a", folder, table=table, training_data="TNO")
    read = weights.weights_table(table)
    assert list(read) == ["a", "b"]
    assert read["b"] == other
    assert new.sha256 != old.sha256
    assert (new.parameters, new.training_data, new.origin) == (5, "TNO", "a test")
    weights.verify(folder / WEIGHTS_NAME, new)


def test_the_tag_follows_the_version_where_weights_or_options_change(folder, tmp_path, monkeypatch):
    table = tmp_path / "weights.json"
    facts = {key: fact for key, fact in FACTS.items() if key != "hub_repo"}
    first = update_entry("a", folder, table=table, **facts)
    assert (first.hub_repo, first.hub_revision) == ("fusionzoo/a", f"v{__version__}")
    for version, change in (
        ("8.0", lambda: save_file({"w": torch.ones(5)}, folder / WEIGHTS_NAME)),
        ("9.0", lambda: (folder / CONFIG_NAME).write_text(json.dumps({**CONFIG, "options": {}}))),
    ):
        before = weights.weights_table(table)["a"]
        monkeypatch.setattr(entries, "__version__", version)
        assert update_entry("a", folder, table=table) == before
        change()
        assert update_entry("a", folder, table=table).hub_revision == f"v{version}"


def test_measured_and_unknown_facts_cannot_be_given(folder, tmp_path):
    table = tmp_path / "weights.json"
    with pytest.raises(ValueError, match="'sha256' is measured"):
        update_entry("a", folder, table=table, sha256="00", **FACTS)
    with pytest.raises(ValueError, match="'licence' is no field"):
        update_entry("a", folder, table=table, licence="MIT", **FACTS)
    with pytest.raises(ValueError, match="also give training_data, weights_licence"):
        update_entry("a", folder, table=table, origin="x")
    assert not table.exists()


def test_a_malformed_table_names_the_entry(tmp_path):
    table = tmp_path / "weights.json"
    table.write_text(json.dumps({"didfuse": {"file": "x", "colour": "red"}}))
    with pytest.raises(ValueError, match="'didfuse'"):
        weights.weights_table(table)


def test_entries_are_frozen(file):
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg_of(file).sha256 = "00"
