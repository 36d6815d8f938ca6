"""Exported files: proved before they are kept, and fusing as the model does."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fusionzoo
from fusionzoo import export, processes
from fusionzoo.cli import main
from fusionzoo.errors import InputError, MissingFileError, ResultError
from fusionzoo.export import exporter, formats
from fusionzoo.export.tracing import least_side, traced
from fusionzoo.module import FusionModule
from fusionzoo.network import declared_by

ASSETS = Path(__file__).parent / "assets"
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, formats.FORMATS[".onnx"].packages)),
    reason="the extra onnx is not installed",
)
needs_openvino = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, formats.FORMATS[".xml"].packages)),
    reason="the extra openvino is not installed",
)


class TinyNetwork(nn.Module):
    """Little to trace, and what exporters get wrong: sizes, a mean over the image, the batch."""

    size_multiple = 4
    min_size = 4
    value_range = (-1.0, 1.0)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.graph = nn.Conv2d(2, 1, 3, padding=1)  # a name that torch.export has, too
        with torch.no_grad():
            self.graph.weight.copy_(torch.rand(1, 2, 3, 3, generator=generator) / 9)

    def forward(self, ir, vi):
        fused = self.graph(torch.cat([ir, vi], 1))
        small = nn.functional.avg_pool2d(fused, 4)
        fused = fused + nn.functional.interpolate(small, scale_factor=4) / 8
        return torch.tanh(fused - fused.mean((2, 3), keepdim=True) / 4)

    def for_inference(self):
        return self


class Stubborn(TinyNetwork):
    """Reads a value while it is traced."""

    def forward(self, ir, vi):
        return vi if float(ir.mean()) > 0.5 else super().forward(ir, vi)


class Tiny(FusionModule):
    name = "tiny"

    def __init__(self, network=None):
        super().__init__(network or TinyNetwork())
        self.eval()


@pytest.fixture(scope="module")
def model():
    return Tiny()


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    info = export.export_model(model, path)
    assert 0 <= info.max_difference < 1e-5
    return path


@pytest.fixture(scope="module")
def program(model):
    return traced(model.network)


@pytest.fixture
def pair():
    with Image.open(ASSETS / "cli_ir.png") as ir, Image.open(ASSETS / "cli_vi.png") as vi:
        return np.asarray(ir.convert("L")), np.asarray(vi.convert("RGB"))


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


# What is exported -------------------------------------------------------------------------------


@needs_onnx
def test_the_file_says_what_it_takes(model, onnx_file):
    info = export.load_exported(onnx_file).info
    assert (info.name, info.value_range, info.size_multiple, info.min_size) == (
        "tiny",
        (-1, 1),
        4,
        16,
    )
    assert info.modalities == model.modalities
    assert len(info.weights_sha256) == 64
    assert left_in(onnx_file.parent) == ["tiny.onnx"]

    import onnx

    stored = onnx.load(onnx_file)
    texts = {entry.key: entry.value for entry in stored.metadata_props}
    assert texts["fusionzoo.name"] == "tiny"
    assert texts["fusionzoo.value_range"] == "[-1.0, 1.0]"
    assert min(entry.version for entry in stored.opset_import if not entry.domain) >= 18
    shape = [
        dim.dim_param or dim.dim_value for dim in stored.graph.input[0].type.tensor_type.shape.dim
    ]
    assert shape == ["batch", 1, "height", "width"]
    assert str(Path(__file__).parent).encode() not in onnx_file.read_bytes()


@needs_onnx
def test_fuses_as_the_model_does(model, onnx_file, pair):
    loaded = fusionzoo.load(onnx_file)
    ir, vi = pair
    wanted = model.fuse(ir, vi)
    assert wanted.shape == vi.shape
    np.testing.assert_allclose(loaded.fuse(ir, vi).astype(int), wanted, atol=1)
    several = ([ir, ir[:31, :50], ir], [vi, vi[:31, :50], vi[..., 0]])
    for batch_size in (1, 3):
        results = loaded.fuse(*several, color=False, batch_size=batch_size)
        for one, other in zip(results, model.fuse(*several, color=False), strict=True):
            np.testing.assert_allclose(one.astype(int), other, atol=1)
    floats = torch.from_numpy(pair[0] / 300).float()
    options = {"ir_range": (0.1, 0.9), "vi_range": (0.0, 1.0)}
    found = loaded.fuse(floats, floats.flip(0), **options)
    torch.testing.assert_close(
        found, model.fuse(floats, floats.flip(0), **options), atol=1e-5, rtol=0
    )
    (streamed,) = loaded.stream([(ir, vi)])
    np.testing.assert_array_equal(streamed, loaded.fuse(ir, vi))


@needs_onnx
def test_the_function_and_the_command_take_exported_files(onnx_file, tmp_path, pair):
    ir, vi = str(ASSETS / "cli_ir.png"), str(ASSETS / "cli_vi.png")
    wanted = np.asarray(fusionzoo.load(onnx_file).fuse(ir, vi))
    np.testing.assert_array_equal(np.asarray(fusionzoo.fuse(ir, vi, model=onnx_file)), wanted)
    out = tmp_path / "fused.png"
    assert main(["fuse", ir, vi, "-o", str(out), "--model", str(onnx_file), "--device", "cpu"]) == 0
    with Image.open(out) as fused:
        np.testing.assert_array_equal(np.asarray(fused), wanted)


@needs_onnx
def test_what_an_exported_file_cannot_do_is_refused(onnx_file, pair):
    loaded = export.load_exported(onnx_file)
    for options, words in (
        ({"grad": True}, "no gradients"),
        ({"dtype": torch.float64}, "float32"),
    ):
        with pytest.raises(InputError, match=words):
            loaded.fuse(*pair, **options)
    with pytest.raises(InputError, match="are fixed"):
        fusionzoo.load(onnx_file, gain=2.0)


def test_torch_export(model, tmp_path):
    path = tmp_path / "tiny.pt2"
    info = export.export_model(model, path)
    assert info.max_difference < 1e-6
    program = torch.export.load(path).module()
    ir, vi = torch.rand(3, 1, 20, 44), torch.rand(3, 1, 20, 44)
    torch.testing.assert_close(program(ir, vi), model.network(ir, vi).detach())
    with pytest.raises(InputError, match="can run code"):
        fusionzoo.load(path)


@needs_openvino
def test_openvino(model, program, tmp_path, pair, monkeypatch):
    monkeypatch.setattr("fusionzoo.export.tracing.traced", lambda *_: program)
    path = tmp_path / "tiny.xml"
    info = export.export_model(model, path)
    assert info.max_difference < 1e-4
    assert left_in(tmp_path) == ["tiny.bin", "tiny.xml"]
    loaded = fusionzoo.load(path)
    np.testing.assert_allclose(loaded.fuse(*pair).astype(int), model.fuse(*pair), atol=1)
    (tmp_path / "tiny.bin").unlink()
    with pytest.raises(MissingFileError, match=r"tiny\.bin does not exist.*keep both"):
        fusionzoo.load(path)


@needs_onnx
def test_one_size(model, tmp_path, pair):
    path = tmp_path / "tiny.onnx"
    info = export.export_model(model, path, size=(56, 32))
    assert info.size == (56, 32)
    loaded = fusionzoo.load(path)
    ir, vi = (image[:32, :56] for image in pair)
    np.testing.assert_allclose(loaded.fuse(ir, vi).astype(int), model.fuse(ir, vi), atol=1)
    with pytest.raises(InputError, match="takes images of 56 x 32"):
        loaded.fuse(*pair)
    with pytest.raises(InputError, match="multiples of 4"):
        export.export_model(model, path, size=(30, 32))


SMALL = {
    "didfuse": {"channels": 4},
    "ifesnet": {"channels": 4},
    "chitnet": {"channels": 4},
    # All levels: the coarsest map has a side of few pixels.
    "lapnet": {"channels": 4, "depth": 1, "residual": 0, "bound": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_models_trace_with_free_sizes(name):
    network = fusionzoo.create_model(name, **SMALL[name]).eval().network
    program = traced(network).module()
    multiple, least = declared_by(network)["size_multiple"], least_side(network)
    for count, height, width in ((1, 64, least), (3, 33, 70)):
        height, width = (-(-max(side, least) // multiple) * multiple for side in (height, width))
        ir, vi = torch.rand(count, 1, height, width), torch.rand(count, 1, height, width)
        with torch.no_grad():
            torch.testing.assert_close(program(ir, vi), network(ir, vi), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("coconet", {}), ("smfnet", {"channels": 32})])
def test_heavy_models_trace_at_one_size(name, options):
    network = fusionzoo.create_model(name, **options).eval().network
    program = traced(network, (48, 32)).module()
    ir, vi = torch.rand(3, 1, 32, 48), torch.rand(3, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(program(ir, vi), network(ir, vi), atol=1e-5, rtol=0)


def test_published_weights_are_known_by_their_hash():
    from fusionzoo import weights

    for key in ("lapnet", "ifesnet"):  # stored in single and in half precision
        state = fusionzoo.load(key).network.state_dict()
        assert weights.identified(state) == (weights.weights_table()[key].sha256, key)
    sha256, key = weights.identified(TinyNetwork().state_dict())
    assert (len(sha256), key) == (64, None)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_file_that_differs_is_not_left(model, tmp_path, monkeypatch, wrong):
    class Wrong(TinyNetwork):
        def forward(self, ir, vi):
            return super().forward(ir, vi) + wrong

    changed = traced(Wrong())
    monkeypatch.setattr("fusionzoo.export.tracing.traced", lambda *_: changed)
    path = tmp_path / "tiny.pt2"
    path.write_bytes(b"an older file")
    with pytest.raises(ResultError, match="is not written: its results differ by"):
        export.export_model(model, path)
    assert left_in(tmp_path) == ["tiny.pt2"]
    assert path.read_bytes() == b"an older file"


def test_a_network_that_cannot_be_traced_says_why(tmp_path):
    with pytest.raises(ResultError, match="Stubborn cannot be traced with free height and width"):
        export.export_model(Tiny(Stubborn()), tmp_path / "tiny.pt2")
    assert left_in(tmp_path) == []


def test_a_process_that_fails_leaves_nothing(model, program, tmp_path, monkeypatch):
    monkeypatch.setattr("fusionzoo.export.tracing.traced", lambda *_: program)
    monkeypatch.setattr(processes, "_CHILD", "raise SystemExit('no such operator')")
    with pytest.raises(ResultError, match="fresh process: no such operator"):
        export.export_model(model, tmp_path / "tiny.pt2")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("tiny.onx", "'.onnx'"),
        ("tiny", "has to be one of .onnx, .pt2, .xml"),
        ("missing/tiny.pt2", "there is no folder"),
        ("folder.pt2", "is no regular file"),
    ],
)
def test_where_to_write_is_checked_before_anything_else(
    output, words, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(exporter, "describe", None)
    monkeypatch.setattr("fusionzoo.zoo.load", None)
    (tmp_path / "folder.pt2").mkdir()
    assert main(["export", "lapnet", "-o", str(tmp_path / output)]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("ending", "extra"), [(".onnx", "onnx"), (".xml", "openvino")])
def test_a_missing_extra_is_named(model, tmp_path, monkeypatch, ending, extra):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    line = rf"pip install 'fusionzoo\[{extra}\]'"
    with pytest.raises(InputError, match=line):
        export.export_model(model, tmp_path / f"tiny{ending}")
    (tmp_path / f"tiny{ending}").touch()
    (tmp_path / "tiny.bin").touch()
    with pytest.raises(InputError, match=line):
        fusionzoo.load(tmp_path / f"tiny{ending}")


@needs_onnx
def test_damaged_and_foreign_files(onnx_file, tmp_path):
    import onnx

    content = onnx_file.read_bytes()
    foreign = onnx.load(onnx_file)
    del foreign.metadata_props[:]
    strange = onnx.load(onnx_file)
    for entry in strange.metadata_props:
        if entry.key == "fusionzoo.value_range":
            entry.value = "[1, 0]"
    for number, (damaged, words) in enumerate(
        (
            (b"", "cannot be read as ONNX"),
            (b"garbage" * 100, "cannot be read as ONNX"),
            (content[: len(content) // 2], "cannot be read as ONNX"),
            (foreign.SerializeToString(), "was not exported by fusionzoo"),
            (strange.SerializeToString(), "is damaged"),
        )
    ):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=words):
            fusionzoo.load(path)
    with pytest.raises(MissingFileError, match="does not exist"):
        fusionzoo.load(tmp_path / "none.onnx")


# The command ------------------------------------------------------------------------------------


def test_the_command(model, program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fusionzoo.export.tracing.traced", lambda *_: program)
    monkeypatch.setattr("fusionzoo.zoo.load", lambda *_, **__: model)
    path = tmp_path / "tiny.pt2"
    assert main(["export", "tiny", "-o", str(path)]) == 0
    told = capsys.readouterr()
    assert f"wrote {path}" in told.out
    assert "greatest difference from the network" in told.out
    assert main(["export", "tiny", "-o", str(path), "--size", "64"]) == 2
