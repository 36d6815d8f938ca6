"""CoCoNet's losses: self-adaptive (eqs 3–9) and contrastive (eqs 1, 2, 13, 14)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LEVELS = 256


class Weights(NamedTuple):
    """Weights of the visible source, one a pair ``(B,)``; the infrared one's are 1 minus these."""

    sigma: Tensor
    gamma: Tensor


def average_gradient(image: Tensor) -> Tensor:
    """AG of eq. 6 per image ``(B,)``: mean absolute differences along rows plus along columns.

    ``image``: ``(B, 1, H, W)``; the result is in the image's unit.
    """
    image = image.float()
    horizontal = image.diff(dim=-1).abs().mean((1, 2, 3))
    return horizontal + image.diff(dim=-2).abs().mean((1, 2, 3))


def entropy(image: Tensor) -> Tensor:
    """EN of eq. 8 per image ``(B,)``, in bits; ``image`` ``(B, 1, H, W)`` in [0, 1], 256 levels."""
    levels = (image.float() * (_LEVELS - 1)).round().long().clamp(0, _LEVELS - 1).flatten(1)
    counts = torch.zeros(len(levels), _LEVELS, device=image.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))
    p = counts / levels.shape[1]
    return -torch.xlogy(p, p).sum(1) / torch.log(p.new_tensor(2.0))


@torch.no_grad()
def adaptive_weights(
    ir: Tensor, vi: Tensor, rule: str = "softmax", gradient_range: float = 1.0
) -> Weights:
    """σ from average gradients (eq. 7) and γ from entropies (eq. 9), per pair, no gradient.

    Args:
        ir, vi: ``(B, 1, H, W)`` in [0, 1].
        rule: ``softmax`` is the paper's; ``released`` that of the released code, which takes each
            measure's share of the sum of both, divides it by 0.5 (σ) or 0.75 (γ) and only then
            applies softmax, so that the weights stay near one half.
        gradient_range: value of white in the unit that AG is taken in, which eq. 7 leaves open:
            with 1, σ stays near one half; with 255 the source with more texture takes nearly
            all. Of no consequence to ``released``.
    """
    result = []
    for measure, divisor in ((average_gradient, 0.5), (entropy, 0.75)):
        visible, infrared = measure(vi), measure(ir)
        if measure is average_gradient:
            visible, infrared = visible * gradient_range, infrared * gradient_range
        if rule == "released":
            total = (visible + infrared).clamp_min(1e-12) * divisor
            visible, infrared = visible / total, infrared / total
        result.append(torch.sigmoid(visible - infrared))  # softmax over two
    return Weights(*result)


class AdaptiveTerms(NamedTuple):
    """Eqs 4 and 5, means over the batch."""

    structure: Tensor
    intensity: Tensor


def adaptive_terms(fused: Tensor, ir: Tensor, vi: Tensor, weights: Weights) -> AdaptiveTerms:
    """Structure (eq. 4) and intensity term (eq. 5) of images ``(B, 1, H, W)`` in [0, 1].

    SSIM is taken on [0, 1], squared errors on [-1, 1], the range the network works in.
    """

    def dissimilarity(source: Tensor) -> Tensor:
        # Here, not above: who loads a model to fuse with needs no kornia.
        from kornia.metrics import ssim

        return 1 - ssim(fused, source, window_size=11).mean((1, 2, 3))

    def error(source: Tensor) -> Tensor:
        return (2 * (fused - source)).square().mean((1, 2, 3))

    structure = weights.sigma * dissimilarity(vi) + (1 - weights.sigma) * dissimilarity(ir)
    intensity = weights.gamma * error(vi) + (1 - weights.gamma) * error(ir)
    return AdaptiveTerms(structure.mean(), intensity.mean())


def contrast_ratio(
    anchor: list[Tensor],
    positive: list[Tensor],
    negatives: list[list[Tensor]],
    weights: list[float],
) -> Tensor:
    """Eqs 1, 2, 13, 14 per pair ``(B,)``: distance to the positive over distances to negatives.

    Each argument is a list of feature maps ``(B, C, h, w)``, one a level; gradient reaches the
    anchor only. Distances are means over elements, whose number cancels in the ratio.
    """
    ratios = []
    for level, weight in enumerate(weights):
        near = _distance(anchor[level], positive[level])
        far = sum(_distance(anchor[level], negative[level]) for negative in negatives)
        ratios.append(weight * near / far.clamp_min(1e-6))
    return torch.stack(ratios).sum(0)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    exact = torch.promote_types(first.dtype, torch.float32)
    return (first.to(exact) - second.detach().to(exact)).abs().mean((1, 2, 3))
