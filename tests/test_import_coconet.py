"""Importing the weights that CoCoNet's authors released, shown on random ones in their layout."""

import json

import pytest
import torch
from released_helpers import conv, filled, norm
from torch.nn import functional as F

import fusionzoo
from fusionzoo import zoo
from fusionzoo.models.coconet.importer import NAMES, UNUSED, import_coconet
from fusionzoo.models.coconet.network import CoCoNetNetwork

# Number of a block -> channels before and after; all have norms but 9_2.
BLOCKS = {
    "1_1": (2, 32), "1_2": (32, 32), "2_1": (32, 64), "2_2": (64, 64), "3_1": (64, 128),
    "3_2": (128, 128), "4_1": (128, 256), "4_2": (256, 256), "7_1": (256, 128), "7_2": (128, 128),
    "8_1": (128, 64), "8_2": (64, 64), "9_1": (64, 32), "9_2": (32, 32),
}  # fmt: skip
OTHERS = {
    "deconv4": (768, 256), "deconv6": (256, 128), "deconv7": (128, 64), "deconv8": (64, 32),
    "att_deconv7": (384, 128), "att_deconv8": (192, 64), "att_deconv9": (96, 32),
    "vgg19.slice1.0": (1, 64), "vgg19.slice1.3": (64, 64),
    "vgg19.slice2.6": (64, 128), "vgg19.slice2.8": (128, 128),
    "vgg19.slice3.11": (128, 256), "vgg19.slice3.13": (256, 256), "vgg19.slice3.15": (256, 256),
    "vgg19.slice3.17": (256, 256),
}  # fmt: skip


def released_state():
    shapes = {}
    for number, channels in BLOCKS.items():
        shapes |= conv(f"conv{number}", *channels)
        shapes |= norm(f"bn{number}", channels[1]) if number != "9_2" else {}
    for name, channels in OTHERS.items():
        shapes |= conv(name, *channels)
    shapes |= conv("conv10", 32, 1, side=1)
    for width in (32, 64, 128, 256):
        for place in (1, 2, 3):
            # Small logits: where softmax picks one of two near ties, rounding would count.
            scale = 0.2 if place < 3 else 1
            shapes |= conv(f"se_{width}.conv_{place}", width, width, scale=scale)
        shapes[f"se_{width}.gamma"] = ((1,), 1.0)
    return filled(shapes, torch.Generator().manual_seed(0))


class Reference:
    """What the released network computes, written anew from its state's names."""

    def __init__(self, state, own_statistics=False):
        self.state, self.own_statistics = state, own_statistics

    def conv(self, name, x):
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self.state[f"{name}.bias"], padding=padding)

    def block(self, number, x):
        x = F.leaky_relu(self.conv(f"conv{number}", x), 0.2)
        if number == "9_2":
            return x
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (
            self.state[f"bn{number}.{name}"].view(-1, 1, 1) for name in names
        )
        if self.own_statistics:
            mean, var = x.mean((0, 2, 3), True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def attend(self, x):
        name = f"se_{x.shape[1]}"
        q, k, v = (self.conv(f"{name}.conv_{place}", x).flatten(2) for place in (1, 2, 3))
        energy = q @ k.mT
        weights = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
        return (self.state[f"{name}.gamma"] * (weights @ v) + v).view_as(x)

    def vgg(self, x):
        x = F.max_pool2d(F.relu(self.conv("vgg19.slice1.0", x)), 2)
        maps = [F.relu(self.conv("vgg19.slice1.3", x))]
        for part, layers in (("slice2", (6, 8)), ("slice3", (11, 13, 15, 17))):
            x = F.max_pool2d(maps[-1], 2)
            for layer in layers:
                x = F.relu(self.conv(f"vgg19.{part}.{layer}", x))
            maps.append(x)
        return maps

    def merged(self, layer, own, level, ir_maps, vi_maps):
        parts = [self.attend(x) for x in (own, ir_maps[level], vi_maps[level])]
        return self.conv(layer, torch.cat(parts, 1))

    def raised(self, layer, x, skip, blocks):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.cat([self.conv(layer, x), skip], 1)
        for block in blocks:
            x = self.block(block, x)
        return x

    def __call__(self, ir, vi):
        ir_maps, vi_maps = self.vgg(ir), self.vgg(vi)
        one = self.block("1_2", self.block("1_1", torch.cat([vi, ir], 1)))
        two = self.block("2_2", self.block("2_1", F.max_pool2d(one, 2)))
        three = self.block("3_2", self.block("3_1", F.max_pool2d(two, 2)))
        four = self.block("4_1", F.max_pool2d(three, 2))
        x = self.block("4_2", self.merged("deconv4", four, 2, ir_maps, vi_maps))
        skip = self.merged("att_deconv7", three, 1, ir_maps, vi_maps)
        x = self.raised("deconv6", x, skip, ("7_1", "7_2"))
        skip = self.merged("att_deconv8", two, 0, ir_maps, vi_maps)
        x = self.raised("deconv7", x, skip, ("8_1", "8_2"))
        x = self.raised("deconv8", x, one, ("9_1", "9_2"))
        return torch.tanh(self.conv("conv10", x))


def images(height=32, width=48):
    generator = torch.Generator().manual_seed(1)
    return (2 * torch.rand(2, 1, 1, height, width, generator=generator) - 1).unbind()


@pytest.fixture(scope="module")
def state():
    return released_state()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "latest.pth"
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"meta": {"epoch": 5}, "state_dict": prefixed, "optimizer": optimizer}, path)
    return path


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    return zoo.import_weights("coconet", file, tmp_path_factory.mktemp("imported") / "out")


def test_the_layout_has_153_tensors_and_each_is_used_or_named_as_unused(state):
    assert len(state) == 153
    left = {name for name in state if name not in NAMES}
    assert left == {name for name in state if name.startswith(UNUSED)}
    assert len(left) == 9
    network = CoCoNetNetwork(variant="released", attention_rule="released")
    assert {*NAMES.values(), "vgg.trained"} == network.state_dict().keys()


def test_an_imported_folder_computes_what_the_release_does(folder, state):
    model = fusionzoo.load(folder)
    assert model.network.vgg.trained
    ir, vi = images()
    with torch.no_grad():
        expected = Reference(state)(ir, vi)
        torch.testing.assert_close(model.network(ir, vi), expected, rtol=0, atol=2e-5)
        assert (Reference(state)(vi, ir) - expected).abs().max() > 1e-2, "the order shows"
        # For inference, and without the class.
        run = model.network.for_inference()
        torch.testing.assert_close(run(ir, vi), expected, rtol=0, atol=2e-5)
        fuse = zoo.load_network(folder)
    fused = fuse(ir / 2 + 0.5, vi / 2 + 0.5)
    torch.testing.assert_close(fused, expected / 2 + 0.5, rtol=0, atol=2e-5)


def test_as_the_test_script_computes(folder, state):
    model = fusionzoo.load(folder, as_test_script=True)
    ir, vi = images()
    with torch.no_grad():
        expected = Reference(state, own_statistics=True)(127.5 * ir + 127.5, 127.5 * vi + 127.5)
        both = model.network(torch.cat([ir, vi]), torch.cat([vi, ir]))
        torch.testing.assert_close(both[:1], expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(
            model.network.for_inference()(ir, vi), both[:1], rtol=0, atol=1e-3
        )
    with pytest.raises(ValueError, match='as_test_script goes with variant "released"'):
        fusionzoo.create_model("coconet", as_test_script=True)


def test_the_folder_says_where_its_weights_come_from(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["options"]["variant"] == config["options"]["attention_rule"] == "released"
    card = (folder / "README.md").read_text()
    assert "runjia0124/CoCoNet" in card
    assert "Licence of the weights: MIT; VGG-19 part CC BY 4.0" in card


def test_a_bare_state_dict_is_taken(state, tmp_path):
    torch.save(state, tmp_path / "bare.pth")
    tensors = import_coconet(tmp_path / "bare.pth")
    assert torch.equal(tensors["down1.0.conv.weight"], state["conv1_1.weight"].flip(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [1], "not a file of the released CoCoNet: those hold a state dict"),
        (lambda s: {"state_dict": {"a": 1}}, "those hold a state dict under 'state_dict'"),
        (lambda s: {"other": s["conv10.bias"]}, r"missing conv1_1\.weight, .* unknown other"),
        (lambda s: s | {"conv1_1.weight": s["conv10.bias"]}, r"down1\.0\.conv\.weight \(file 1,"),
    ],
)
def test_other_files_are_refused(change, message, state, tmp_path):
    torch.save(change(state), tmp_path / "latest.pth")
    with pytest.raises(ValueError, match=message) as error:
        zoo.import_weights("coconet", tmp_path / "latest.pth", tmp_path / "out")
    assert "latest.pth" in str(error.value)
    assert not (tmp_path / "out").exists()
