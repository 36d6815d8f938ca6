"""The dataset that draws crops of pairs, and the batches that all models are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fusionzoo.data.decoding import Loaded, LoadedWithMask, as_tensor, load_pair
from fusionzoo.errors import InputError
from fusionzoo.inference import rgb_to_ycbcr, to_grey
from fusionzoo.pairing import Pair

__all__ = ["Batch", "Draw", "PairDataset", "Sample", "collate_pairs"]


class _GreyBatch(TypedDict):
    ir: Tensor
    vi: Tensor
    name: list[str]


class Batch(_GreyBatch, total=False):
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


class _GreySample(TypedDict):
    ir: Tensor
    vi: Tensor
    name: str


class Sample(_GreySample, total=False):
    """One pair: as in :class:`Batch`, without the first dimension."""

    cbcr: Tensor
    mask: Tensor


class Draw(NamedTuple):
    """What a sampler asks the dataset for: a pair, and the seed of its crop and flips."""

    index: int  # type: ignore[assignment]  # tuple.index is not wanted here
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
        InputError: ``loaded`` has not as many items as ``pairs``, or was not loaded with ``mask``.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        loaded: Sequence[Loaded | LoadedWithMask] | None = None,
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
            raise InputError(f"loaded has {len(loaded)} items for {len(pairs)} pairs; pass as many")
        kind = LoadedWithMask if mask else Loaded
        if not all(isinstance(item, kind) for item in loaded or ()):
            raise InputError(
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
        ir, vi, *mask = self._transform(loaded, places, halved=random.random() < self.halve)
        sides = {"ir": as_tensor(ir), "vi": as_tensor(vi)}
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
        self, images: Loaded | LoadedWithMask, places: np.ndarray, halved: bool
    ) -> list[np.ndarray]:
        across, down, left_right, upside_down = places.tolist()
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
    means: np.ndarray = blocks.mean((1, 3))
    return (means + 0.5).astype(array.dtype) if array.dtype == np.uint8 else means


def _enlarge(array: np.ndarray, size: int) -> np.ndarray:
    lack = [max(0, size - length) for length in array.shape[:2]]
    if not any(lack):
        return array
    widths = [(gap // 2, gap - gap // 2) for gap in lack] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths, mode="reflect")


def _chroma(image: Tensor) -> Tensor:
    if image.shape[0] == 3:
        return rgb_to_ycbcr(image)[1:]
    return torch.full((2, *image.shape[1:]), 0.5)


def collate_pairs(samples: list[Sample]) -> Batch:
    """Stack samples to a batch.

    Raises:
        InputError: their sizes differ.
    """
    sizes = {tuple(sample["ir"].shape[-2:]): sample["name"] for sample in samples}
    if len(sizes) > 1:
        shown = ", ".join(f"{name} {h}x{w}" for (h, w), name in list(sizes.items())[:3])
        raise InputError(
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
