"""The kinds of image that `fuse` takes, as stacks of raw values, and the way back to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fusionzoo.errors import InputError, InputTypeError
from fusionzoo.inference.ranges import DTYPES, Limits, check_range, find_limits, to_unit
from fusionzoo.readers.content import FILE_KINDS
from fusionzoo.readers.opening import decode
from fusionzoo.readers.pillow import TIFF_TAGS, array_to_pil, icc_profile_of, plain
from fusionzoo.readers.reading import Reading

CHANNELS = (1, 3, 4)
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
        shape: of an array that is taken for a batch of grey images and may as well be one colour
            image with its channels first; None otherwise.
        limits: the values that become 0 and 1 unless the call says others; None leaves them to
            dtype and values.
        valid: bool ``(H, W)``: where there are values at all; None: everywhere.
        spacing: millimetres between rows and between columns; None: not known.
    """

    name: str
    colors: Tensor
    alpha: Tensor | None
    give_back: Callable[[Tensor], Any]
    float_tensor: bool = False
    shape: tuple[int, ...] | None = None
    limits: Limits | None = None
    valid: np.ndarray | None = None
    spacing: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.colors.shape[-2:]
        return height, width


def read_source(image: Any, name: str, *, visible: bool = False) -> Source:
    """Open a file, reading, PIL image, array or tensor.

    With ``visible`` the photograph in a thermal camera's file is opened, not the temperatures.

    Raises:
        InputError, InputTypeError, MissingFileError, FileError: naming `name`, the problem and
            the remedy.
    """
    if isinstance(image, FILE_KINDS):
        image = decode(image, name)
    if isinstance(image, Reading) and visible and image.visible is not None:
        image = array_to_pil(image.visible)
    if isinstance(image, Reading):
        return _from_reading(image, name)
    if isinstance(image, Image.Image):
        return _from_pil(image, name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    raise InputTypeError(
        f"{name} is a {type(image).__name__}; pass a path, PIL image, numpy array, torch tensor, "
        "the bytes of a file, a fusionzoo.open_image(...), or a list of these"
    )


def read_pair(ir: Any, vi: Any, suffix: str = "") -> tuple[Source, Source]:
    """Open a pair: of a thermal camera's file as ``vi`` the photograph; GeoTIFFs on one grid.

    Raises:
        InputError, InputTypeError, MissingFileError, FileError: as :func:`read_source`; or two
            GeoTIFFs do not overlap.
    """
    if isinstance(ir, FILE_KINDS):
        ir = decode(ir, "ir" + suffix)
    if isinstance(ir, Reading) and ir.kind == "geotiff":
        if isinstance(vi, FILE_KINDS):
            vi = decode(vi, "vi" + suffix)
        if isinstance(vi, Reading) and vi.kind == "geotiff":
            from fusionzoo.readers.geotiff import onto

            ir = onto(ir, vi)
    return read_source(ir, "ir" + suffix), read_source(vi, "vi" + suffix, visible=True)


def normalise(
    image: np.ndarray | Tensor | Reading,
    value_range: tuple[float, float] | None = None,
    *,
    name: str = "image",
) -> Tensor:
    """An array ``(H, W)`` / ``(H, W, C)`` or tensor ``(C, H, W)`` as float32 in [0, 1].

    Gives ``(1, H, W)`` or, for colour, ``(3, H, W)``; alpha is dropped. Value ranges, dtypes and
    errors are those of :func:`fusionzoo.inference.fuse_images`: 8-bit values are divided by 255,
    floats in [0, 1] stay, anything else is mapped by its 0.5 and 99.5 percentiles or, if given,
    by ``value_range=(lo, hi)``. What a path, reading or PIL image holds can be
    passed as well; the own range of a reading counts before percentiles.
    """
    source = read_source(image, name)
    limits = check_range(value_range, "value_range") or source.limits
    unit, _ = to_unit(source.colors, limits, name)
    if len(unit) != 1:
        raise InputError(f"{name} is a batch of {len(unit)} images; pass them one by one")
    return unit[0].to(torch.float32)


def _from_reading(reading: Reading, name: str) -> Source:
    values = reading.values
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise InputError(f"{name} has values of shape {values.shape}; a reading is (H, W[, 3])")
    limits = check_range(reading.range, f"the range of {name}")
    if reading.valid is not None:
        values, limits = _filled(values, reading.valid, limits, name)
    plain = _from_array(values, name)
    return replace(
        plain,
        give_back=lambda stack: reading.with_values(plain.give_back(stack)),
        limits=limits,
        valid=reading.valid,
        spacing=getattr(reading.source, "spacing", None),
        shape=None,
    )


def _filled(
    values: np.ndarray, valid: np.ndarray, limits: Limits | None, name: str
) -> tuple[np.ndarray, Limits]:
    """The image with its least value where it has none, and the limits of the values it has."""
    known = values[valid]
    if not known.size:
        raise InputError(
            f"{name} has no values: all of its pixels are marked as missing; replace it"
        )
    flat = torch.from_numpy(np.ascontiguousarray(known.reshape(1, 1, 1, -1)))
    least = known.min()
    filled = np.where(valid if values.ndim == 2 else valid[..., None], values, least)
    return filled, limits or find_limits(flat, name)[0]


def _from_pil(image: Image.Image, name: str) -> Source:
    if 0 in image.size:
        raise InputError(f"{name} is empty; pass an image of at least 2 x 2 pixels")
    tags = image.info.get(TIFF_TAGS)
    image = plain(image)
    values = np.asarray(image)
    planes = _planes(values[None] if values.ndim == 3 else values[None, ..., None])
    colors, alpha = _split_alpha(planes, name)
    profile = icc_profile_of(image)

    def give_back(stack: Tensor) -> Image.Image:
        fused = array_to_pil(_pixels(stack), profile)
        if tags:
            fused.info[TIFF_TAGS] = tags
        return fused

    return Source(name, colors, alpha, give_back)


def _from_array(array: np.ndarray, name: str) -> Source:
    dtype, shape = array.dtype, array.shape
    native = dtype.newbyteorder("=")
    _check_dtype(str(native), [str(known).removeprefix("torch.") for known in DTYPES], name)
    if np.ma.is_masked(array):
        raise InputError(
            f"{name} is a masked array, and masked pixels cannot be left out; fill them first, "
            "e.g. with .filled(0)"
        )
    has_channels = array.ndim in (3, 4) and shape[-1] in CHANNELS
    is_batch = array.ndim == 4 or (array.ndim == 3 and not has_channels)
    if not has_channels and array.ndim != 2 and not (is_batch and _may_be_batch(shape)):
        hint = "; move the channels last" if array.ndim == 4 and shape[1] in CHANNELS else ""
        raise InputError(
            f"{name} has shape {shape}; an array is (H, W), (H, W, 1|3|4), or, as a batch, "
            f"(B, H, W) or (B, H, W, 1|3|4){hint}"
        )
    pixels = np.asarray(array).astype(native, copy=False)
    pixels = pixels if has_channels else pixels[..., None]
    planes = _planes(pixels if is_batch else pixels[None])

    def give_back(stack: Tensor) -> np.ndarray:
        pixels = stack.permute(0, 2, 3, 1).cpu().numpy()
        if pixels.shape[-1] == 1 and not (has_channels and shape[-1] == 1):
            pixels = pixels[..., 0]
        return np.ascontiguousarray(pixels if is_batch else pixels[0], dtype=dtype)

    ambiguous = shape if array.ndim == 3 and is_batch and shape[0] in (3, 4) else None
    return Source(name, *_split_alpha(planes, name), give_back, shape=ambiguous)


def _may_be_batch(shape: tuple[int, ...]) -> bool:
    """Whether ``(B, H, W)`` is one, rather than an image with its many channels last."""
    return len(shape) == 3 and (shape[2] >= 16 or shape[2] > min(shape[:2])) and shape[2] > 2


def _from_tensor(tensor: Tensor, name: str) -> Source:
    _check_dtype(str(tensor.dtype), [str(known) for known in DTYPES], name)
    ndim = tensor.ndim
    if ndim not in (2, 3, 4) or (ndim > 2 and tensor.shape[-3] not in CHANNELS):
        hint = "; move the channels first" if ndim > 2 and tensor.shape[-1] in CHANNELS else ""
        raise InputError(
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
        raise InputTypeError(f"{name} is {dtype}; convert it to {DTYPE_NAMES}")


def _planes(pixels: np.ndarray) -> Tensor:
    """``(B, H, W, C)`` as a tensor ``(B, C, H, W)``, without a copy where memory allows it."""
    if not pixels.flags.writeable or any(stride < 0 for stride in pixels.strides):
        pixels = pixels.copy()
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _pixels(stack: Tensor) -> np.ndarray:
    """The one image of a stack as ``(H, W)`` or ``(H, W, C)``."""
    pixels: np.ndarray = stack[0].permute(1, 2, 0).cpu().numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _split_alpha(stack: Tensor, name: str) -> tuple[Tensor, Tensor | None]:
    if 0 in stack.shape or min(stack.shape[-2:]) < 2:
        height, width = stack.shape[-2:]
        raise InputError(
            f"{name} is {height} x {width} (height x width) in a batch of {len(stack)}; "
            "pass images of at least 2 x 2 pixels"
        )
    if stack.shape[1] in (2, 4):
        alpha = stack[:, -1:]
        if alpha.is_floating_point() and not alpha.isfinite().all():
            raise InputError(f"{name} contains NaN or infinite alpha values; replace them first")
        return stack[:, :-1], alpha
    return stack, None
