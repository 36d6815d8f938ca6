"""From what a user passes to what the kernels take: checks, grey levels, batch layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fusionzoo.errors import InputError

Reduction = Literal["mean", "none"]

#: Names of the images in the order in which every metric takes them, for error messages.
ROLES = ("fused", "ir", "vi")

# Half a float16 step below 1 is 2e-4; what leaves [0, 1] by less is rounding and is cut off.
_RANGE_SLACK = 1e-3


def as_batch(image: Tensor, role: str) -> Tensor:
    """Bring (H,W), (B,H,W) or (B,C,H,W) to (B,C,H,W) without touching the values."""
    if not isinstance(image, Tensor):
        raise InputError(
            f"{role} must be a torch.Tensor, got {type(image).__name__}; "
            "torch.as_tensor(array) makes one"
        )
    if not (image.is_floating_point() or image.dtype == torch.uint8):
        raise InputError(
            f"{role} has dtype {image.dtype}; pass floats in [0, 1] or torch.uint8 in 0...255"
        )
    if image.ndim == 2:
        image = image[None, None]
    elif image.ndim == 3:
        image = image[:, None]
    elif image.ndim != 4:
        raise InputError(
            f"{role} has shape {tuple(image.shape)}; expected (H,W), (B,H,W) or (B,C,H,W)"
        )
    if 0 in image.shape:
        raise InputError(f"{role} is empty: shape {tuple(image.shape)}")
    return image


def check_images(images: Sequence[Tensor], *, same_channels: bool = True) -> None:
    """Raise InputError for images that differ in layout, are not finite or leave [0, 1].

    Shape, dtype and device are compared without looking at pixels. The pixels of all images are
    looked at with one transfer to the host, whatever their number.
    """
    first = images[0]
    for role, image in zip(ROLES, images, strict=False):
        layout = image.shape if same_channels else (image.shape[0], *image.shape[-2:])
        wanted = first.shape if same_channels else (first.shape[0], *first.shape[-2:])
        if layout != wanted:
            raise InputError(
                f"fused and {role} differ in shape: {tuple(first.shape)} and "
                f"{tuple(image.shape)}; resize or crop them to one size first"
            )
        if image.device != first.device:
            raise InputError(
                f"fused is on {first.device} but {role} is on {image.device}; "
                "move them to one device"
            )
    extremes = [
        torch.stack(torch.aminmax(image.detach())).float()
        for image in images
        if image.dtype != torch.uint8
    ]
    if not extremes:
        return
    roles = [r for r, i in zip(ROLES, images, strict=False) if i.dtype != torch.uint8]
    for role, (low, high) in zip(roles, torch.stack(extremes).tolist(), strict=True):
        if low != low or high != high:
            raise InputError(f"{role} contains NaN; repair the image before measuring it")
        if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
            raise InputError(
                f"{role} has values in [{low:.4g}, {high:.4g}] but float images must lie in "
                "[0, 1]; divide 8-bit values by 255, or pass them as torch.uint8"
            )


def to_levels(image: Tensor, *, exact: bool = False) -> Tensor:
    """Grey levels 0...255 in float32, or in float64 where the image is float64.

    ``exact`` gives float64 for every image: for measures that compare nearly equal numbers in
    flat places. Apple's mps has no float64; there digits beyond the fourth may differ.
    """
    if exact and image.device.type != "mps":
        dtype = torch.float64
    else:
        dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    levels = image.to(dtype)
    return levels if image.dtype == torch.uint8 else levels.clamp(0, 1) * 255


def prepare(*images: Tensor, exact: bool = False) -> tuple[list[Tensor], int]:
    """Check images and give them as grey levels (B*C,1,H,W), with the number of channels C."""
    batches = [as_batch(image, role) for role, image in zip(ROLES, images, strict=False)]
    check_images(batches)
    levels = [to_levels(batch, exact=exact) for batch in batches]
    dtype = levels[0].dtype
    for other in levels[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    channels = levels[0].shape[1]
    return [level.to(dtype).flatten(0, 1)[:, None] for level in levels], channels


def precise(levels: Tensor) -> Tensor:
    """Levels in float64, where the device has it."""
    return levels if levels.device.type == "mps" else levels.double()


def reduce(values: Tensor, channels: int, reduction: Reduction) -> Tensor:
    """Average over channels, then over the batch for ``"mean"``."""
    if channels > 1:
        values = values.view(-1, channels).mean(1)
    if reduction == "mean":
        return values.mean()
    if reduction == "none":
        return values
    raise InputError(f'reduction must be "mean" or "none", not {reduction!r}')
