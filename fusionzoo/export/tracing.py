"""From a network to a program of tensor operations that holds for images of any size."""

from __future__ import annotations

import copy
import re
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusionzoo.errors import ResultError
from fusionzoo.network import declared_by, eval_view, uncompiled

__all__ = ["least_side", "traced"]

# Networks may treat the smallest images apart; the engine pads them instead.
_LEAST = 16
# At least the height and the width less the height of what the tracer is given, if it may choose.
_TRACED = (64, 32)
_MOST_SIDE, _MOST_IMAGES = 1 << 16, 1 << 12


def least_side(network: nn.Module) -> int:
    """Height and width that the exported network takes at least.

    Twice the multiple of sizes, or more: a network's coarsest map may have that many pixels less,
    and torch.export takes a side of one pixel for another case than all other sides.
    """
    declared = declared_by(network)
    multiple = int(declared["size_multiple"])
    least = max(int(declared["min_size"]), _LEAST, 2 * multiple)
    return _raised(least, multiple)


def _raised(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def traced(network: nn.Module, size: tuple[int, int] | None = None) -> torch.export.ExportedProgram:
    """Trace a network in eval mode, float32, on the CPU.

    Args:
        network: see :class:`fusionzoo.network.FusionNetwork`; it stays as it is.
        size: ``(width, height)`` of the only images that the program takes; by default it takes
            any height and width that are multiples of what the network declares. The batch is
            free in both cases.

    Raises:
        ResultError: the network does what the tracer cannot follow.
    """
    program = _Program(network)
    declared = declared_by(network)
    multiple = int(declared["size_multiple"])
    height = _raised(max(_TRACED[0], least_side(network)), multiple)
    width = height + _raised(_TRACED[1], multiple)
    shape = (2, 1, *((height, width) if size is None else size[::-1]))
    low, high = declared["value_range"]
    generator = torch.Generator().manual_seed(0)
    ir, vi = (torch.rand(shape, generator=generator) * (high - low) + low for _ in range(2))
    dims = _dims(network, size)
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            return torch.export.export(program, (ir, vi), dynamic_shapes=(dims, dims))
    except Exception as error:  # whatever the network's own code raises, too
        sizes = "with free height and width" if size is None else "at this size"
        remedy = "try one size (--size WxH), or " if size is None else ""
        raise ResultError(
            f"{type(uncompiled(network)).__name__} cannot be traced {sizes}: {_reason(error)}; "
            f"{remedy}change what it does there"
        ) from error


class _Program(nn.Module):
    """The network as a part of another.

    The tracer has attributes of its own, such as ``graph``, that a network's part may be called.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(eval_view(uncompiled(network))).float().cpu()
        self.requires_grad_(False)
        self.eval()

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        return cast(Tensor, self.network(ir, vi))


def _dims(network: nn.Module, size: tuple[int, int] | None) -> dict[int, Any]:
    from torch.export import Dim

    dims: dict[int, Any] = {0: Dim("batch", min=1, max=_MOST_IMAGES)}
    if size is None:
        multiple = declared_by(network)["size_multiple"]
        for axis, name in ((2, "height"), (3, "width")):
            least, most = least_side(network) // multiple, _MOST_SIDE // multiple
            dim = Dim(name, min=least, max=most)
            dims[axis] = dim if multiple == 1 else multiple * dim
    return dims


def _reason(error: Exception) -> str:
    """What went wrong, in one line of no more than some words."""
    text = re.sub(r"\s+", " ", str(error).split("\n\n")[0]).strip()
    text = re.sub(r"For more information, run with \S+\s*-?\s*", "", text)
    return (text or type(error).__name__)[:300].rstrip(" .")
