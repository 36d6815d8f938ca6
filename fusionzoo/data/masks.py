"""Target masks: where in a pair one of the two images counts, and not the other.

The masks that CoCoNet was trained with were drawn by hand and are not published. These are made
of one image by thresholds; files of the user's own come before them, see
:class:`fusionzoo.data.FusionDataModule`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice
from fusionzoo.saliency import histogram_contrast, otsu_threshold

#: Kinds of mask, and the image of a pair that each is made from.
MASK_SOURCES = {"saliency": "ir", "foreground": "vi"}

# Chosen by eye on the training parts of TNO, RoadScene and Harvard PET-MRI.
_SMALLEST_TARGET = 2e-4  # of the image's area, as all areas here: a person far away
_LARGEST_GAP = 2e-3  # what is closed inside targets: windows of cars, folds of clothes
_SMALLEST_TISSUE = 1e-3
_SURROUNDINGS = 0.5  # of the shorter side: warmer than so much around it ...
_EXCESS = 1.0  # ... by so many standard deviations of the image
_MOST = 0.25  # more than that is the scene, not targets in it


def target_mask(image: Tensor, kind: str) -> Tensor:
    """Mark the targets in an image.

    "saliency" is for infrared. Pixels are marked whose saliency by histogram contrast lies above
    its Otsu threshold and which are brighter than the image's mean, since dark regions stand out
    too, and brighter than what is around them, so that warm roads and walls are left out. Regions
    that reach from left to right, or along three sides, are frames, vignettes or ground and do not
    count; nor do small ones; small gaps are closed. Masks of more than a quarter of the image are
    cut back by further Otsu thresholds on brightness.

    "foreground" is for MRI: what is brighter than the image's Otsu threshold, without small regions
    and small gaps.

    Args:
        image: ``(1, H, W)`` of values in [0, 1].
        kind: "saliency" or "foreground".

    Returns:
        bool of that shape, on the CPU; False throughout where nothing stands out.

    Raises:
        InputError: unknown kind, or no such image.
    """
    check_choice("kind", kind, MASK_SOURCES)
    if image.ndim != 3:
        raise InputError(f"image has shape {tuple(image.shape)}; pass one image (1, H, W)")
    image = image.detach().float().cpu()
    mask = _salient(image) if kind == "saliency" else _foreground(image)
    return torch.from_numpy(mask)[None]


def mask_from_pixels(pixels: np.ndarray) -> np.ndarray:
    """The mask that a file holds: 1 where it reaches half of full scale, else 0.

    Args:
        pixels: as :func:`fusionzoo.inference.read_image` gives them; full scale is 255 for uint8,
            65535 for deeper whole numbers, 1 for floats.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        InputError: it is in colour, or not black but all below half, as masks of 0 and 1 are in
            8-bit files.
    """
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise InputError("is in colour, not a grey mask")
        pixels = pixels[..., 0]
    full = 255 if pixels.dtype == np.uint8 else 65535 if pixels.dtype.kind in "iu" else 1
    mask = (pixels >= full / 2).astype(np.uint8)
    if pixels.any() and not mask.any():
        raise InputError(
            f"has values up to {pixels.max():g}, where a mask marks targets by {full} "
            f"({full / 2:g} at least)"
        )
    return mask


def _salient(image: Tensor) -> np.ndarray:
    saliency = histogram_contrast(image[None])
    marked = (saliency > otsu_threshold(saliency).item())[0] & (image > image.mean())
    marked &= image - _surroundings(image) > _EXCESS * image.std(correction=0)
    mask = _without_background(marked[0].numpy())
    mask = fill_small(mask, _pixels(_LARGEST_GAP, mask))
    mask = remove_small(mask, _pixels(_SMALLEST_TARGET, mask))
    return _cut_back(mask, image)


def _foreground(image: Tensor) -> np.ndarray:
    mask = (image[0] > otsu_threshold(image[None]).item()).numpy()
    mask = fill_small(mask, _pixels(_SMALLEST_TISSUE, mask))
    return remove_small(mask, _pixels(_SMALLEST_TISSUE, mask))


def _surroundings(image: Tensor) -> Tensor:
    """Mean over a large square window, with reflected borders."""
    shorter = min(image.shape[-2:])
    half = min(max(1, int(shorter * _SURROUNDINGS / 2)), shorter - 1)
    sums, size = F.pad(image, (half, half, half, half), mode="reflect").double(), 2 * half + 1
    for axis in (1, 2):
        # Running sums cost the same whatever the window.
        running = sums.cumsum(axis)
        first = running.narrow(axis, size - 1, 1)
        later = running.narrow(axis, size, running.shape[axis] - size)
        sums = torch.cat([first, later - running.narrow(axis, 0, later.shape[axis])], axis)
    return (sums / size**2).float()


def _without_background(mask: np.ndarray) -> np.ndarray:
    labels, areas = _regions(mask)
    touches = np.zeros((len(areas), 4), bool)
    for number, side in enumerate((labels[0], labels[-1], labels[:, 0], labels[:, -1])):
        touches[side, number] = True
    across = touches[:, 2] & touches[:, 3]
    kept: np.ndarray = (~across & (touches.sum(1) < 3))[labels] & mask
    return kept


def remove_small(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the mask without regions of fewer than ``least`` pixels."""
    labels, areas = _regions(mask)
    kept: np.ndarray = (areas >= least)[labels] & mask
    return kept


def fill_small(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the mask with its holes of fewer than ``least`` pixels closed.

    Where the mask's own pixels hold together by corners, those of a hole do not.
    """
    labels, areas = _regions(~mask, corners=False)
    filled: np.ndarray = (areas < least)[labels] | mask
    return filled


def _regions(mask: np.ndarray, corners: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's region, 0 where the mask is False, and the regions' areas."""
    # Slow to import, and only making masks needs it.
    from scipy.ndimage import label

    labels: np.ndarray = label(mask, np.ones((3, 3), bool) if corners else None)[0]
    return labels, np.bincount(labels.ravel())


def _cut_back(mask: np.ndarray, image: Tensor) -> np.ndarray:
    pixels = image[0].numpy()
    while mask.mean() > _MOST:
        marked = torch.from_numpy(pixels[mask])
        # No pixel of equal ones lies above their threshold: this comes to an end.
        mask = mask & (pixels > otsu_threshold(marked[None, None, None]).item())
        mask = remove_small(mask, _pixels(_SMALLEST_TARGET, mask))
    return mask


def _pixels(share: float, mask: np.ndarray) -> int:
    return max(2, round(share * mask.size))
