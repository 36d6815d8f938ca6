"""Arrays of files as images: ``(H, W)`` or ``(H, W, 3)`` of a dtype that fusing takes."""

from __future__ import annotations

import numpy as np

from fusionzoo.errors import InputError

__all__ = ["DTYPE_NAMES", "as_image", "check_page", "page_of", "widened"]

#: Dtypes of image values, by name.
DTYPE_NAMES = ("uint8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")
_WIDER = {"int8": "int16", "uint32": "int64", "uint64": "int64"}
_CHANNELS = (1, 2, 3, 4)


def as_image(array: np.ndarray, label: str) -> np.ndarray:
    """Return one image of a file as ``(H, W)`` or ``(H, W, 3)``, in native byte order.

    A single last channel goes, and so does alpha. int8 becomes int16, uint32 and uint64 become
    int64: the same values in a dtype that fusing takes.

    Raises:
        InputError: it is no image, or its dtype is none that holds one.
    """
    if array.ndim == 3 and array.shape[2] in _CHANNELS:
        array = array[..., 0] if array.shape[2] < 3 else array[..., :3]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise InputError(
            f"{label} holds an array of shape {array.shape}; save (H, W) or (H, W, 3), one image "
            "a file"
        )
    return np.ascontiguousarray(widened(array, label))


def widened(array: np.ndarray, label: str) -> np.ndarray:
    """Return the same values in native byte order and a dtype of `DTYPE_NAMES`.

    Raises:
        InputError: no such dtype holds them.
    """
    name = array.dtype.newbyteorder("=").name
    if name in DTYPE_NAMES:
        return array.astype(name, copy=False)
    if name not in _WIDER:
        raise InputError(f"{label} holds {name} values; save one of {', '.join(DTYPE_NAMES)}")
    if name == "uint64" and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{label} holds values of 2^63 and more; save floats")
    return array.astype(_WIDER[name])


def page_of(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape holds several images ``(N, H, W[, C])``, not one."""
    if len(shape) == 4:
        return True
    return len(shape) == 3 and shape[2] not in _CHANNELS


def check_page(page: int | str | None, count: int, label: str, what: str = "images") -> int:
    """Return which of ``count`` images to read; without `page` there has to be exactly one.

    Raises:
        InputError: there is no such page, or none was named and there are several, or none.
    """
    if isinstance(page, str):
        raise InputError(f"{label} has no page {page!r}; pages are numbers here, from 0")
    if page is None:
        if count == 1:
            return 0
        raise InputError(
            f"{label} holds {count} {what}; pass one of them: fusionzoo.open_image(path, page=0), "
            "or --ir-page, --vi-page"
            if count
            else f"{label} holds no {what}; replace it"
        )
    if page >= count:
        raise InputError(f"{label} has no page {page}; it holds {count} {what}, counted from 0")
    return page
