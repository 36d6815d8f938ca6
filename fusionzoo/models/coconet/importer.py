"""Reads the weights that CoCoNet's authors released into this package's form.

The file is what their training writes: ``{"meta", "state_dict", "optimizer"}``, of which the state
dict's 153 tensors count. ``docs/import_weights.md`` has the table of names.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fusionzoo.models.released import NORM, plain_state, renamed, tensors_of
from fusionzoo.weights import read_pickle

_WHAT = "file of the released CoCoNet"
# The authors' number of a block (convolution and norm) -> this package's block.
_BLOCKS = {
    "1_1": "down1.0", "1_2": "down1.1",
    "2_1": "down2.0", "2_2": "down2.1",
    "3_1": "down3.0", "3_2": "down3.1",
    "4_1": "down4", "4_2": "bottom",
    "7_1": "up3.block.0", "7_2": "up3.block.1",
    "8_1": "up2.block.0", "8_2": "up2.block.1",
    "9_1": "up1.block.0",
}  # fmt: skip
_CONVOLUTIONS = {
    **{f"conv{theirs}": f"{ours}.conv" for theirs, ours in _BLOCKS.items()},
    "conv9_2": "up1.block.1.conv",  # the one block without norm
    "deconv6": "up3.reduce",
    "deconv7": "up2.reduce",
    "deconv8": "up1.reduce",
    "att_deconv8": "mams.0.merge",
    "att_deconv7": "mams.1.merge",
    "deconv4": "mams.2.merge",
    "conv10": "last",
}
_ATTENTIONS = {
    f"se_{width}.conv_{place}": f"mams.{level}.attention.{name}"
    for level, width in enumerate((64, 128, 256))
    for place, name in enumerate("pqh", start=1)
}
_VGG = {
    "slice1.0": "0.0", "slice1.3": "0.1",
    "slice2.6": "1.0", "slice2.8": "1.1",
    "slice3.11": "2.0", "slice3.13": "2.1", "slice3.15": "2.2", "slice3.17": "2.3",
}  # fmt: skip
#: The authors' name of every tensor that is used, and this package's.
NAMES = {
    **tensors_of(_CONVOLUTIONS),
    **tensors_of({f"bn{theirs}": f"{ours}.norm" for theirs, ours in _BLOCKS.items()}, NORM),
    **tensors_of(_ATTENTIONS),
    **{f"se_{width}.gamma": f"mams.{n}.attention.gamma" for n, width in enumerate((64, 128, 256))},
    **tensors_of({f"vgg19.{theirs}": f"vgg.blocks.{ours}" for theirs, ours in _VGG.items()}),
}
#: What the released code makes and does not use: a level of attention for the plain skip.
UNUSED = ("se_32.", "att_deconv9.")
_FIRST = "down1.0.conv.weight"


def import_coconet(path: str | Path) -> dict[str, Tensor]:
    """Read the authors' file into the state of ``CoCoNetNetwork(variant="released")``, on the CPU.

    Only tensors and plain containers are unpickled. A bare state dict is taken, too. Shapes are
    checked where the state is loaded.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is damaged, holds other objects, or is not what it is given as.
    """
    content = read_pickle(path)
    if isinstance(content, dict) and "state_dict" in content:
        content = content["state_dict"]
    state = plain_state(content, path, _WHAT, "under 'state_dict'")
    result = renamed(state, NAMES, path, _WHAT, UNUSED)
    # The release is called with the visible image first, and only this layer tells them apart.
    result[_FIRST] = result[_FIRST].flip(1) if result[_FIRST].ndim == 4 else result[_FIRST]
    result["vgg.trained"] = torch.tensor(True)
    return result
