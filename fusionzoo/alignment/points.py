"""Matching points, from a file, clicks or another program, to a transform: robustly."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusionzoo.alignment.estimate import is_sane
from fusionzoo.alignment.geometry import FREEDOM, MODELS, Size, transformed
from fusionzoo.alignment.transform import Alignment
from fusionzoo.errors import AlignmentError, FileError, InputError, MissingFileError, check_choice

#: How far a point may lie off to count, as a part of the visible image's longer side.
_NEAR = 0.01
_TRIALS = 500


def read_points(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read matching points: a text file of four numbers a line, ``ir_x ir_y vi_x vi_y``.

    Numbers are set apart by spaces, commas or semicolons; ``#`` begins a remark. The centre of the
    top left pixel is (0, 0).

    Raises:
        MissingFileError: a FileNotFoundError.
        FileError: an OSError: it cannot be read.
        InputError: a ValueError: a line that is not four numbers, or no line at all.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text; write ir_x ir_y vi_x vi_y, a line a point") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != 4 or not all(map(math.isfinite, values)):
            raise InputError(f"{path}, line {number}: write four numbers, ir_x ir_y vi_x vi_y")
        rows.append(values)
    if not rows:
        raise InputError(f"{path} has no points; write ir_x ir_y vi_x vi_y, a line a point")
    table = np.array(rows)
    return table[:, :2], table[:, 2:]


def fit_points(
    ir: np.ndarray,
    vi: np.ndarray,
    ir_size: Size,
    vi_size: Size,
    model: str = "homography",
    *,
    force: bool = False,
) -> Alignment:
    """Fit a transform to matching points ``(N, 2)``, x and y, some of which may be wrong.

    With fewer points than ``model`` needs (1, 2, 3 or 4) the largest kind that they suffice for is
    fitted. Wrong points are found by trying many small sets of them (MSAC: Torr and Zisserman,
    2000); the same points give the same result each time.

    Args:
        ir: points in the infrared image.
        vi: the same points in the visible image.
        ir_size: height and width of the infrared image.
        vi_size: the same of the visible one.
        model: the largest kind of transform.
        force: return the result even if most points contradict it.

    Raises:
        AlignmentError: a ValueError: under half of the points agree, or they lie so that no
            sensible transform comes out.
        InputError: a ValueError: no points, or not as many in both images.
    """
    check_choice("model", model, MODELS)
    one, other = (torch.from_numpy(np.array(side, dtype=np.float64)) for side in (ir, vi))
    if one.shape != other.shape or one.ndim != 2 or one.shape[1] != 2:
        raise InputError("points are two arrays (N, 2) of equal length, x and y")
    finite = one.isfinite().all(1) & other.isfinite().all(1)
    one, other = one[finite], other[finite]
    if not len(one):
        raise AlignmentError("there are no matching points; give at least one, better eight")
    possible = [name for name in MODELS if FREEDOM[name] <= 2 * len(one)]
    model = possible[min(MODELS.index(model), len(possible) - 1)]
    near = max(2.0, _NEAR * max(vi_size))
    best, agree = _robust(one, other, model, near)
    if best is None or not is_sane(best, ir_size):
        raise AlignmentError(
            f"no sensible {model} fits the {len(one)} points; spread them over the image, or take "
            "a simpler model"
        )
    share = float(agree.double().mean())
    enough = int(agree.sum()) >= min(len(one), FREEDOM[model] // 2 + 2)
    if not force and (share < 0.5 or not enough):
        raise AlignmentError(
            f"only {int(agree.sum())} of {len(one)} points agree on one {model}; check the points, "
            "or force=True takes the best transform found"
        )
    off = (transformed(best, one[agree]) - other[agree]).square().sum(1).mean().sqrt()
    return Alignment(best.numpy(), ir_size, vi_size, model, share, float(off))


def _robust(one: Tensor, other: Tensor, model: str, near: float) -> tuple[Tensor | None, Tensor]:
    count, least = len(one), FREEDOM[model] // 2
    generator = torch.Generator().manual_seed(0)
    best, best_cost = None, math.inf
    trials = _TRIALS if count > least else 1
    for trial in range(trials + 1):
        chosen = (
            torch.arange(count)
            if trial == 0
            else torch.randperm(count, generator=generator)[:least]
        )
        candidate = _fitted(one[chosen], other[chosen], model)
        if candidate is None:
            continue
        cost = _squares(candidate, one, other).clamp(max=near * near).sum()
        if float(cost) < best_cost:
            best, best_cost = candidate, float(cost)
    if best is None:
        return None, torch.zeros(count, dtype=torch.bool)
    for _ in range(3):
        agree = _squares(best, one, other) <= near * near
        better = _fitted(one[agree], other[agree], model) if int(agree.sum()) >= least else None
        if better is None:
            break
        best = better
    return best, _squares(best, one, other) <= near * near


def _squares(transform: Tensor, one: Tensor, other: Tensor) -> Tensor:
    off = (transformed(transform, one) - other).square().sum(1)
    return off.nan_to_num(math.inf, math.inf, math.inf)


def _fitted(one: Tensor, other: Tensor, model: str) -> Tensor | None:
    """Least squares on normalised points; None where they do not settle the transform."""
    from_one, from_other = _normalising(one), _normalising(other)
    x, y = transformed(from_one, one).unbind(1)
    u, v = transformed(from_other, other).unbind(1)
    null, unit = torch.zeros_like(x), torch.ones_like(x)
    if model == "translation":
        move = (other - one).mean(0)
        return torch.tensor(
            [[1, 0, float(move[0])], [0, 1, float(move[1])], [0, 0, 1]], dtype=torch.float64
        )
    if model == "similarity":
        rows = [torch.stack([x, -y, unit, null], 1), torch.stack([y, x, null, unit], 1)]
    else:
        affine = [
            torch.stack([x, y, unit, null, null, null], 1),
            torch.stack([null, null, null, x, y, unit], 1),
        ]
        extra = [torch.stack([-u * x, -u * y], 1), torch.stack([-v * x, -v * y], 1)]
        is_affine = model == "affine"
        rows = (
            affine
            if is_affine
            else [torch.cat(pair, 1) for pair in zip(affine, extra, strict=True)]
        )
    system, goal = torch.cat(rows), torch.cat([u, v])
    singular = torch.linalg.svdvals(system)
    if len(singular) < system.shape[1] or float(singular[-1]) < 1e-8 * float(singular[0]):
        return None
    numbers = torch.linalg.lstsq(system, goal[:, None]).solution[:, 0].tolist()
    if model == "similarity":
        a, b, c, d = numbers
        normal = [[a, -b, c], [b, a, d], [0.0, 0.0, 1.0]]
    else:
        last = [0.0, 0.0] if model == "affine" else numbers[6:]
        normal = [numbers[:3], numbers[3:6], [*last, 1.0]]
    middle = torch.tensor(normal, dtype=torch.float64)
    transform = torch.linalg.inv(from_other) @ middle @ from_one
    if not bool(transform.isfinite().all()) or abs(float(transform[2, 2])) < 1e-12:
        return None
    transform = transform / transform[2, 2]
    return transform if abs(float(torch.linalg.det(transform))) > 1e-12 else None


def _normalising(points: Tensor) -> Tensor:
    middle = points.mean(0)
    spread = float((points - middle).norm(dim=1).mean()) or 1.0
    x, y = middle.tolist()
    return torch.tensor(
        [[1 / spread, 0, -x / spread], [0, 1 / spread, -y / spread], [0, 0, 1]], dtype=torch.float64
    )
