"""Plane transforms as 3 x 3 matrices of float64, on pixel coordinates (x, y).

The centre of the top left pixel is (0, 0). A matrix takes coordinates of the infrared image to
those of the visible one unless its name says otherwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: The kinds of transform, simplest first; each holds those before it.
MODELS = ("translation", "similarity", "affine", "homography")
#: How many numbers each kind has.
FREEDOM = {"translation": 2, "similarity": 4, "affine": 6, "homography": 8}

Size = tuple[int, int]  # height, width


def matrix(rows: list[list[float]]) -> Tensor:
    """Return a float64 matrix of its rows."""
    return torch.tensor(rows, dtype=torch.float64)


def shift(x: float, y: float) -> Tensor:
    """Return the transform that adds (x, y)."""
    return matrix([[1, 0, x], [0, 1, y], [0, 0, 1]])


def resampling(factor: float) -> Tensor:
    """Return what scaling an image by a factor does to its pixel coordinates."""
    offset = (factor - 1) / 2
    return matrix([[factor, 0, offset], [0, factor, offset], [0, 0, 1]])


def turn_about(center: tuple[float, float], degrees: float, scale: float) -> Tensor:
    """Return a rotation and scaling that leaves ``center`` where it is."""
    angle = math.radians(degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    x, y = center
    return shift(x, y) @ matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ shift(-x, -y)


def centred(ir: Size, vi: Size) -> Tensor:
    """Return the first guess: both images' centres meet, and their areas are equal."""
    factor = math.sqrt(vi[0] * vi[1] / (ir[0] * ir[1]))
    move = shift((vi[1] - 1) / 2, (vi[0] - 1) / 2)
    back = shift(-(ir[1] - 1) / 2, -(ir[0] - 1) / 2)
    return move @ matrix([[factor, 0, 0], [0, factor, 0], [0, 0, 1]]) @ back


def transformed(transform: Tensor, points: Tensor) -> Tensor:
    """Return points ``(..., 2)`` after a transform; points at infinity are NaN or infinite."""
    moved = torch.cat([points, torch.ones_like(points[..., :1])], -1) @ transform.T
    return moved[..., :2] / moved[..., 2:]


def corners(size: Size) -> Tensor:
    """Return the centres of the four corner pixels, clockwise from the top left."""
    right, bottom = size[1] - 1.0, size[0] - 1.0
    return matrix([[0, 0], [right, 0], [right, bottom], [0, bottom]])


def corner_distance(one: Tensor, other: Tensor, size: Size) -> float:
    """Return the mean distance of the four corners of an image under two transforms, in pixels."""
    points = corners(size)
    apart = transformed(one, points) - transformed(other, points)
    return float(apart.norm(dim=1).mean())


def displacement_basis(points: Tensor, size: Size, model: str) -> Tensor:
    """Return how points ``(P, 2)`` of an image move with each number of a small transform.

    Gives ``(P, 2, K)``. The numbers are in pixels: each is how far it moves a point that lies half
    the image's longer side from the centre. In this order: shift in x and y; growth, rotation;
    stretch, shear; the two of perspective.
    """
    x, y = ((points - _centre(size)) / (max(size) / 2)).unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows = [
        torch.stack([one, zero, x, -y, x, y, x * x, x * y], -1),
        torch.stack([zero, one, y, x, -y, x, x * y, y * y], -1),
    ]
    return torch.stack(rows, 1)[..., : FREEDOM[model]]


def small_transform(numbers: Tensor, size: Size) -> Tensor:
    """Return the transform whose first-order motion :func:`displacement_basis` gives."""
    half = max(size) / 2
    all_numbers = torch.zeros(8, dtype=torch.float64)
    all_numbers[: len(numbers)] = numbers / half
    x, y, grow, turn, stretch, shear, p, q = all_numbers.tolist()
    normal = matrix(
        [[1 + grow + stretch, shear - turn, x], [shear + turn, 1 + grow - stretch, y], [-p, -q, 1]]
    )
    centre_x, centre_y = _centre(size).tolist()
    to_normal = matrix([[1 / half, 0, 0], [0, 1 / half, 0], [0, 0, 1]]) @ shift(
        -centre_x, -centre_y
    )
    small: Tensor = torch.linalg.inv(to_normal) @ normal @ to_normal
    return small


def _centre(size: Size) -> Tensor:
    return torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
