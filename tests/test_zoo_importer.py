"""Importing the weights that DIDFuse's authors released."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import fusionzoo
from fusionzoo import weights, zoo
from fusionzoo.models.didfuse.importer import import_didfuse

RELEASED = os.environ.get("FUSIONZOO_DIDFUSE_RELEASED")


def block(inputs, outputs, act, reflect=False):
    pad = [nn.ReflectionPad2d(1)] if reflect else []
    conv = nn.Conv2d(inputs, outputs, 3, padding=0 if reflect else 1)
    return nn.Sequential(*pad, conv, nn.BatchNorm2d(outputs), act)


class Released(nn.Module):
    """The released network in its own names and layout, as an independent reference."""

    def __init__(self):
        super().__init__()
        blocks = {
            "cov1": block(1, 64, nn.PReLU(), reflect=True),
            "cov2": block(64, 64, nn.PReLU()),
            "cov3": block(64, 64, nn.Tanh()),
            "cov4": block(64, 64, nn.Tanh()),
            "cov5": block(128, 64, nn.PReLU()),
            "cov6": block(128, 64, nn.PReLU()),
            "cov7": block(128, 1, nn.Sigmoid(), reflect=True),
        }
        nested = {name: nn.ModuleDict({name: layers}) for name, layers in blocks.items()}
        self.encoder = nn.ModuleDict({name: nested[name] for name in list(nested)[:4]})
        self.decoder = nn.ModuleDict({name: nested[name] for name in list(nested)[4:]})

    def forward(self, ir, vi):
        def run(name, x):
            half = self.encoder if name in self.encoder else self.decoder
            return half[name][name](x)

        def encode(image):
            first = run("cov1", image)
            second = run("cov2", first)
            return first, second, run("cov3", second), run("cov4", second)

        first, second, base, detail = (a + b for a, b in zip(encode(ir), encode(vi), strict=True))
        x = run("cov5", torch.cat([base, detail], 1))
        x = run("cov6", torch.cat([x, second], 1))
        return run("cov7", torch.cat([x, first], 1))


def save(encoder, decoder, folder):
    paths = folder / "encoder.pkl", folder / "decoder.pkl"
    for path, state in zip(paths, (encoder, decoder), strict=True):
        # The released files are of torch's old format.
        torch.save({"weight": state, "epoch": 3}, path, _use_new_zipfile_serialization=False)
    return paths


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    network = Released()
    for module in network.modules():  # no two tensors alike, so that none can be mixed up
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.3, 0.3)
            module.num_batches_tracked.random_(1, 10_000)
        elif isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.05, 0.6)
    return network.eval()


@pytest.fixture
def files(reference, tmp_path):
    return save(reference.encoder.state_dict(), reference.decoder.state_dict(), tmp_path)


def assert_same_output(model, reference):
    ir, vi = torch.rand(2, 1, 1, 25, 31, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(model.network(ir, vi), reference(ir, vi), rtol=0, atol=1e-6)


def test_an_imported_folder_computes_what_the_release_does(files, reference, tmp_path):
    folder = zoo.import_weights("didfuse", *files, tmp_path / "out")
    model = fusionzoo.load(folder)
    assert model.options["rule"] == "sum"
    assert_same_output(model, reference)


def test_every_tensor_of_the_network_comes_from_the_files(files, reference):
    state = import_didfuse(*files)
    network = fusionzoo.create_model("didfuse").network
    assert state.keys() == network.state_dict().keys()
    stored = sum(tensor.numel() for tensor in reference.state_dict().values())
    assert sum(tensor.numel() for tensor in state.values()) == stored


def test_the_folder_says_where_its_weights_come_from(files, tmp_path):
    folder = zoo.import_weights("didfuse", *map(str, files), str(tmp_path / "out"))
    config = json.loads((folder / weights.CONFIG_NAME).read_text())
    assert config["model"] == "didfuse"
    assert config["options"]["rule"] == "sum"
    card = (folder / weights.CARD_NAME).read_text()
    assert "IVIF-DIDFuse" in card
    assert "license: unknown" in card
    assert "none published by the authors" in card


def test_swapped_files_are_recognised(files, tmp_path):
    with pytest.raises(ValueError, match=r"decoder\.pkl was given as the encoder"):
        zoo.import_weights("didfuse", *reversed(files), tmp_path / "out")
    with pytest.raises(ValueError, match=r"encoder\.pkl was given as the decoder"):
        import_didfuse(files[0], files[0])
    assert not (tmp_path / "out").exists()


def test_files_of_another_form_are_refused(files, reference):
    encoder, decoder = files
    for content in ([1], {"epoch": 3}, {"weight": [1]}, {"weight": {"a": 1}}):
        torch.save(content, encoder)
        with pytest.raises(ValueError, match=r"encoder\.pkl is not a released DIDFuse file"):
            import_didfuse(encoder, decoder)


def test_other_networks_are_refused_with_their_keys(files, reference):
    encoder, decoder = files
    state = reference.encoder.state_dict()
    state["extra.weight"] = state.pop("cov3.cov3.0.weight")
    torch.save({"weight": state}, encoder)
    with pytest.raises(ValueError, match=r"missing cov3\.cov3\.0\.weight; unknown extra\.weight"):
        import_didfuse(encoder, decoder)


def test_other_shapes_are_refused(files, reference, tmp_path):
    encoder, decoder = files
    state = reference.encoder.state_dict()
    state["cov1.cov1.1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save({"weight": state}, encoder)
    with pytest.raises(ValueError, match=r"encoder\.pkl.*encoder\.conv1\.conv\.weight \(file 64×3"):
        zoo.import_weights("didfuse", encoder, decoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickled_objects_are_refused_and_not_run(files, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"weight": {"a": Evil()}}, files[0])
    with pytest.raises(ValueError, match="can run code"):
        import_didfuse(*files)
    assert not marker.exists()


def test_damaged_and_missing_files_are_refused(files):
    encoder, decoder = files
    decoder.write_bytes(decoder.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"decoder\.pkl.*truncated"):
        import_didfuse(encoder, decoder)
    decoder.unlink()
    with pytest.raises(FileNotFoundError, match=r"decoder\.pkl"):
        import_didfuse(encoder, decoder)


def test_the_number_of_files_is_checked(files):
    with pytest.raises(ValueError, match="takes encoder, decoder and the folder"):
        zoo.import_weights("didfuse", *files)


def test_models_without_an_importer_say_so(monkeypatch):
    from dataclasses import replace

    from fusionzoo.models import MODELS

    table = {**MODELS, "plain": replace(MODELS["didfuse"], name="plain", importer=None)}
    monkeypatch.setattr(zoo, "MODELS", table)
    with pytest.raises(
        ValueError, match="'plain' has no importer; models that have one: coconet, didfuse, smf"
    ):
        zoo.import_weights("plain", "a", "b")


@pytest.mark.skipif(
    not RELEASED, reason="FUSIONZOO_DIDFUSE_RELEASED names no folder with the authors' files"
)
def test_the_released_files_themselves(tmp_path):
    encoder, decoder = (
        next(Path(RELEASED).glob(f"{half}*.pkl")) for half in ("Encoder", "Decoder")
    )
    model = fusionzoo.load(zoo.import_weights("didfuse", encoder, decoder, tmp_path / "out"))
    reference = Released()
    for half, path in ((reference.encoder, encoder), (reference.decoder, decoder)):
        content = torch.load(path, map_location="cpu", weights_only=True)
        half.load_state_dict(content["weight"])
    assert_same_output(model, reference.eval())
