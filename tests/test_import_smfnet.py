"""Importing the weights that SMFNet's authors released, shown on random ones in their layout."""

import pytest
import torch
from released_helpers import conv, filled, norm
from torch.nn import functional as F

import fusionzoo
from fusionzoo import zoo
from fusionzoo.models.smfnet.importer import PARTS, import_smfnet

WIDTH = 64


def layer_norm(name):
    return {f"{name}.body.weight": ((WIDTH,), -0.4), f"{name}.body.bias": ((WIDTH,), 0.1)}


def block(name, feed_forward):
    attention, leff = f"{name}attn", f"{name}{feed_forward}"
    return {
        **layer_norm(f"{name}norm1"),
        f"{attention}.temperature": ((8, 1, 1), -0.4),
        **conv(f"{attention}.qkv", WIDTH, 3 * WIDTH, 1, bias=False),
        **conv(f"{attention}.qkv_dwconv", 3 * WIDTH, 3 * WIDTH, 3, 3 * WIDTH, bias=False),
        **conv(f"{attention}.project_out", WIDTH, WIDTH, 1, bias=False),
        **layer_norm(f"{name}norm2"),
        **conv(f"{leff}.linear1.0", WIDTH, WIDTH, 1),
        **conv(f"{leff}.dwconv.0", WIDTH, WIDTH, 3, WIDTH),
        **conv(f"{leff}.linear2.0", WIDTH, WIDTH, 1),
    }


def dense_block(name):
    return {
        **layer_norm(f"{name}norm1"),
        f"{name}attn.scale": ((8, 1, 1), -0.4),
        **conv(f"{name}attn.qkv1", WIDTH, 3 * WIDTH, 1, bias=False),
        **conv(f"{name}attn.qkv2", 3 * WIDTH, 3 * WIDTH, bias=False),
        **conv(f"{name}attn.proj", WIDTH, WIDTH, 1, bias=False),
        **layer_norm(f"{name}norm2"),
        **conv(f"{name}mlp.project_in", WIDTH, 2 * WIDTH, 1, bias=False),
        **conv(f"{name}mlp.project_out", 2 * WIDTH, WIDTH, 1, bias=False),
    }


def bottleneck(name, width=WIDTH // 2):
    return {
        **conv(f"{name}.bottleneckBlock.0", width, 2 * width, 1, bias=False),
        **conv(f"{name}.bottleneckBlock.3", 2 * width, 2 * width, 3, 2 * width, bias=False),
        **conv(f"{name}.bottleneckBlock.5", 2 * width, width, 1, bias=False, scale=0.5),
    }


def gradient_dense(name):
    return {
        **conv(f"{name}.conv.conv", WIDTH, WIDTH),
        **conv(f"{name}.GRDB.dense.conv1.conv", WIDTH, WIDTH),
        **conv(f"{name}.GRDB.dense.conv2.conv", 2 * WIDTH, WIDTH),
        **conv(f"{name}.GRDB.convdown.conv", 3 * WIDTH, WIDTH, 1),
        **conv(f"{name}.GRDB.sobelconv.convx", WIDTH, WIDTH, 3, WIDTH, bias=False),
        **conv(f"{name}.GRDB.sobelconv.convy", WIDTH, WIDTH, 3, WIDTH, bias=False),
        **conv(f"{name}.GRDB.convup.conv", WIDTH, WIDTH, 1),
    }


def narrowing(name):
    """Three convolutions with units between them."""
    narrow = WIDTH // 4
    places = ((0, WIDTH, narrow, 3), (2, narrow, narrow, 1), (4, narrow, WIDTH, 3))
    return {k: v for n, *shape in places for k, v in conv(f"{name}.{n}", *shape).items()}


def encoder():
    shapes = conv("patch_embed.proj", 1, WIDTH, bias=False)
    shapes |= block("encoder_level1.0.", "ffn_leff")
    shapes |= conv("baseFeature.conv_first", WIDTH, WIDTH)
    shapes |= conv("baseFeature.reduce_channel", 2 * WIDTH, WIDTH, 1, bias=False)
    for group in range(2):
        for depth in range(2):
            place = f"baseFeature.layers.{group}.residual_group.{depth}"
            shapes |= block(f"{place}.0.", "ffn_leff") | dense_block(f"{place}.1.")
        shapes |= narrowing(f"baseFeature.layers.{group}.conv")
    shapes |= {f"baseFeature.norm.{kind}": ((WIDTH,), -0.4) for kind in ("weight", "bias")}
    shapes |= narrowing("baseFeature.conv_after_body")
    half, cross = WIDTH // 2, "detailFeature.TCA"
    shapes[f"{cross}.temperature"] = ((8, 1, 1), -0.4)
    shapes |= conv(f"{cross}.kv", half, WIDTH, 1) | conv(f"{cross}.q", half, half, 1)
    shapes |= conv(f"{cross}.kv_dwconv", WIDTH, WIDTH, 3, WIDTH)
    shapes |= conv(f"{cross}.q_dwconv", half, half, 3, half)
    shapes |= conv(f"{cross}.project_out", half, half, 1)
    for name in ("phi", "rho", "eta"):
        shapes |= bottleneck(f"detailFeature.layer.theta_{name}")
    shapes |= conv("detailFeature.layer.shffleconv", WIDTH, WIDTH, 1)
    return shapes | gradient_dense("GRDB_module")


def decoder():
    shapes = block("encoder_level1.0.", "ffn_leff")
    for place, before, after in ((0, 64, 32), (2, 32, 16), (4, 16, 1)):
        shapes |= conv(f"output.{place}", before, after, bias=False)
    return shapes


def detail_fusion():
    shapes = gradient_dense("GRDB")
    for step in range(2):
        for name in "ryfp":
            shapes |= bottleneck(f"net.{step}.{name}")
        shapes |= conv(f"net.{step}.shffleconv", WIDTH, WIDTH, 1)
    return shapes


def graph():
    shapes = conv("C_cls", 2 * WIDTH, WIDTH, 1) | conv("graph.C_cls", 2 * WIDTH, WIDTH, 1)
    for place in range(6):
        shapes |= conv(f"graph.C_cat.{place}.0", 3 * WIDTH, WIDTH, bias=False)
        shapes |= norm(f"graph.C_cat.{place}.1", WIDTH)
    for place in range(2):
        shapes |= conv(f"graph.graph.C_pa.{place}", WIDTH, 1, 1, bias=False)
        shapes |= conv(f"graph.graph.C_ca.{place}.1", 2 * WIDTH, WIDTH // 2, 1, bias=False)
        shapes |= conv(f"graph.graph.C_ca.{place}.3", WIDTH // 2, WIDTH, 1, bias=False)
    for side in ("rgb", "dep"):
        for place in range(3):
            shapes |= conv(f"graph.graph.ppm_{side}.convs.{place}.0", WIDTH, WIDTH, bias=False)
            shapes |= norm(f"graph.graph.ppm_{side}.convs.{place}.1", WIDTH)
        model = f"graph.graph.graph_{side}"
        shapes[f"{model}.gamma"] = ((1,), 1.0)
        shapes |= conv(f"{model}.C_wgt", 2 * WIDTH, 2, 1, 2, bias=False)
        shapes |= conv(f"{model}.ConvGRU.ConvGates", 2 * WIDTH, 2 * WIDTH, 1)
        shapes |= conv(f"{model}.ConvGRU.Conv_ct", 2 * WIDTH, WIDTH, 1)
    return shapes


LAYOUT = {
    "DIDF_Encoder": encoder(),
    "DIDF_Decoder": decoder(),
    "BaseFuseLayer": block("", "mlp") | conv("reduce_channel", 2 * WIDTH, WIDTH, 1, bias=False),
    "DetailFuseLayer": detail_fusion(),
    "GraphModel": graph(),
}


class Reference:
    """What the released network computes, written anew from its states' names."""

    def __init__(self, states):
        self.states = states

    def use(self, part):
        self.state = self.states[part]

    def conv(self, name, x, groups=1, dilation=1, padding=None):
        weight = self.state[f"{name}.weight"]
        if padding is None:
            padding = dilation * (weight.shape[-1] // 2)
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, padding=padding, groups=groups, dilation=dilation)

    def norm(self, name, x):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{name}.{one}"] for one in names))

    def layer_norm(self, name, x):
        weight, bias = (self.state[f"{name}.body.{kind}"] for kind in ("weight", "bias"))
        return F.layer_norm(x.movedim(1, -1), (WIDTH,), weight, bias).movedim(-1, 1)

    def attention(self, q, k, v, temperature):
        shape = q.shape
        q, k, v = (x.flatten(2).unflatten(1, (8, -1)) for x in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.mT * self.state[temperature]).softmax(-1)
        return (weights @ v).reshape(shape)

    def leff(self, name, x):
        inner = F.gelu(self.conv(f"{name}.linear1.0", x))
        inner = F.gelu(self.conv(f"{name}.dwconv.0", inner, WIDTH))
        return F.gelu(self.conv(f"{name}.linear2.0", inner)) + x

    def block(self, name, x, feed_forward="ffn_leff"):
        qkv = self.conv(f"{name}attn.qkv", self.layer_norm(f"{name}norm1", x))
        q, k, v = self.conv(f"{name}attn.qkv_dwconv", qkv, 3 * WIDTH).chunk(3, 1)
        attended = self.attention(q, k, v, f"{name}attn.temperature")
        x = x + self.conv(f"{name}attn.project_out", attended)
        return x + self.leff(f"{name}{feed_forward}", self.layer_norm(f"{name}norm2", x))

    def dense_block(self, name, x):
        qkv = self.conv(f"{name}attn.qkv1", self.layer_norm(f"{name}norm1", x))
        q, k, v = self.conv(f"{name}attn.qkv2", qkv).chunk(3, 1)
        x = x + self.conv(f"{name}attn.proj", self.attention(q, k, v, f"{name}attn.scale"))
        inner = F.gelu(self.conv(f"{name}mlp.project_in", self.layer_norm(f"{name}norm2", x)))
        return x + self.conv(f"{name}mlp.project_out", inner)

    def bottleneck(self, name, x):
        inner = F.pad(F.relu6(self.conv(f"{name}.bottleneckBlock.0", x)), (1, 1, 1, 1), "reflect")
        inner = self.conv(f"{name}.bottleneckBlock.3", inner, WIDTH, padding=0)
        return self.conv(f"{name}.bottleneckBlock.5", F.relu6(inner))

    def gradient_dense(self, name, x):
        x = F.leaky_relu(self.conv(f"{name}.conv.conv", x), 0.2)
        inner = x
        for place in ("conv1", "conv2"):
            more = F.leaky_relu(self.conv(f"{name}.GRDB.dense.{place}.conv", inner), 0.2)
            inner = torch.cat([inner, more], 1)
        edges = sum(self.conv(f"{name}.GRDB.sobelconv.conv{axis}", x, WIDTH).abs() for axis in "xy")
        local = self.conv(f"{name}.GRDB.convdown.conv", inner)
        return F.leaky_relu(local + self.conv(f"{name}.GRDB.convup.conv", edges), 0.1)

    def cross(self, guide, other):
        name = "detailFeature.TCA"
        q = self.conv(f"{name}.q_dwconv", self.conv(f"{name}.q", guide), WIDTH // 2)
        k, v = self.conv(f"{name}.kv_dwconv", self.conv(f"{name}.kv", other), WIDTH).chunk(2, 1)
        attended = self.attention(q, k, v, f"{name}.temperature")
        return self.conv(f"{name}.project_out", attended)

    def encode(self, image):
        self.use("DIDF_Encoder")
        shallow = self.block("encoder_level1.0.", self.conv("patch_embed.proj", image))
        one, two = self.gradient_dense("GRDB_module", shallow).chunk(2, 1)
        both = torch.cat([self.cross(two, one), self.cross(one, two)], 1)
        layer = "detailFeature.layer"
        one, two = self.conv(f"{layer}.shffleconv", both).chunk(2, 1)
        two = two + self.bottleneck(f"{layer}.theta_phi", one)
        scale = self.bottleneck(f"{layer}.theta_rho", two).exp()
        one = one * scale + self.bottleneck(f"{layer}.theta_eta", two)
        base = self.conv("baseFeature.conv_first", shallow)
        for group in range(2):
            place, inner = f"baseFeature.layers.{group}", base
            for depth in range(2):
                inner = self.block(f"{place}.residual_group.{depth}.0.", inner)
                inner = self.dense_block(f"{place}.residual_group.{depth}.1.", inner)
            inner = F.leaky_relu(self.conv(f"{place}.conv.0", inner), 0.2)
            inner = F.leaky_relu(self.conv(f"{place}.conv.2", inner), 0.2)
            base = self.conv(f"{place}.conv.4", inner) + base
        return shallow, base, torch.cat([one, two], 1)

    def gated(self, gate, source, target):
        return source * torch.sigmoid(self.conv(f"graph.graph.C_pa.{gate}", source - target))

    def reasoned(self, name, nodes):
        result = []
        for to, node in enumerate(nodes):
            others = torch.cat([other for k, other in enumerate(nodes) if k != to], 1)
            weights = self.conv(f"{name}.C_wgt", node.repeat(1, 2, 1, 1) - others, 2)
            # Each channel takes the weight of the place that its number, modulo 2, names.
            places = torch.arange(2 * WIDTH) % 2
            message = (others * torch.sigmoid(weights[:, places])).unflatten(1, (2, WIDTH)).sum(1)
            gates = torch.sigmoid(
                self.conv(f"{name}.ConvGRU.ConvGates", torch.cat([message, node], 1))
            )
            reset, update = gates.chunk(2, 1)
            both = torch.cat([message, reset * node], 1)
            candidate = torch.tanh(self.conv(f"{name}.ConvGRU.Conv_ct", both))
            updated = (1 - update) * node + update * candidate
            result.append(updated * self.state[f"{name}.gamma"] + node)
        return result

    def graph(self, ir, vi):
        self.use("GraphModel")
        sides = []
        for side, x in (("rgb", ir), ("dep", vi)):
            nodes = []
            for place, dilation in enumerate((4, 8, 16)):
                name = f"graph.graph.ppm_{side}.convs.{place}"
                nodes.append(F.relu(self.norm(f"{name}.1", self.conv(f"{name}.0", x, 1, dilation))))
            sides.append(nodes)
        for scale in range(3):
            one, two = (nodes[scale] for nodes in sides)
            for _ in range(2):
                one, two = one + self.gated(1, two, one), two + self.gated(0, one, two)
            sides[0][scale], sides[1][scale] = one, two
        merged = []
        for place, side in enumerate(("rgb", "dep")):
            nodes = sides[place]
            for _ in range(2):
                nodes = self.reasoned(f"graph.graph.graph_{side}", nodes)
            name = f"graph.C_cat.{place}"
            x = self.conv(f"{name}.0", torch.cat(nodes, 1))
            merged.append(F.relu(self.norm(f"{name}.1", x)))
        return self.conv("C_cls", torch.cat(merged, 1))

    def __call__(self, ir, vi):
        (ir, ir_base, ir_detail), (vi, vi_base, vi_detail) = self.encode(ir), self.encode(vi)
        self.use("BaseFuseLayer")
        total = self.block("", ir_base + vi_base, "mlp")
        self.use("DetailFuseLayer")
        x = self.gradient_dense("GRDB", ir_detail + vi_detail)
        for step in range(2):
            one, two = self.conv(f"net.{step}.shffleconv", x).chunk(2, 1)

            def apart(value, shift, scale, step=step):
                shift, scale = (self.bottleneck(f"net.{step}.{n}", value) for n in (shift, scale))
                return shift, (4 * (torch.sigmoid(scale) - 0.5)).exp()

            shift, scale = apart(one, "y", "r")
            two = (two - shift) / scale
            shift, scale = apart(two, "f", "p")
            x = torch.cat([(one - shift) / scale, two], 1)
        total = total + x + self.graph(ir, vi)
        self.use("DIDF_Decoder")
        x = self.block("encoder_level1.0.", total)
        for place in (0, 2):
            x = F.leaky_relu(self.conv(f"output.{place}", x), 0.01)
        return torch.sigmoid(self.conv("output.4", x))


@pytest.fixture(scope="module")
def states():
    generator = torch.Generator().manual_seed(0)
    return {part: filled(shapes, generator) for part, shapes in LAYOUT.items()}


def saved(states, path):
    prefixed = {
        part: {f"module.{name}": tensor for name, tensor in state.items()}
        for part, state in states.items()
    }
    torch.save(prefixed, path)
    return path


@pytest.fixture(scope="module")
def file(states, tmp_path_factory):
    return saved(states, tmp_path_factory.mktemp("released") / "model_VIF.pth")


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    return zoo.import_weights("smfnet", file, tmp_path_factory.mktemp("imported") / "out")


def test_every_tensor_of_the_layout_is_used_or_named_as_unused():
    used = 0
    for part, (names, unused) in PARTS.items():
        left = LAYOUT[part].keys() - names.keys()
        assert left == {name for name in LAYOUT[part] if name.startswith(unused or ("/",))}
        assert names.keys() <= LAYOUT[part].keys()
        used += len(names)
    assert used == 294


def test_an_imported_folder_computes_what_the_release_does(folder, states):
    model = fusionzoo.load(folder)
    assert model.options["variant"] == "released"
    generator = torch.Generator().manual_seed(1)
    ir, vi = torch.rand(2, 1, 1, 24, 40, generator=generator).unbind()
    with torch.no_grad():
        expected = Reference(states)(ir, vi)
        assert expected.std() > 0.02
        torch.testing.assert_close(model.network(ir, vi), expected, rtol=0, atol=2e-5)
        assert (Reference(states)(vi, ir) - expected).abs().max() > 1e-3, "the order shows"
        streamed = model.network.for_inference()
        torch.testing.assert_close(streamed(ir, vi), expected, rtol=0, atol=2e-5)
    fused = zoo.load_network(folder)(ir, vi)
    torch.testing.assert_close(fused, expected, rtol=0, atol=2e-5)


def test_the_folder_says_where_its_weights_come_from(folder):
    card = (folder / "README.md").read_text()
    assert "Abraham-Einstein/SMFNet" in card
    assert "none published by the authors" in card


def test_other_files_are_refused(states, tmp_path):
    path = tmp_path / "model.pth"
    for change, message in (
        ({}, "not a file of the released SMFNet: those hold a state dict under 'DIDF_Encoder'"),
        ({**states, "GraphModel": states["DIDF_Decoder"]}, r"GraphModel .*missing C_cls\.weight"),
    ):
        saved(change, path)
        with pytest.raises(ValueError, match=message):
            import_smfnet(path)
    encoder = {**states["DIDF_Encoder"]}
    encoder["GRDB_module.GRDB.sobelconv.convx.weight"] = torch.zeros(3)
    saved({**states, "DIDF_Encoder": encoder}, path)
    with pytest.raises(ValueError, match=r"model\.pth is not a file of the released SMFNet"):
        zoo.import_weights("smfnet", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
