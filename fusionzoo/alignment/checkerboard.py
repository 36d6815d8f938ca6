"""A picture that shows whether two images lie on each other: squares of one and of the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from fusionzoo.alignment.pictures import Seen, see
from fusionzoo.alignment.transform import Alignment
from fusionzoo.alignment.warping import covered, warped
from fusionzoo.errors import InputError

__all__ = ["checkerboard"]

_GAP = 8  # white pixels between before and after


def checkerboard(ir: Any, vi: Any, found: Alignment, *, squares: int = 8) -> Image.Image:
    """Draw squares of the infrared and of the visible image by turns, before and after alignment.

    Where an edge goes on from square to square, the images fit. Left, the infrared image is only
    scaled to the visible one's size; right, it is where ``found`` puts it.

    Args:
        ir: what ``model.fuse`` takes for one pair: a path, an image, an array or a tensor.
        vi: the visible image.
        found: from :func:`align`, :func:`align_rig`, :func:`fit_points` or a file.
        squares: how many along the shorter side, 2 or more.

    Returns:
        A grey picture of both, side by side. Sides of more than 3200 pixels are reduced by whole
        numbers. Each image's contrast is spread from its 1 % to its 99 % percentile.

    Raises:
        InputError: an image of another size than ``found`` is of, a constant image, a batch, or
            too few squares.
        InputTypeError, MissingFileError, FileError: as ``model.fuse``.
    """
    if squares < 2:
        raise InputError(f"squares={squares}; use 2 or more")
    seen, under = see(ir, "ir"), see(vi, "vi")
    for name, image, size in (("ir", seen, found.ir_size), ("vi", under, found.vi_size)):
        if image.size != size:
            raise InputError(
                f"{name} is {image.size[1]} x {image.size[0]}, and the alignment is of "
                f"{size[1]} x {size[0]} pixels; pass the images that it is of"
            )
    visible, infrared = _spread(under), _spread(seen)
    size = under.picture.size
    stretched = interpolate(infrared[None, None], size, mode="bilinear", antialias=True)[0, 0]
    between = torch.from_numpy(found.transform.copy())
    transform = under.reducing @ between @ torch.linalg.inv(seen.reducing)
    # Outside the infrared image the visible one goes on.
    inside = covered(seen.picture.size, transform, size)
    moved = torch.where(inside, warped(infrared[None], transform, size)[0], visible)
    takes_ir = _squares(size, max(1, min(size) // squares))
    before, after = (torch.where(takes_ir, image, visible) for image in (stretched, moved))
    both = torch.cat([before, torch.ones(size[0], _GAP), after], 1)
    return Image.fromarray((both * 255).round().to(torch.uint8).numpy())


def _squares(size: tuple[int, int], side: int) -> Tensor:
    rows, columns = (torch.arange(length) // side for length in size)
    return (rows[:, None] + columns) % 2 == 0


def _spread(seen: Seen) -> Tensor:
    grey = seen.picture.grey
    low, high = np.percentile(grey.numpy(), (1, 99))
    return ((grey - float(low)) / max(float(high - low), 1e-6)).clamp(0, 1)
