"""The options of `fuse`, checked before anything is read or computed."""

from __future__ import annotations

import operator
from functools import cache
from typing import Any

import numpy as np
import torch

from fusionzoo.errors import InputError, check_choice
from fusionzoo.inference.ranges import check_range

# Torch has others of 8 bits and fewer, which are for storage: nearly no layer computes in them.
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_options(
    *,
    color: Any = True,
    ir_range: Any = None,
    vi_range: Any = None,
    resize: Any = None,
    color_from: Any = "vi",
    device: Any = None,
    dtype: Any = torch.float32,
    batch_size: Any = 1,
    grad: Any = False,
    tile: Any = "auto",
    memory: Any = None,
) -> None:
    """Refuse what :func:`fusionzoo.inference.fuse_images` does not take, by name.

    ``model.fuse`` calls this before it makes its network ready.

    Raises:
        InputError: a ValueError that names the argument, its value and what to pass.
    """
    for name, value in (("color", color), ("grad", grad)):
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{name}={value!r}; pass True or False")
    check_range(ir_range, "ir_range")
    check_range(vi_range, "vi_range")
    check_choice("resize", resize, (None, "ir", "vi"))
    check_choice("color_from", color_from, ("vi", "ir"))
    if not isinstance(dtype, torch.dtype) or dtype not in _DTYPES:
        known = ", ".join(map(str, _DTYPES))
        raise InputError(f"dtype={dtype!r}; pass a floating dtype: one of {known}")
    check_count("batch_size", batch_size)
    if tile not in ("auto", "off"):
        try:
            check_count("tile", tile)
        except InputError:
            raise InputError(f"tile={tile!r}; pass 'auto', 'off' or a number of pixels") from None
    if memory is not None:
        check_memory_option(memory)
    if device is not None:
        _check_device(device)


def check_memory_option(memory: Any) -> None:
    """Refuse what is no number of bytes above 0."""
    if isinstance(memory, bool) or not isinstance(memory, int | float) or not memory > 0:
        raise InputError(f"memory={memory!r}; pass a number of bytes above 0, such as 4e9")


def check_count(name: str, value: Any) -> None:
    """Refuse what is no integer of at least 1."""
    try:
        if isinstance(value, bool) or operator.index(value) < 1:
            raise TypeError("too small, or no number")
    except TypeError:
        raise InputError(f"{name}={value!r}; pass an integer of at least 1") from None


def _check_device(device: Any) -> None:
    try:
        if isinstance(device, bool):
            raise TypeError("a bool is no device")
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device={device!r}; pass a device such as 'cpu' or 'cuda'") from error
    try:
        _try_device(place)
    # Torch raises AssertionError, RuntimeError, NotImplementedError, ... for devices it lacks.
    except Exception as error:
        raise InputError(
            f"device={str(device)!r} is not there on this machine, or not supported by this "
            "installation of torch; pass another, such as 'cpu'"
        ) from error


@cache
def _try_device(place: torch.device) -> None:
    if place.type != "cpu":
        torch.zeros(1, device=place).item()  # "meta" has no values
