"""Alignment inside ``model.fuse``: from its argument ``align`` to what the engine calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fusionzoo.alignment.aligning import align as align_pair
from fusionzoo.alignment.transform import Alignment
from fusionzoo.errors import InputError, InputTypeError

#: Takes infrared ``(B, 1, h, w)`` and visible luma ``(B, 1, H, W)`` in [0, 1]; gives infrared
#: ``(B, 1, H, W)`` and how much of it counts, ``(B, 1, H, W)`` or ``(1, 1, H, W)`` in [0, 1].
Register = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def registration(align: bool | Alignment | str | os.PathLike[str] | None) -> Register | None:
    """Return what brings infrared onto visible images, for ``fuse_images(register=...)``.

    Outside the region that both images show, the visible image takes the infrared one's place;
    the edge between them is soft.

    Args:
        align: an alignment, the path of one that ``save`` wrote, True to estimate one for every
            pair, None or False for none.

    Raises:
        MissingFileError, FileError, InputError: the file is not there or is no alignment.
        InputTypeError: another kind of argument.
    """
    if align is None or align is False:
        return None
    if align is True:
        return _register_each
    if isinstance(align, str | os.PathLike):
        align = Alignment.load(align)
    if not isinstance(align, Alignment):
        raise InputTypeError(
            f"align is a {type(align).__name__}; pass True, a fusionzoo.Alignment, or the path of "
            "one that was saved"
        )
    return _Registration(align)


def registration_once(
    align: bool | Alignment | str | os.PathLike[str] | None, *, force: bool = False
) -> Register | None:
    """Return what aligns the frames of a stream: as :func:`registration`, but True estimates once.

    The first pair of frames is aligned, and all others by the same transform: for cameras that do
    not move against each other.

    Args:
        align: as for :func:`registration`.
        force: take the estimate even if its confidence is low.
    """
    return _FirstPair(force) if align is True else registration(align)


class _FirstPair:
    def __init__(self, force: bool) -> None:
        self._force = force
        self._known: Register | None = None

    def __call__(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        if self._known is None:
            first = ir[0].detach().float(), vi[0].detach().float()
            self._known = _Registration(align_pair(*first, force=self._force))
        return self._known(ir, vi)


class _Registration:
    """One alignment for all pairs: its soft region is computed once."""

    def __init__(self, alignment: Alignment) -> None:
        self._alignment = alignment
        self._weight = alignment.soft_region()[None, None]

    def __call__(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        alignment = self._alignment
        for name, tensor, size in (
            ("ir", ir, alignment.ir_size),
            ("vi", vi, alignment.vi_size),
        ):
            if tuple(tensor.shape[-2:]) != size:
                raise InputError(
                    f"{name} is {tensor.shape[-2]} x {tensor.shape[-1]} (height x width), and the "
                    f"alignment is for {size[0]} x {size[1]}; align this pair anew"
                )
        weight = self._weight.to(vi)
        moved: Any = alignment.warp(ir).to(vi)
        return torch.lerp(vi, moved, weight), weight


def _register_each(ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
    done = []
    for one, other in zip(ir, vi, strict=True):
        found = align_pair(one.detach().float(), other.detach().float())
        done.append(_Registration(found)(one[None], other[None]))
    return torch.cat([moved for moved, _ in done]), torch.cat([weight for _, weight in done])
