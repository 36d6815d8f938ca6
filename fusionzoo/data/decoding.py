"""From the files of pairs to pixels in memory, and what is wrong with files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from fusionzoo.data.masks import MASK_SOURCES, mask_from_pixels, target_mask
from fusionzoo.errors import InputError
from fusionzoo.inference import normalise, read_header, read_image, to_grey
from fusionzoo.pairing import Pair, Problem
from fusionzoo.readers import open_image
from fusionzoo.readers.content import ImageFileLike, open_stream
from fusionzoo.readers.pictures import opened
from fusionzoo.readers.table import format_of
from fusionzoo.remote import at_hand

__all__ = ["Loaded", "LoadedWithMask", "as_tensor", "check_pairs", "load_pair", "make_mask"]

_JPEG_TAIL = 65536

_Result = TypeVar("_Result")


class Loaded(NamedTuple):
    """Both images of a pair as they are kept in memory.

    uint8 ``(H, W)`` or ``(H, W, 3)`` as in the file; anything deeper, or of a range that the file
    gives, as float32 of these shapes that is already scaled to [0, 1], since its range is that of
    the whole image, not of a crop.
    """

    ir: np.ndarray
    vi: np.ndarray


class LoadedWithMask(NamedTuple):
    """As :class:`Loaded`, and the mask as uint8 ``(H, W)`` of 0 and 1."""

    ir: np.ndarray
    vi: np.ndarray
    mask: np.ndarray


@overload
def load_pair(pair: Pair, mask: None = None) -> Loaded: ...


@overload
def load_pair(pair: Pair, mask: str) -> LoadedWithMask: ...


@overload
def load_pair(pair: Pair, mask: str | None) -> Loaded | LoadedWithMask: ...


def load_pair(pair: Pair, mask: str | None = None) -> Loaded | LoadedWithMask:
    """Decode both files; with ``mask``, read or make the mask as well.

    Args:
        pair: from :func:`find_pairs`.
        mask: kind of the mask that is made of the images if there is no file of it; see
            :func:`fusionzoo.data.target_mask`.

    Raises:
        InputError, FileNotFoundError: naming the file that cannot be read.
    """
    loaded = Loaded(_compact(pair.ir), _compact(pair.vi))
    if mask is None:
        return loaded
    if pair.mask is None:
        return _with_made_mask(loaded, mask)
    drawn = _decode_mask(pair.mask)
    if isinstance(drawn, Problem):
        raise InputError(str(drawn))
    return LoadedWithMask(*loaded, drawn)


def make_mask(pair: Pair, kind: str) -> np.ndarray:
    """The mask of that kind made of a pair's images, whether or not there is a file of it.

    Returns:
        uint8 ``(H, W)`` of 0 and 1.

    Raises:
        InputError, FileNotFoundError: naming the file that cannot be read.
    """
    return _mask_of(_compact(getattr(pair, MASK_SOURCES[kind])), kind)


def _with_made_mask(loaded: Loaded, kind: str) -> LoadedWithMask:
    return LoadedWithMask(*loaded, _mask_of(getattr(loaded, MASK_SOURCES[kind]), kind))


def _mask_of(array: np.ndarray, kind: str) -> np.ndarray:
    return target_mask(to_grey(as_tensor(array)), kind)[0].numpy().astype(np.uint8)


def _compact(path: Path) -> np.ndarray:
    reading = open_image(path)
    image = reading.values
    if image.dtype != np.uint8 or reading.range is not None:
        unit = normalise(reading, name=str(path)).numpy()
        return unit[0] if len(unit) == 1 else np.ascontiguousarray(unit.transpose(1, 2, 0))
    if image.ndim == 3 and (image == image[..., :1]).all():  # grey, stored as RGB
        return np.ascontiguousarray(image[..., 0])
    return image


def check_pairs(
    pairs: Sequence[Pair], *, cache: bool, cache_limit: float = 4.0, mask: str | None = None
) -> tuple[list[Loaded] | list[LoadedWithMask] | None, list[Problem]]:
    """Look at every file once: unreadable and truncated files, and pairs of two sizes.

    With ``cache`` all files are decoded, and given back if nothing is wrong with any; but not if
    they would need more than ``cache_limit`` GB. Else headers are read, and the rest only as far
    as it takes to see that a PNG or JPEG file is whole.

    ``mask`` is the kind of mask wanted. Files of masks are then looked at as well; where there is
    none, and all is decoded, the mask is made.
    """
    images = [path for pair in pairs for path in (pair.ir, pair.vi)]
    masks = [pair.mask for pair in pairs if pair.mask is not None] if mask else []
    headers, problems = _sorted_out(images + masks, _peek)
    need = sum(headers[path].need for path in images if path in headers)
    if mask:
        need += sum(headers[p.ir].width * headers[p.ir].height for p in pairs if p.ir in headers)
    decode = cache and need <= cache_limit * 1e9
    contents: dict[Path, np.ndarray | None] = {}
    for paths, decoder in ((images, _decode), (masks, _decode_mask)):
        readable = [path for path in paths if path in headers]
        content, wrong = _sorted_out(readable, decoder if decode else _find_damage)
        contents |= content
        problems += wrong
    for pair in pairs:
        if pair.ir in headers and pair.vi in headers:
            problems += _compare(pair, headers[pair.ir], headers[pair.vi])
            if mask and pair.mask in headers:
                problems += _compare_mask(pair, headers[pair.ir], pair.mask, headers[pair.mask])
    if problems or not decode:
        return None, problems
    pixels = {path: content for path, content in contents.items() if content is not None}
    loaded = [Loaded(pixels[pair.ir], pixels[pair.vi]) for pair in pairs]
    if mask is None:
        return loaded, []

    def with_mask(pair: Pair, images: Loaded) -> LoadedWithMask:
        if pair.mask is None:
            return _with_made_mask(images, mask)
        return LoadedWithMask(*images, pixels[pair.mask])

    return _in_threads(with_mask, pairs, loaded), []


def _sorted_out(
    paths: Sequence[Path], look: Callable[[Path], _Result | Problem]
) -> tuple[dict[Path, _Result], list[Problem]]:
    """What a look at each file gives, and what is wrong with the others."""
    good: dict[Path, _Result] = {}
    problems = []
    for path, result in zip(paths, _in_threads(look, paths), strict=True):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            good[path] = result
    return good, problems


class _Header(NamedTuple):
    width: int
    height: int
    need: int  # bytes, decoded


def _in_threads(function: Callable[..., _Result], *items: Sequence[Any]) -> list[_Result]:
    # Reading and decoding release the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, *items))


def _peek(path: Path) -> _Header | Problem:
    try:
        header = read_header(path)
    except (ValueError, OSError) as error:
        return _unreadable(path, error)
    return _Header(header.width, header.height, header.decoded_bytes)


def _compare(pair: Pair, ir: _Header, vi: _Header) -> list[Problem]:
    if (ir.width, ir.height) != (vi.width, vi.height):
        what = (
            f"is {vi.width}x{vi.height} (width x height), its partner {pair.ir} is "
            f"{ir.width}x{ir.height}"
        )
        return [Problem(pair.vi, what, "register and resize one of the two")]
    if min(ir.width, ir.height) < 2:
        return [Problem(pair.ir, "is less than 2 pixels wide or high", "remove the pair")]
    return []


def _compare_mask(pair: Pair, ir: _Header, path: Path, mask: _Header) -> list[Problem]:
    if (ir.width, ir.height) == (mask.width, mask.height):
        return []
    what = (
        f"is {mask.width}x{mask.height} (width x height), its pair {pair.ir} is "
        f"{ir.width}x{ir.height}"
    )
    return [Problem(path, what, "resize the mask, or remove it: then one is made")]


def _decode(path: Path) -> np.ndarray | Problem:
    try:
        return _compact(path)
    except (ValueError, OSError) as error:
        return _unreadable(path, error)


def _decode_mask(path: Path) -> np.ndarray | Problem:
    try:
        pixels = read_image(path)
    except (ValueError, OSError) as error:
        return _unreadable(path, error)
    try:
        return mask_from_pixels(pixels)
    except ValueError as error:
        return Problem(path, str(error), "replace the mask, or remove it: then one is made")


def _find_damage(path: Path) -> Problem | None:
    try:
        file = at_hand(path)
        if format_of(file) is not None:
            open_image(file)
            return None
        with opened(file) as image:
            kind = image.format
            image.verify()  # PNG: the checksum of every chunk
        if kind == "JPEG" and not _has_jpeg_end(file):
            with opened(file) as image:
                image.load()
    except (ValueError, OSError) as error:
        return _unreadable(path, error)
    return None


def _has_jpeg_end(file: ImageFileLike) -> bool:
    with open_stream(file, "the image") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _JPEG_TAIL))
        return b"\xff\xd9" in stream.read()


def _unreadable(path: Path, error: Exception) -> Problem:
    what = str(error).removeprefix(str(path)).lstrip(": ").partition("; ")[0]
    return Problem(path, what, "replace it or remove the pair")


def as_tensor(array: np.ndarray) -> Tensor:
    """As ``normalise``, for the two kinds of array in `Loaded`, as ``(1 or 3, H, W)``."""
    # In numpy: torch would wake its threads for each crop, which takes longer than the work.
    unit = array if array.dtype == np.float32 else array.astype(np.float32) / np.float32(255)
    tensor = torch.from_numpy(unit)
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
