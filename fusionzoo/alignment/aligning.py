"""``fusionzoo.align``: one pair of images, or the pairs of one rig, to an :class:`Alignment`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from fusionzoo.alignment.confidence import LEAST_CONFIDENCE, confidence_of
from fusionzoo.alignment.estimate import Estimate, estimate
from fusionzoo.alignment.geometry import MODELS, Size, centred, corner_distance
from fusionzoo.alignment.levels import Picture
from fusionzoo.alignment.pictures import Seen, see
from fusionzoo.alignment.points import fit_points
from fusionzoo.alignment.search import USUAL, WIDE
from fusionzoo.alignment.transform import Alignment
from fusionzoo.errors import AlignmentError, InputError, InputTypeError, check_choice

#: Takes two grey images ``(H, W)`` in [0, 1] and gives matching points: two arrays ``(N, 2)``.
Matcher = Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]

#: Pairs of a rig that are used at most, spread over all.
MOST_PAIRS = 24


def align(
    ir: Any,
    vi: Any,
    model: str = "homography",
    *,
    matcher: Matcher | None = None,
    force: bool = False,
) -> Alignment:
    """Find how an infrared image lies in the visible image of the same scene.

    Both may be of any kind that ``model.fuse`` takes and of any size; one field of view may lie
    inside the other (up to about a third of its width). Nothing is downloaded and nothing random
    happens. Images are compared by their edges: see ``docs/alignment.md`` for the method, what it
    reaches and where it fails.

    Args:
        ir: the infrared image.
        vi: the visible image.
        model: the largest kind of transform to consider: "translation", "similarity" (rotation,
            scale), "affine" or "homography". A larger one is taken only where it explains the
            pair clearly better than a smaller one.
        matcher: a function of your own in place of the search: takes grey infrared and visible
            images, float32 ``(H, W)`` in [0, 1], and returns matching points as two arrays
            ``(N, 2)`` of x and y. The transform is fitted to them robustly.
        force: return what was found even if the confidence is low.

    Returns:
        The alignment, from infrared to visible pixels.

    Raises:
        AlignmentError: a ValueError: the confidence is low; says why, as far as can be told.
        InputError: a ValueError: a constant image, a batch, an unknown model.
        InputTypeError, MissingFileError, FileError: as ``model.fuse`` has them.
    """
    check_choice("model", model, MODELS)
    one, other = see(ir, "ir"), see(vi, "vi")
    if matcher is not None:
        return _from_matcher(matcher, one, other, model, force)
    return _aligned([(one, other)], model, force)


def align_rig(
    pairs: Iterable[tuple[Any, Any]], model: str = "homography", *, force: bool = False
) -> Alignment:
    """Find the one transform of a rig of two cameras that stand still against each other.

    It is estimated from all pairs together, so that scenes which show little in one place add to
    those that do. At most 24 pairs are used, spread over all that are given.

    Args:
        pairs: infrared and visible images; all infrared ones of one size, all visible ones too.
        model: as in :func:`align`.
        force: as in :func:`align`.

    Raises:
        AlignmentError, InputError, InputTypeError, MissingFileError, FileError: as :func:`align`;
            also where sizes differ, or there is no pair.
    """
    check_choice("model", model, MODELS)
    listed = list(pairs)
    if not listed:
        raise InputError("there are no pairs to align; pass at least one")
    stride = max(1, -(-len(listed) // MOST_PAIRS))
    seen: list[tuple[Seen, Seen]] = []
    for number, (ir, vi) in islice(enumerate(listed), 0, None, stride):
        one, other = see(ir, f"ir[{number}]"), see(vi, f"vi[{number}]")
        if seen and (one.size, other.size) != (seen[0][0].size, seen[0][1].size):
            raise InputError(
                f"pair {number} is {one.size} and {other.size} (height, width), the first one "
                f"{seen[0][0].size} and {seen[0][1].size}; pass pairs of one rig, of equal size"
            )
        seen.append((one, other))
    return _aligned(seen, model, force)


def _aligned(seen: Sequence[tuple[Seen, Seen]], model: str, force: bool) -> Alignment:
    pairs = [(ir.picture, vi.picture) for ir, vi in seen]
    found, confidence = _best(pairs, model)
    if confidence < LEAST_CONFIDENCE and not force:
        raise AlignmentError(_reason(pairs, model, found, confidence))
    ir, vi = seen[0]
    if found is None:
        transform, name, residual = centred(ir.size, vi.size), "translation", float("nan")
        return Alignment(transform.numpy(), ir.size, vi.size, name, 0.0, residual, len(seen))
    transform = torch.linalg.inv(vi.reducing) @ found.transform @ ir.reducing
    transform = transform / transform[2, 2]
    residual = found.residual * vi.reduction
    return Alignment(
        transform.numpy(), ir.size, vi.size, found.model, confidence, residual, len(seen)
    )


def _best(pairs: Sequence[tuple[Picture, Picture]], model: str) -> tuple[Estimate | None, float]:
    """The estimate of the usual search, or of the wide one where that one is not sure."""
    best: Estimate | None = None
    confidence = 0.0
    for ranges in (USUAL, WIDE):
        found = estimate(pairs, model, ranges)
        if found is not None and (best is None or confidence_of(found) > confidence):
            best, confidence = found, confidence_of(found)
        if confidence >= LEAST_CONFIDENCE or model == "translation":
            break
    return best, confidence


def _reason(
    pairs: Sequence[tuple[Picture, Picture]],
    model: str,
    found: Estimate | None,
    confidence: float,
) -> str:
    """Say why an alignment is refused."""
    mirrored = [(Picture(ir.grey.flip(1), ir.known.flip(1)), vi) for ir, vi in pairs[:1]]
    flipped = estimate(mirrored, model)
    if flipped is not None and confidence_of(flipped) > max(LEAST_CONFIDENCE, confidence):
        return (
            "ir is mirrored against vi: it fits only after a flip from left to right; flip it "
            "first, or force=True takes the pair as it is"
        )
    if found is None:
        what = "ir and vi have too few edges to be compared, or do not overlap"
    else:
        what = (
            f"ir and vi do not fit each other in any way that can be trusted (confidence "
            f"{confidence:.2f}, of {LEAST_CONFIDENCE} needed): different scenes, no overlap, or "
            "too few edges that both show"
        )
    return f"{what}; give matching points, or force=True takes the best transform found"


def _from_matcher(matcher: Matcher, ir: Seen, vi: Seen, model: str, force: bool) -> Alignment:
    result = matcher(ir.picture.grey.numpy(), vi.picture.grey.numpy())
    try:
        one, other = (np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in result)
    except (TypeError, ValueError):
        raise InputTypeError(
            "matcher returns two arrays (N, 2) of matching points, x and y, infrared first"
        ) from None
    scaled = [
        points * seen.reduction + (seen.reduction - 1) / 2
        for points, seen in ((one, ir), (other, vi))
    ]
    return fit_points(scaled[0], scaled[1], ir.size, vi.size, model, force=force)


def distance_to_identity(alignment: Alignment) -> float:
    """Return how far a pair of equal size is off: the mean shift of the corners, in pixels."""
    if alignment.ir_size != alignment.vi_size:
        return alignment.corner_shift
    transform = torch.from_numpy(alignment.transform.copy())
    return corner_distance(transform, torch.eye(3, dtype=torch.float64), alignment.ir_size)


__all__ = ["MOST_PAIRS", "Matcher", "Size", "align", "align_rig", "distance_to_identity"]
