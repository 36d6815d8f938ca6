"""Pairs of image files: finding them, checking them, and the dataset that draws batches of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from PIL.Image import getmodebands
from torch import Tensor
from torch.utils.data import Dataset

from fusionzoo.data.masks import MASK_SOURCES, mask_from_pixels, target_mask
from fusionzoo.inference import normalise, read_header, read_image, rgb_to_ycbcr, to_grey
from fusionzoo.inference.reading import opened
from fusionzoo.pairing import (
    IMAGE_ENDINGS,
    Pair,
    PairError,
    Problem,
    find_images,
    folder_of,
    is_pattern,
    pair_up,
)

_JPEG_TAIL = 65536

Folder = str | os.PathLike[str]
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _BatchOfGrey(TypedDict):
    ir: Tensor
    vi: Tensor
    name: list[str]


class Batch(_BatchOfGrey, total=False):
    """What every step of every model is given.

    Attributes:
        ir: ``(B, 1, H, W)`` float32 in [0, 1]: infrared, or what takes its place.
        vi: ``(B, 1, H, W)`` float32 in [0, 1]: visible image, or what takes its place; luma
            (full-range BT.601) where the file is in colour.
        name: of each pair: its path below both folders without the ending, with "/".
        cbcr: ``(B, 2, H, W)`` float32 in [0, 1], 0.5 where there is no colour. Only in colour
            batches.
        mask: ``(B, 1, H, W)`` float32, 1 on targets and 0 elsewhere; all 0 where there are none.
            Only in training batches, and only if asked for.
    """

    cbcr: Tensor
    mask: Tensor


class Sample(_BatchOfGrey, total=False):
    """One pair: as in :class:`Batch`, without the first dimension; ``name`` is a string."""

    cbcr: Tensor
    mask: Tensor


def find_pairs(
    roots: Folder | Sequence[Folder], ir_dir: str = "ir", vi_dir: str = "vi"
) -> list[Pair]:
    """The pairs of one or several root folders, sorted by name within each root.

    Two files are a pair if their paths below ``root/ir_dir`` and ``root/vi_dir`` are the same up
    to the ending: ``ir/night/01.png`` and ``vi/night/01.JPG`` are the pair ``night/01``. Hidden
    files and files without an image ending are passed over. ``ir_dir`` and ``vi_dir`` may be
    patterns with one ``*`` in place of the name, such as ``"*_ir.png"`` and ``"*_vi.png"``: see
    :mod:`fusionzoo.pairing`. If a name occurs in several roots, all names get the root's folder
    name in front, with as many parent folders as it takes to tell the roots apart
    (``tno/train/01``). Roots may differ in what their folders are called:
    with ``ir_dir="pet|spect"`` the first of these counts that a root has.

    Raises:
        PairError: a ValueError that lists every missing folder, missing partner and double name.
    """
    pairs, problems = scan_pairs(roots, ir_dir, vi_dir)
    if problems:
        raise PairError(problems)
    return pairs


def scan_pairs(
    roots: Folder | Sequence[Folder],
    ir_dir: str = "ir",
    vi_dir: str = "vi",
    mask_dir: str | None = None,
) -> tuple[list[Pair], list[Problem]]:
    """As :func:`find_pairs`, but what is wrong is given back beside the whole pairs.

    Files below ``root/mask_dir``, if given and if there is such a folder, become the masks of
    the pairs of the same name; neither every pair nor every file there needs a partner.
    """
    folders = [Path(root) for root in ([roots] if isinstance(roots, str | os.PathLike) else roots)]
    found, problems = [], []
    resolved = [folder.resolve() for folder in folders]
    for number, root in enumerate(folders):
        if resolved[number] in resolved[:number]:
            problems.append(Problem(root, "is given twice", "give every root once"))
            continue
        ir_here, vi_here = _folder_there(root, ir_dir), _folder_there(root, vi_dir)
        pairs, wrong = _scan_root(root, ir_here, vi_here)
        problems += wrong
        if mask_dir is not None:
            pairs, wrong = _with_masks(pairs, root, ir_here, vi_here, mask_dir)
            problems += wrong
        found.append((resolved[number], pairs))
    names = [pair.name for _, pairs in found for pair in pairs]
    if len(set(names)) < len(names):
        labels = _short_labels([root for root, _ in found])
        return [
            replace(pair, name=f"{label}/{pair.name}")
            for label, (_, pairs) in zip(labels, found, strict=True)
            for pair in pairs
        ], problems
    return [pair for _, pairs in found for pair in pairs], problems


def _folder_there(root: Path, names: str) -> str:
    """The first of the names, divided by "|", that is a folder below the root."""
    alternatives = names.split("|")
    there = (name for name in alternatives if folder_of(root / name).is_dir())
    return next(there, alternatives[0])


def _scan_root(root: Path, ir_dir: str, vi_dir: str) -> tuple[list[Pair], list[Problem]]:
    if not root.is_dir():
        return [], [Problem(root, "no such folder", "check the root's path")]
    problems = []
    for option, place in (("ir_dir", root / ir_dir), ("vi_dir", root / vi_dir)):
        if not (folder := folder_of(place)).is_dir():
            have = ", ".join(sorted(child.name for child in root.iterdir() if child.is_dir()))
            remedy = f"set {option} to one of the folders there ({have or 'none'}) or fix the root"
            problems.append(Problem(folder, "no such folder", remedy))
    if problems:
        return [], problems
    pairs, problems = pair_up(root / ir_dir, root / vi_dir)
    if not pairs and not problems:
        endings = " ".join(sorted(IMAGE_ENDINGS))
        problems.append(
            Problem(root, f"holds no images in {ir_dir} and {vi_dir}", f"add {endings}")
        )
    return pairs, problems


def _with_masks(
    pairs: list[Pair], root: Path, ir_dir: str, vi_dir: str, mask_dir: str
) -> tuple[list[Pair], list[Problem]]:
    folder = root / mask_dir
    for images in (root / ir_dir, root / vi_dir):
        if not is_pattern(images) and folder.resolve().is_relative_to(images.resolve()):
            remedy = "set mask_dir to a folder of its own"
            return pairs, [Problem(folder, f"is, or lies in, {images}", remedy)]
    if not folder.is_dir():
        return pairs, []
    masks, problems = find_images(folder)
    pairs = [replace(pair, mask=masks.get(pair.name)) for pair in pairs]
    if masks and pairs and not any(pair.mask for pair in pairs):
        remedy = "give masks the names of their pairs, or set mask_dir to another folder"
        problems.append(Problem(folder, "holds no mask that is named as a pair is", remedy))
    return pairs, problems


def _short_labels(roots: list[Path]) -> list[str]:
    """The fewest last parts of each path that tell all of them apart."""
    for depth in range(1, max(len(root.parts) for root in roots) + 1):
        labels = ["/".join(root.parts[-depth:]).lstrip("/") for root in roots]
        if len(set(labels)) == len(labels):
            return labels
    raise AssertionError("roots are distinct")


class Loaded(NamedTuple):
    """Both images of a pair as they are kept in memory.

    uint8 ``(H, W)`` or ``(H, W, 3)`` as in the file; anything deeper as float32 ``(H, W)`` that
    is already scaled to [0, 1], since its range is that of the whole image, not of a crop.
    """

    ir: np.ndarray
    vi: np.ndarray


class LoadedWithMask(NamedTuple):
    """As :class:`Loaded`, and the mask as uint8 ``(H, W)`` of 0 and 1."""

    ir: np.ndarray
    vi: np.ndarray
    mask: np.ndarray


def load_pair(pair: Pair, mask: str | None = None) -> Loaded | LoadedWithMask:
    """Decode both files; with ``mask``, read or make the mask as well.

    Args:
        pair: from :func:`find_pairs`.
        mask: kind of the mask that is made of the images if there is no file of it; see
            :func:`fusionzoo.data.target_mask`.

    Raises:
        ValueError, FileNotFoundError: naming the file that cannot be read.
    """
    loaded = Loaded(_compact(pair.ir), _compact(pair.vi))
    if mask is None:
        return loaded
    if pair.mask is None:
        return _with_made_mask(loaded, mask)
    found = _decode_mask(pair.mask)
    if isinstance(found, Problem):
        raise ValueError(str(found))
    return LoadedWithMask(*loaded, found)


def make_mask(pair: Pair, kind: str) -> np.ndarray:
    """The mask of that kind made of a pair's images, whether or not there is a file of it.

    Returns:
        uint8 ``(H, W)`` of 0 and 1.

    Raises:
        ValueError, FileNotFoundError: naming the file that cannot be read.
    """
    return _mask_of(_compact(getattr(pair, MASK_SOURCES[kind])), kind)


def _with_made_mask(loaded: Loaded, kind: str) -> LoadedWithMask:
    return LoadedWithMask(*loaded, _mask_of(getattr(loaded, MASK_SOURCES[kind]), kind))


def _mask_of(array: np.ndarray, kind: str) -> np.ndarray:
    return target_mask(to_grey(_to_tensor(array)), kind)[0].numpy().astype(np.uint8)


def _compact(path: Path) -> np.ndarray:
    image = read_image(path)
    if image.dtype != np.uint8:
        return normalise(image, name=str(path))[0].numpy()
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
    headers = dict(zip(images + masks, _in_threads(_peek, images + masks), strict=True))
    problems = [header for header in headers.values() if isinstance(header, Problem)]
    readable = {path: header for path, header in headers.items() if isinstance(header, _Header)}
    need = sum(readable[path].need for path in images if path in readable)
    if mask:
        need += sum(readable[p.ir].width * readable[p.ir].height for p in pairs if p.ir in readable)
    decode = cache and need <= cache_limit * 1e9
    contents = {}
    for paths, decoder in ((images, _decode), (masks, _decode_mask)):
        paths = [path for path in paths if path in readable]
        found = _in_threads(decoder if decode else _find_damage, paths)
        contents.update(zip(paths, found, strict=True))
    problems += [content for content in contents.values() if isinstance(content, Problem)]
    for pair in pairs:
        if pair.ir in contents and pair.vi in contents:
            problems += _compare(pair, headers[pair.ir], headers[pair.vi])
            if pair.mask in contents:
                problems += _compare_mask(pair, headers[pair.ir], headers[pair.mask])
    if problems or not decode:
        return None, problems

    def gather(pair: Pair) -> Loaded | LoadedWithMask:
        loaded = Loaded(contents[pair.ir], contents[pair.vi])
        if mask is None:
            return loaded
        if pair.mask is None:
            return _with_made_mask(loaded, mask)
        return LoadedWithMask(*loaded, contents[pair.mask])

    return _in_threads(gather, pairs) if mask else [gather(pair) for pair in pairs], []


class _Header(NamedTuple):
    width: int
    height: int
    need: int  # bytes, decoded


def _in_threads(function: Callable[[_Given], _Result], items: Sequence[_Given]) -> list[_Result]:
    # Reading and decoding release the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def _peek(path: Path) -> _Header | Problem:
    try:
        width, height, mode, _ = read_header(path)
    except (ValueError, OSError) as error:
        return _unreadable(path, error)
    deep = mode in ("I", "F") or mode.startswith("I;16")
    return _Header(width, height, width * height * (4 if deep else getmodebands(mode)))


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


def _compare_mask(pair: Pair, ir: _Header, mask: _Header) -> list[Problem]:
    if (ir.width, ir.height) == (mask.width, mask.height):
        return []
    what = (
        f"is {mask.width}x{mask.height} (width x height), its pair {pair.ir} is "
        f"{ir.width}x{ir.height}"
    )
    return [Problem(pair.mask, what, "resize the mask, or remove it: then one is made")]


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
        with opened(path) as image:
            kind = image.format
            image.verify()  # PNG: the checksum of every chunk
        if kind == "JPEG" and not _has_jpeg_end(path):
            with opened(path) as image:
                image.load()
    except (ValueError, OSError) as error:
        return _unreadable(path, error)
    return None


def _has_jpeg_end(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _JPEG_TAIL))
        return b"\xff\xd9" in stream.read()


def _unreadable(path: Path, error: Exception) -> Problem:
    what = str(error).removeprefix(str(path)).lstrip(": ").partition("; ")[0]
    return Problem(path, what, "replace it or remove the pair")


class Draw(NamedTuple):
    """What a sampler asks the dataset for: a pair, and the seed of its crop and flips."""

    index: int
    epoch: int
    position: int


class PairDataset(Dataset[Sample]):
    """Aligned pairs as tensors, cropped and flipped alike.

    An item is a function of its key alone: ``dataset[Draw(index, epoch, position)]`` derives crop
    and flips from ``(seed, epoch, position)`` and no global random state, so workers, their
    number and the number of processes make no difference. ``dataset[index]`` is
    ``dataset[Draw(index, 0, index)]``.

    Images smaller than the crop are enlarged to it by reflection at their borders.

    Args:
        pairs: from :func:`find_pairs`.
        loaded: the decoded pairs, in the same order; None reads the files at every access.
        color: add ``cbcr``.
        color_from: which of the two images gives ``cbcr``; the other one's colour is dropped.
        crop_size: edge in pixels; None gives whole images.
        crop: "random", or "center" for the same middle part every time.
        flip: horizontally and vertically, each for half of the draws.
        darken: share of the draws, 0 to 1, whose images are darkened, each multiplied by a factor
            of its own from 0.1 to 1 (its logarithm is even). Colour stays as it is.
        halve: share of the draws, 0 to 1, that show twice as much of the image at half the size.
        seed: at least 0.
        mask: add ``mask``; of this kind where a pair has no file of it. Masks are cropped and
            flipped with the pair, after they were made of the whole images.

    Raises:
        ValueError: ``loaded`` has not as many items as ``pairs``, or was not loaded with ``mask``.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        loaded: Sequence[Loaded] | Sequence[LoadedWithMask] | None = None,
        *,
        color: bool = False,
        color_from: Literal["vi", "ir"] = "vi",
        crop_size: int | None = None,
        crop: Literal["random", "center"] = "random",
        flip: bool = False,
        darken: float = 0.0,
        halve: float = 0.0,
        seed: int = 0,
        mask: str | None = None,
    ) -> None:
        if loaded is not None and len(loaded) != len(pairs):
            raise ValueError(f"loaded has {len(loaded)} items for {len(pairs)} pairs; pass as many")
        kind = LoadedWithMask if mask else Loaded
        if not all(isinstance(item, kind) for item in loaded or ()):
            raise ValueError(
                f"loaded does not go with mask={mask!r}; load the pairs with the same mask"
            )
        self.pairs = list(pairs)
        self.loaded = loaded
        self.color = color
        self.color_from = color_from
        self.crop_size = crop_size
        self.crop = crop
        self.flip = flip
        self.darken = darken
        self.halve = halve
        self.seed = seed
        self.mask = mask

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | Draw) -> Sample:
        index, epoch, position = key if isinstance(key, tuple) else Draw(key, 0, key)
        pair = self.pairs[index]
        loaded = self.loaded[index] if self.loaded is not None else load_pair(pair, self.mask)
        # All numbers are drawn whatever is switched on, so that one option leaves the others alone.
        random = np.random.default_rng([self.seed, epoch, position])
        places, (darkened, *exponents) = random.random(4), random.random(3)
        ir, vi, *mask = self._transform(loaded, *places, halved=random.random() < self.halve)
        sides = {"ir": _to_tensor(ir), "vi": _to_tensor(vi)}
        factors = [10**-exponent if darkened < self.darken else 1 for exponent in exponents]
        sample: Sample = {
            "ir": to_grey(sides["ir"]) * factors[0],
            "vi": to_grey(sides["vi"]) * factors[1],
            "name": pair.name,
        }
        if self.color:
            sample["cbcr"] = _chroma(sides[self.color_from])
        if mask:
            sample["mask"] = torch.from_numpy(mask[0].astype(np.float32))[None]
        return sample

    def _transform(
        self,
        images: Loaded | LoadedWithMask,
        across: float,
        down: float,
        left_right: float,
        upside_down: float,
        halved: bool,
    ) -> list[np.ndarray]:
        if self.crop == "center":
            across = down = 0.5
        arrays = list(images)
        if self.crop_size is not None:
            size = 2 * self.crop_size if halved else self.crop_size
            arrays = [_enlarge(array, size) for array in arrays]
            height, width = arrays[0].shape[:2]
            top, left = _place(down, height - size), _place(across, width - size)
            arrays = [array[top : top + size, left : left + size] for array in arrays]
            arrays = [_halved(array) for array in arrays] if halved else arrays
        if self.flip and left_right < 0.5:
            arrays = [array[:, ::-1] for array in arrays]
        if self.flip and upside_down < 0.5:
            arrays = [array[::-1] for array in arrays]
        return [np.ascontiguousarray(array) for array in arrays]


def _place(share: float, slack: int) -> int:
    """A whole offset in 0 ... slack; equally likely ones for an even ``share`` in [0, 1)."""
    return int(share * (slack + 1))


def _halved(array: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, in the array's dtype; a mask keeps what is marked by half or more."""
    height, width, *channels = array.shape
    blocks = array.reshape(height // 2, 2, width // 2, 2, *channels).astype(np.float32)
    means = blocks.mean((1, 3))
    return (means + 0.5).astype(array.dtype) if array.dtype == np.uint8 else means


def _enlarge(array: np.ndarray, size: int) -> np.ndarray:
    lack = [max(0, size - length) for length in array.shape[:2]]
    if not any(lack):
        return array
    widths = [(gap // 2, gap - gap // 2) for gap in lack] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths, mode="reflect")


def _to_tensor(array: np.ndarray) -> Tensor:
    """As ``normalise``, for the two kinds of array in `Loaded`, as ``(1 or 3, H, W)``."""
    # In numpy: torch would wake its threads for each crop, which takes longer than the work.
    unit = array if array.dtype == np.float32 else array.astype(np.float32) / np.float32(255)
    tensor = torch.from_numpy(unit)
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)


def _chroma(image: Tensor) -> Tensor:
    if image.shape[0] == 3:
        return rgb_to_ycbcr(image)[1:]
    return torch.full((2, *image.shape[1:]), 0.5)


def collate_pairs(samples: list[Sample]) -> Batch:
    """Stack samples to a batch.

    Raises:
        ValueError: their sizes differ.
    """
    sizes = {tuple(sample["ir"].shape[-2:]): sample["name"] for sample in samples}
    if len(sizes) > 1:
        shown = ", ".join(f"{name} {h}x{w}" for (h, w), name in list(sizes.items())[:3])
        raise ValueError(
            f"images of differing sizes (height x width) in one batch: {shown}; "
            "set crop_size, or batch_size to 1"
        )
    batch: Batch = {
        "ir": torch.stack([sample["ir"] for sample in samples]),
        "vi": torch.stack([sample["vi"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
    }
    if "cbcr" in samples[0]:
        batch["cbcr"] = torch.stack([sample["cbcr"] for sample in samples])
    if "mask" in samples[0]:
        batch["mask"] = torch.stack([sample["mask"] for sample in samples])
    return batch
