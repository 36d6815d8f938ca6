"""Reads the weights that SMFNet's authors released into this package's form.

The file holds five state dicts, each with DataParallel's prefix. The authors publish no licence
with it: this reads a file that the user has, and ships none. ``docs/import_weights.md`` has the
table of names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionzoo.errors import InputError
from fusionzoo.models.released import NORM, WEIGHT_BIAS, plain_state, renamed, tensors_of
from fusionzoo.weights import read_pickle

_WEIGHT = ("weight",)
_BOTTLENECK = {"0": "enter", "3": "depthwise", "5": "leave"}


def _block(prefix: str, ours: str, feed_forward: str = "ffn_leff") -> dict[str, str]:
    """A Transformer block with MDTA and LeFF."""
    attention, leff = f"{prefix}attn", f"{prefix}{feed_forward}"
    return {
        **tensors_of({f"{prefix}norm{n}.body": f"{ours}.norm{n}" for n in (1, 2)}),
        f"{attention}.temperature": f"{ours}.attention.temperature",
        **tensors_of(
            {
                f"{attention}.qkv": f"{ours}.attention.qkv",
                f"{attention}.qkv_dwconv": f"{ours}.attention.depthwise",
                f"{attention}.project_out": f"{ours}.attention.projection",
            },
            _WEIGHT,
        ),
        **tensors_of(
            {
                f"{leff}.linear1.0": f"{ours}.feed_forward.enter",
                f"{leff}.dwconv.0": f"{ours}.feed_forward.depthwise",
                f"{leff}.linear2.0": f"{ours}.feed_forward.leave",
            }
        ),
    }


def _dense_block(theirs: str, ours: str) -> dict[str, str]:
    """The base branch's second kind of block."""
    return {
        **tensors_of({f"{theirs}.norm{n}.body": f"{ours}.norm{n}" for n in (1, 2)}),
        f"{theirs}.attn.scale": f"{ours}.attention.temperature",
        **tensors_of(
            {
                f"{theirs}.attn.qkv1": f"{ours}.attention.qkv",
                f"{theirs}.attn.qkv2": f"{ours}.attention.dense",
                f"{theirs}.attn.proj": f"{ours}.attention.projection",
                f"{theirs}.mlp.project_in": f"{ours}.feed_forward.enter",
                f"{theirs}.mlp.project_out": f"{ours}.feed_forward.leave",
            },
            _WEIGHT,
        ),
    }


def _gradient_dense(theirs: str, ours: str) -> dict[str, str]:
    """The gradient residual dense block; its Sobel kernels come as two tensors."""
    return {
        **tensors_of(
            {
                f"{theirs}.conv.conv": f"{ours}.conv",
                f"{theirs}.GRDB.dense.conv1.conv": f"{ours}.dense1",
                f"{theirs}.GRDB.dense.conv2.conv": f"{ours}.dense2",
                f"{theirs}.GRDB.convdown.conv": f"{ours}.merge",
                f"{theirs}.GRDB.convup.conv": f"{ours}.gradient",
            }
        ),
        **tensors_of(
            {f"{theirs}.GRDB.sobelconv.conv{axis}": f"{ours}.sobel.{axis}" for axis in "xy"},
            _WEIGHT,
        ),
    }


def _bottleneck(theirs: str, ours: str) -> dict[str, str]:
    return tensors_of(
        {f"{theirs}.bottleneckBlock.{n}": f"{ours}.{name}" for n, name in _BOTTLENECK.items()},
        _WEIGHT,
    )


def _encoder() -> dict[str, str]:
    names = {"patch_embed.proj.weight": "encoder.embed.weight"}
    names |= _block("encoder_level1.0.", "encoder.block")
    names |= tensors_of({"baseFeature.conv_first": "base.conv"})
    for group in range(2):
        theirs, ours = f"baseFeature.layers.{group}", f"base.groups.{group}"
        for depth in range(2):
            place = f"{theirs}.residual_group.{depth}"
            names |= _block(f"{place}.0.", f"{ours}.blocks.{2 * depth}")
            names |= _dense_block(f"{place}.1", f"{ours}.blocks.{2 * depth + 1}")
        names |= tensors_of({f"{theirs}.conv.{n}": f"{ours}.bottleneck.{n}" for n in (0, 2, 4)})
    names |= _gradient_dense("GRDB_module", "detail.0")
    cross, coupling = "detailFeature.TCA", "detailFeature.layer"
    names[f"{cross}.temperature"] = "detail.1.attention.temperature"
    names |= tensors_of(
        {f"{cross}.{name}": f"detail.1.attention.{name}" for name in _CROSS}, WEIGHT_BIAS
    )
    names |= tensors_of({f"{coupling}.shffleconv": "detail.1.shuffle"})
    for name in ("phi", "rho", "eta"):
        names |= _bottleneck(f"{coupling}.theta_{name}", f"detail.1.coupling.{name}")
    return names


def _decoder() -> dict[str, str]:
    convolutions = {f"output.{2 * n}": f"decoder.convs.{n}" for n in range(3)}
    return {**_block("encoder_level1.0.", "decoder.block"), **tensors_of(convolutions, _WEIGHT)}


def _detail_fusion() -> dict[str, str]:
    names = _gradient_dense("GRDB", "detail_fusion.0")
    for step in range(2):
        theirs, ours = f"net.{step}", f"detail_fusion.{step + 1}"
        names |= tensors_of({f"{theirs}.shffleconv": f"{ours}.shuffle"})
        for letter, name in {"r": "rho", "y": "eta", "f": "phi", "p": "psi"}.items():
            names |= _bottleneck(f"{theirs}.{letter}", f"{ours}.{name}")
    return names


def _graph() -> dict[str, str]:
    names = tensors_of({"C_cls": "graph.merge"})
    # The first gate of the release lets infrared into the visible image.
    names["graph.graph.C_pa.0.weight"] = "graph.cross.to_vi.weight"
    names["graph.graph.C_pa.1.weight"] = "graph.cross.to_ir.weight"
    for place, (theirs, ours) in enumerate((("rgb", "ir"), ("dep", "vi"))):
        norms = {f"graph.C_cat.{place}": f"graph.{ours}.merge"}
        norms |= {
            f"graph.graph.ppm_{theirs}.convs.{n}": f"graph.{ours}.nodes.{n}" for n in range(3)
        }
        names |= tensors_of({f"{t}.0": f"{o}.conv" for t, o in norms.items()}, _WEIGHT)
        names |= tensors_of({f"{t}.1": f"{o}.norm" for t, o in norms.items()}, NORM)
        model, reasoning = f"graph.graph.graph_{theirs}", f"graph.{ours}.reasoning"
        names[f"{model}.gamma"] = f"{reasoning}.gamma"
        names[f"{model}.C_wgt.weight"] = f"{reasoning}.edge.weight"
        gates = {"ConvGates": "gates", "Conv_ct": "candidate"}
        names |= tensors_of(
            {f"{model}.ConvGRU.{t}": f"{reasoning}.update.{o}" for t, o in gates.items()}
        )
    return names


_CROSS = ("q", "kv", "q_dwconv", "kv_dwconv", "project_out")
#: Under which key of the file a part is: its names and this package's, and what is not used.
PARTS: Mapping[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "DIDF_Encoder": (
        _encoder(),
        ("baseFeature.reduce_channel.", "baseFeature.norm.", "baseFeature.conv_after_body."),
    ),
    "DIDF_Decoder": (_decoder(), ()),
    "BaseFuseLayer": (_block("", "base_fusion", "mlp"), ("reduce_channel.",)),
    "DetailFuseLayer": (_detail_fusion(), ()),
    "GraphModel": (
        _graph(),
        ("graph.C_cls.", "graph.graph.C_ca.", *(f"graph.C_cat.{n}." for n in range(2, 6))),
    ),
}


def import_smfnet(path: str | Path) -> dict[str, Tensor]:
    """Read the authors' file into the state of ``SMFNetNetwork(variant="released")``, on the CPU.

    Only tensors and plain containers are unpickled. Shapes are checked where the state is loaded.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is damaged, holds other objects, or is not what it is given as.
    """
    content: Any = read_pickle(path)
    result: dict[str, Tensor] = {}
    for part, (names, unused) in PARTS.items():
        what = f"{part} of the released SMFNet"
        state = content.get(part) if isinstance(content, dict) else None
        tensors = plain_state(state, path, "file of the released SMFNet", f"under {part!r}")
        result |= renamed(tensors, names, path, what, unused)
    try:
        _join_sobel(result, "detail.0.sobel")
        _join_sobel(result, "detail_fusion.0.sobel")
        _share_projections(result, "detail.1.attention")
    except (RuntimeError, IndexError) as error:  # torch's, for shapes that do not go together
        raise InputError(
            f"{path} is not a file of the released SMFNet ({error}); give the authors' file"
        ) from error
    return result


def _join_sobel(state: dict[str, Tensor], name: str) -> None:
    """Both kernels of a channel next to each other, as one grouped convolution has them."""
    both = [state.pop(f"{name}.{axis}.weight") for axis in "xy"]
    state[name] = torch.stack(both, 1).flatten(0, 1)


def _share_projections(state: dict[str, Tensor], name: str) -> None:
    """Give each half of the channels a copy of the projections that the release has once."""
    taken = {
        (layer, kind): state.pop(f"{name}.{layer}.{kind}")
        for layer in _CROSS
        for kind in WEIGHT_BIAS
    }
    for kind in WEIGHT_BIAS:
        for ours, suffix in (("qkv", ""), ("depthwise", "_dwconv")):
            half = [taken[f"q{suffix}", kind], taken[f"kv{suffix}", kind]]
            state[f"{name}.{ours}.{kind}"] = torch.cat([*half, *half])
        for n in range(2):
            state[f"{name}.projections.{n}.{kind}"] = taken["project_out", kind].clone()
    state[f"{name}.temperature"] = state[f"{name}.temperature"].repeat(2, 1, 1, 1)
