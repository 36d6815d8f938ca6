"""Alignment inside ``model.fuse``: from its argument ``align`` to what the engine calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionzoo.alignment.aligning import align as align_pair
from fusionzoo.alignment.points import fit_points
from fusionzoo.alignment.transform import Alignment
from fusionzoo.errors import AlignmentError, InputError, InputTypeError

#: Takes infrared ``(B, 1, h, w)`` and visible luma ``(B, 1, H, W)`` in [0, 1]; gives infrared
#: ``(B, 1, H, W)`` and how much of it counts, ``(B, 1, H, W)`` or ``(1, 1, H, W)`` in [0, 1].
Register = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Of a stream that is tracked: pairs from one estimate to the next, and how far to go to each.
_TRACK_EVERY = 25
_TRACK_SHARE = 1 / 3


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
    align: bool | Alignment | str | os.PathLike[str] | None,
    *,
    force: bool = False,
    track: bool = False,
) -> Register | None:
    """Return what aligns the frames of a stream: as :func:`registration`, but True estimates once.

    The first pair of frames is aligned, and all others by the same transform: for cameras that do
    not move against each other. With ``track``, a slow movement is followed: every 25th pair is
    aligned anew, and the corners move a third of the way to where it puts them. A pair whose
    confidence is low changes nothing.

    Args:
        align: as for :func:`registration`.
        force: take the first estimate even if its confidence is low.
        track: follow a slow movement.

    Raises:
        InputError: ``track`` without ``align``; and as :func:`registration`.
    """
    start = registration(align)
    if start is None and track:
        raise InputError("track=True follows an alignment; pass align, too")
    if not track and align is not True:
        return start
    return _Stream(start if isinstance(start, _Registration) else None, force, track)


class _Stream:
    """One alignment for all pairs, or with ``track`` one that follows some of them slowly."""

    def __init__(self, start: _Registration | None, force: bool, track: bool) -> None:
        self._known, self._force, self._track = start, force, track
        self._pairs = 0  # since the last estimate

    def __call__(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        if self._known is None:
            self._known = _Registration(align_pair(*_first(ir, vi), force=self._force))
        elif self._track and self._pairs >= _TRACK_EVERY:
            self._pairs = 0
            # A moment that shows too little is no reason to lose the stream, nor the alignment.
            with suppress(AlignmentError):
                found = align_pair(*_first(ir, vi))
                self._known = _Registration(_between(self._known.alignment, found, _TRACK_SHARE))
        self._pairs += len(ir)
        return self._known(ir, vi)


def _first(ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
    return ir[0].detach().float(), vi[0].detach().float()


def _between(one: Alignment, other: Alignment, share: float) -> Alignment:
    """Return an alignment whose corners lie between those of two, by a share of the way."""
    height, width = one.ir_size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64) - 0.5
    goals = (1 - share) * one.points(corners) + share * other.points(corners)
    return fit_points(corners, goals, one.ir_size, one.vi_size)


class _Registration:
    """One alignment for all pairs: its soft region is computed once."""

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
        self._weight = alignment.soft_region()[None, None]

    def __call__(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        alignment = self.alignment
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
