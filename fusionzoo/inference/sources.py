"""The kinds of image that `fuse` takes, as stacks of raw values, and the way back to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fusionzoo.inference.pillow import array_to_pil, icc_profile_of, plain
from fusionzoo.inference.ranges import DTYPES, check_range, to_unit
from fusionzoo.inference.reading import FILE_KINDS, open_image

DTYPE_NAMES = "uint8, uint16, int16, int32, int64, float16, float32 or float64"


@dataclass(frozen=True)
class Source:
    """One argument, opened.

    Attributes:
        name: the argument, for errors.
        colors: raw values ``(B, 1 or 3, H, W)`` in the argument's own dtype, on its own device.
        alpha: raw values ``(B, 1, H, W)``, or None.
        give_back: makes the argument's kind of image of raw values ``(B, C, H, W)``.
        float_tensor: the argument is one, so gradients can pass.
    """

    name: str
    colors: Tensor
    alpha: Tensor | None
    give_back: Callable[[Tensor], Any]
    float_tensor: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.colors.shape[-2:]
        return height, width


def read_source(image: Any, name: str) -> Source:
    """Open a path, PIL image, array or tensor.

    Raises:
        ValueError, TypeError, FileNotFoundError: naming `name`, the problem and the remedy.
    """
    if isinstance(image, FILE_KINDS):
        image = open_image(image, name)
    if isinstance(image, Image.Image):
        return _from_pil(image, name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    raise TypeError(
        f"{name} is a {type(image).__name__}; pass a path, PIL image, numpy array, torch tensor "
        "or a list of these"
    )


def normalise(
    image: np.ndarray | Tensor,
    value_range: tuple[float, float] | None = None,
    *,
    name: str = "image",
) -> Tensor:
    """An array ``(H, W)`` / ``(H, W, C)`` or tensor ``(C, H, W)`` as float32 in [0, 1].

    Gives ``(1, H, W)`` or, for colour, ``(3, H, W)``; alpha is dropped. Value ranges, dtypes and
    errors are those of :func:`fusionzoo.inference.fuse_images`: 8-bit values are divided by 255,
    floats in [0, 1] stay, anything else is mapped by its 0.5 and 99.5 percentiles or, if given,
    by ``value_range=(lo, hi)``. What a path or PIL image holds can be passed as well.
    """
    source = read_source(image, name)
    unit, _ = to_unit(source.colors, check_range(value_range, "value_range"), name)
    if len(unit) != 1:
        raise ValueError(f"{name} is a batch of {len(unit)} images; pass them one by one")
    return unit[0].to(torch.float32)


def _from_pil(image: Image.Image, name: str) -> Source:
    if 0 in image.size:
        raise ValueError(f"{name} is empty; pass an image of at least 2 x 2 pixels")
    image = plain(image)
    values = np.asarray(image)
    planes = _planes(values if values.ndim == 3 else values[..., None])
    colors, alpha = _split_alpha(planes, name)
    profile = icc_profile_of(image)
    return Source(name, colors, alpha, lambda stack: array_to_pil(_pixels(stack), profile))


def _from_array(array: np.ndarray, name: str) -> Source:
    dtype, ndim = array.dtype, array.ndim
    native = dtype.newbyteorder("=")
    _check_dtype(str(native), [str(known).removeprefix("torch.") for known in DTYPES], name)
    if ndim not in (2, 3) or (ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; move the channels last" if ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ValueError(
            f"{name} has shape {array.shape}; an array is (H, W) or (H, W, 1|3|4){hint}, "
            "a batch is a list of arrays"
        )
    pixels = np.asarray(array).astype(native, copy=False)
    planes = _planes(pixels if ndim == 3 else pixels[..., None])

    def give_back(stack: Tensor) -> np.ndarray:
        pixels = _pixels(stack)
        if ndim == 3 and array.shape[2] == 1:
            pixels = pixels[..., None]
        return np.ascontiguousarray(pixels, dtype=dtype)

    return Source(name, *_split_alpha(planes, name), give_back)


def _from_tensor(tensor: Tensor, name: str) -> Source:
    _check_dtype(str(tensor.dtype), [str(known) for known in DTYPES], name)
    ndim = tensor.ndim
    if ndim not in (2, 3, 4) or (ndim > 2 and tensor.shape[-3] not in (1, 3, 4)):
        hint = "; move the channels first" if ndim > 2 and tensor.shape[-1] in (1, 3, 4) else ""
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; a tensor is (H, W), (C, H, W) or "
            f"(B, C, H, W) with C of 1, 3 or 4{hint}"
        )
    stack = tensor[(None,) * (4 - ndim)]
    device = tensor.device

    def give_back(stack: Tensor) -> Tensor:
        stack = stack.to(device)
        return stack if ndim == 4 else stack[0] if ndim == 3 else stack[0, 0]

    return Source(name, *_split_alpha(stack, name), give_back, tensor.is_floating_point())


def _check_dtype(dtype: str, known: list[str], name: str) -> None:
    if dtype not in known:
        raise TypeError(f"{name} is {dtype}; convert it to {DTYPE_NAMES}")


def _planes(pixels: np.ndarray) -> Tensor:
    """``(H, W, C)`` as a tensor ``(1, C, H, W)``, without a copy where memory allows it."""
    if not pixels.flags.writeable or any(stride < 0 for stride in pixels.strides):
        pixels = pixels.copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _pixels(stack: Tensor) -> np.ndarray:
    """The one image of a stack as ``(H, W)`` or ``(H, W, C)``."""
    pixels = stack[0].permute(1, 2, 0).cpu().numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _split_alpha(stack: Tensor, name: str) -> tuple[Tensor, Tensor | None]:
    if 0 in stack.shape or min(stack.shape[-2:]) < 2:
        height, width = stack.shape[-2:]
        raise ValueError(
            f"{name} is {height} x {width} (height x width) in a batch of {len(stack)}; "
            "pass images of at least 2 x 2 pixels"
        )
    if stack.shape[1] in (2, 4):
        alpha = stack[:, -1:]
        if alpha.is_floating_point() and not alpha.isfinite().all():
            raise ValueError(f"{name} contains NaN or infinite alpha values; replace them first")
        return stack[:, :-1], alpha
    return stack, None
