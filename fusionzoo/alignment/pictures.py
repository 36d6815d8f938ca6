"""Images of any kind as the grey pictures that alignments are estimated from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fusionzoo.alignment.geometry import Size, resampling
from fusionzoo.alignment.levels import Picture
from fusionzoo.errors import InputError
from fusionzoo.inference.color import to_grey
from fusionzoo.inference.ranges import to_unit
from fusionzoo.inference.sources import read_source

#: Longer side at which images are compared at most; larger ones are reduced by whole numbers.
LARGEST = 1600
_ROWS = 256


@dataclass(frozen=True)
class Seen:
    """An image for estimation: reduced, and by how much.

    Attributes:
        picture: the reduced image.
        size: height and width of the image itself.
        reduction: a whole number.
    """

    picture: Picture
    size: Size
    reduction: int

    @property
    def reducing(self) -> Tensor:
        """The transform from pixels of the image to those of the picture."""
        return resampling(1 / self.reduction)


def see(image: Any, name: str) -> Seen:
    """Open an image of any kind that ``model.fuse`` takes.

    Raises:
        InputError: a batch, too small, or constant: there is nothing to align by.
        InputTypeError, MissingFileError, FileError: as ``fuse_images`` says.
    """
    source = read_source(image, name, visible=name == "vi")
    if len(source.colors) != 1:
        raise InputError(
            f"{name} is a batch of {len(source.colors)} images; align them pair by pair, or pass "
            "the pairs of one rig to fusionzoo.align_rig"
        )
    size = source.size
    if min(size) < 32:
        raise InputError(
            f"{name} is {size[0]} x {size[1]} (height x width); alignment needs 32 x 32 at least"
        )
    reduction = max(1, max(size) // LARGEST)
    colors = _reduced(source.colors.detach().cpu(), reduction)
    unit, _ = to_unit(colors, source.limits, name)
    grey = to_grey(unit.to(torch.float32))[0, 0]
    if float(grey.std()) < 1e-4:
        raise InputError(f"{name} is constant; there is nothing in it to align by")
    return Seen(Picture.of(grey.contiguous()), size, reduction)


def _reduced(stack: Tensor, reduction: int) -> Tensor:
    """Means over blocks, a few rows at a time, in the stack's own value range."""
    if reduction == 1:
        return stack
    parts = []
    rows = _ROWS * reduction
    for top in range(0, stack.shape[-2] // reduction * reduction, rows):
        strip = stack[..., top : top + rows, :]
        parts.append(avg_pool2d(strip.to(torch.float32), reduction))
    means = torch.cat(parts, -2)
    return means.round().to(torch.uint8) if stack.dtype == torch.uint8 else means
