"""Kernels on pixel values and their correlations: (N,1,H,W) levels in, (N,) out."""

from __future__ import annotations

import torch
from torch import Tensor


def safe_sqrt(values: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def image_mean(images: Tensor) -> Tensor:
    return images.flatten(1).mean(1)


def centred(images: Tensor) -> Tensor:
    return images - images.mean(dim=(1, 2, 3), keepdim=True)


def standard_deviation(fused: Tensor) -> Tensor:
    return safe_sqrt(image_mean(centred(fused).square()))


def saturated_standard_deviation(fused: Tensor) -> Tensor:
    """What uint8 arithmetic leaves of the standard deviation: F - mean and its square in 0...255.

    MATLAB rounds halves away from zero; negative values are cut, so floor(x + 1/2) is the same.
    """
    positive = (centred(fused) + 0.5).floor().clamp(0, 255)
    return image_mean(positive.square().clamp(max=255)).sqrt()


def mean_squared_error(fused: Tensor, source: Tensor) -> Tensor:
    return image_mean((fused - source).square())


def root_mean_squared_error(fused: Tensor, source: Tensor) -> Tensor:
    return safe_sqrt(mean_squared_error(fused, source))


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation over the pixels of each image; 0 where one of them is constant."""
    first, second = centred(first).flatten(1), centred(second).flatten(1)
    covariance = (first * second).sum(1)
    power = first.square().sum(1) * second.square().sum(1)
    # The mean of a constant image is off by rounding, so its power is not exactly 0.
    count = first.shape[1]
    constant = power <= (1e-5 * count) ** 2
    return torch.where(constant, 0.0, covariance / torch.where(constant, 1.0, power).sqrt())


def difference_correlation(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    return correlation(fused - vi, ir) + correlation(fused - ir, vi)
