"""Kernels on grey-level histograms: (N,1,H,W) levels 0...255 in, (N,) out. No gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = 256


def level_index(images: Tensor) -> Tensor:
    """Nearest grey level of each pixel as (N, H*W) integers."""
    return images.detach().round().long().flatten(1)


def histogram(index: Tensor) -> Tensor:
    """Counts of each level, (N, 256) int32."""
    return _count(index, LEVELS)


def joint_histogram(first: Tensor, second: Tensor) -> Tensor:
    """Counts of each pair of levels, (N, 256, 256) int32, ``first`` along rows."""
    return _count(first * LEVELS + second, LEVELS**2).view(-1, LEVELS, LEVELS)


def _count(index: Tensor, bins: int) -> Tensor:
    # Integer scatter: exact, the same on every run, and unlike bincount it never asks the
    # device for the largest index.
    images = index.shape[0]
    offset = torch.arange(images, device=index.device)[:, None] * bins
    flat = (index + offset).flatten()
    counts = torch.zeros(images * bins, dtype=torch.int32, device=index.device)
    counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))
    return counts.view(images, bins)


def entropy_of(counts: Tensor, base: float, dtype: torch.dtype) -> Tensor:
    """Shannon entropy of the histogram of each image, (N,)."""
    counts = counts.flatten(1).to(dtype)
    probability = counts / counts.sum(1, keepdim=True)
    entropy: Tensor = torch.special.entr(probability).sum(1)
    return entropy / math.log(base)


def entropy(fused: Tensor, *, base: float = 2.0) -> Tensor:
    return entropy_of(histogram(level_index(fused)), base, fused.dtype)


def mutual_information(
    fused: Tensor, source: Tensor, *, base: float = 2.0, joint_top: int = LEVELS - 1
) -> Tensor:
    """Mutual information of one source and the fused image.

    Levels above ``joint_top`` fall onto it in the joint histogram, but not in the marginals.
    """
    return _shared_and_own(fused, source, base, joint_top)[0]


def _shared_and_own(
    fused: Tensor, source: Tensor, base: float, joint_top: int = LEVELS - 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information, H(fused) and H(source)."""
    dtype = fused.dtype
    of_fused, of_source = level_index(fused), level_index(source)
    h_fused = entropy_of(histogram(of_fused), base, dtype)
    h_source = entropy_of(histogram(of_source), base, dtype)
    if joint_top < LEVELS - 1:
        of_fused, of_source = of_fused.clamp(max=joint_top), of_source.clamp(max=joint_top)
    h_joint = entropy_of(joint_histogram(of_fused, of_source), base, dtype)
    return h_fused + h_source - h_joint, h_fused, h_source


def normalised_mutual_information(fused: Tensor, source: Tensor) -> Tensor:
    """Mutual information over the mean of both entropies; 0 where both are constant."""
    shared, h_fused, h_source = _shared_and_own(fused, source, 2.0)
    total = h_fused + h_source
    return torch.where(total > 0, 2 * shared / total.clamp_min(1e-12), torch.zeros_like(total))


def cross_entropy(fused: Tensor, source: Tensor, *, base: float = 2.0) -> Tensor:
    """Divergence of the source's histogram from the fused one's, over levels that both have."""
    counts = [histogram(level_index(image)).to(fused.dtype) for image in (source, fused)]
    p, q = (count / count.sum(1, keepdim=True) for count in counts)
    both = (p > 0) & (q > 0)
    ratio = torch.where(both, p, 1.0) / torch.where(both, q, 1.0)
    return torch.where(both, p * ratio.log(), 0.0).sum(1) / math.log(base)
