"""Reads the weights that DIDFuse's authors released (conference version) into this package's form.

They are two pickles, one of the encoder and one of the decoder, each ``{"weight": state dict}``.
The authors publish no licence with them: this reads files that the user has, and ships none.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from fusionzoo.errors import InputError
from fusionzoo.models.released import NORM, renamed
from fusionzoo.weights import read_pickle

# The authors' block -> this package's block, position of the convolution in their Sequential
# (1 where reflection padding comes first), and whether the block has a PReLU.
_ENCODER = {
    "cov1": ("encoder.conv1", 1, True),
    "cov2": ("encoder.conv2", 0, True),
    "cov3": ("encoder.base", 0, False),
    "cov4": ("encoder.detail", 0, False),
}
_DECODER = {
    "cov5": ("decoder.conv5", 0, True),
    "cov6": ("decoder.conv6", 0, True),
    "cov7": ("decoder.conv7", 1, False),
}
_CONV = ("weight", "bias")
_ACT = ("weight",)


def import_didfuse(encoder_path: str | Path, decoder_path: str | Path) -> dict[str, Tensor]:
    """Read the authors' two files into the state of ``DIDFuseNetwork``, on the CPU.

    Only tensors and plain containers are unpickled. Shapes are checked where the state is loaded.

    Args:
        encoder_path: the released encoder file.
        decoder_path: the released decoder file.

    Raises:
        FileNotFoundError: a file does not exist.
        InputError: a file is damaged, holds other objects, or is not the one it is given as.
    """
    return {
        **_read(encoder_path, "encoder", _renaming(_ENCODER), other=_renaming(_DECODER)),
        **_read(decoder_path, "decoder", _renaming(_DECODER), other=_renaming(_ENCODER)),
    }


def _renaming(blocks: dict[str, tuple[str, int, bool]]) -> dict[str, str]:
    names = {}
    for theirs, (ours, first, has_act) in blocks.items():
        layers = [("conv", _CONV), ("norm", NORM), *([("act", _ACT)] if has_act else [])]
        for position, (layer, tensors) in enumerate(layers, start=first):
            for tensor in tensors:
                names[f"{theirs}.{theirs}.{position}.{tensor}"] = f"{ours}.{layer}.{tensor}"
    return names


def _read(
    path: str | Path, part: str, names: dict[str, str], other: dict[str, str]
) -> dict[str, Tensor]:
    content = read_pickle(path)
    state = content.get("weight") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{path} is not a released DIDFuse file: those hold a state dict under 'weight'; "
            f"give the authors' {part} file"
        )
    if other.keys() <= state.keys():
        raise InputError(
            f"{path} was given as the {part} and holds the other half; the encoder's file comes "
            "first, then the decoder's"
        )
    return renamed(state, names, path, f"{part} of the released DIDFuse")
