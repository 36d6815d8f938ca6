"""SMFNet's losses (eqs 17–30); each gives one value for each pair of the batch, ``(B,)``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dissimilarity(image: Tensor, source: Tensor) -> Tensor:
    """``1 - SSIM`` (eqs 18 and 19), window 11; images ``(B, 1, H, W)`` in [0, 1]."""
    # Here, not above: who loads a model to fuse with needs no kornia.
    from kornia.metrics import ssim

    return 1 - ssim(image, source, window_size=11).mean((1, 2, 3))


def edges(image: Tensor) -> Tensor:
    """``|∂x| + |∂y|`` with unnormalised Sobel kernels, shaped like the image ``(B, 1, H, W)``."""
    from kornia.filters import spatial_gradient

    return spatial_gradient(image, mode="sobel", normalized=False).abs().sum(2)


def edge_loss(image: Tensor, source: Tensor) -> Tensor:
    """Mean absolute difference of :func:`edges` (the gradient term of eqs 18 and 19)."""
    return (edges(image) - edges(source)).abs().mean((1, 2, 3))


def gradient_loss(image: Tensor, source: Tensor) -> Tensor:
    """Mean absolute difference of the gradients along both axes, Sobel kernels of sum 1 (eq. 17).

    Unlike :func:`edge_loss` it tells a rising edge from a falling one.
    """
    from kornia.filters import spatial_gradient

    return (spatial_gradient(image) - spatial_gradient(source)).abs().mean((1, 2, 3, 4))


def gram(image: Tensor) -> Tensor:
    """Gram matrix ``(B, C, C)`` of ``(B, C, H, W)``: products of channels over C·H·W."""
    flat = image.flatten(2)
    return flat @ flat.transpose(1, 2) / image[0].numel()


def intensity_loss(image: Tensor, source: Tensor) -> Tensor:
    """Mean squared difference of Gram matrices (eq. 20)."""
    return (gram(image) - gram(source)).square().mean((1, 2))


def memberships(image: Tensor, bins: int) -> Tensor:
    """How far each pixel belongs to each of ``bins`` grey levels: ``(B, bins, H, W)``.

    Levels are spread evenly over [0, 1]; a pixel belongs to the two next to it, by its distance
    from them, and what it belongs to sums to 1. The image ``(B, 1, H, W)`` is clipped to [0, 1].
    """
    levels = torch.arange(bins, device=image.device, dtype=image.dtype)[:, None, None]
    return (1 - (image.clamp(0, 1) * (bins - 1) - levels).abs()).clamp_min(0)


def semantic_loss(image: Tensor, source: Tensor, bins: int = 8) -> Tensor:
    """Lovász-Softmax loss between grey levels (eqs 21–25).

    The paper applies it to one-channel images, where softmax over classes has no meaning and, in
    the released code, exact grey values are the classes. Here ``bins`` quantised grey levels are
    the classes, and an image's probabilities are its :func:`memberships`. The source's are soft
    in the same way, so that a perfect rebuild has loss 0: errors ``|p - p*|`` of a class, sorted
    from large to small, are summed with the growth of the Jaccard loss that each adds. The mean
    is over the levels that are some source pixel's nearest. Pixels more than a level off are given
    no direction by this term alone; the others bring them near.

    Args:
        image: ``(B, 1, H, W)`` in [0, 1]; the gradient is of this one.
        source: the same; what there is to match.
        bins: number of grey levels, at least 2.
    """
    target = memberships(source.detach(), bins).flatten(2)
    errors = (memberships(image, bins).flatten(2) - target).abs()
    with torch.no_grad():
        order = errors.argsort(dim=-1, descending=True)
        growth = _jaccard_growth(target.gather(-1, order))
        present = (target.amax(-1) >= 0.5).to(errors.dtype)
    losses = (errors.gather(-1, order) * growth).sum(-1)
    return (losses * present).sum(1) / present.sum(1).clamp_min(1)


def _jaccard_growth(sorted_target: Tensor) -> Tensor:
    """``G`` of eq. 24 along the last axis, for targets in [0, 1] sorted by falling error."""
    total = sorted_target.sum(-1, keepdim=True)
    intersection = total - sorted_target.cumsum(-1)
    union = total + (1 - sorted_target).cumsum(-1)
    loss = 1 - intersection / union.clamp_min(1e-6)
    return loss.diff(dim=-1, prepend=torch.zeros_like(loss[..., :1])).clamp_min(0)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation coefficient over all positions, mean over channels, in [-1, 1]; with gradient.

    Of features ``(B, C, H, W)``; a constant channel counts as uncorrelated.
    """
    first, second = (
        F.normalize(x - x.mean((2, 3), keepdim=True), dim=(2, 3), eps=1e-6) for x in (first, second)
    )
    return (first * second).sum((2, 3)).mean(1)


def decomposition(
    detail: Tensor, base: Tensor, graph: Tensor | None = None, delta: float = 1.01
) -> Tensor:
    """Eq. 26, or eq. 27 where ``graph`` is given, from correlation coefficients ``(B,)``."""
    unlike = detail.square() if graph is None else detail.square() + graph.square()
    return unlike / (base + delta)


def brightest_loss(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Mean distance from the brighter source (eq. 29)."""
    return (fused - torch.maximum(ir, vi)).abs().mean((1, 2, 3))


def strongest_edge_loss(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Mean distance of the :func:`edges` from the stronger source's (eq. 30)."""
    return (edges(fused) - torch.maximum(edges(ir), edges(vi))).abs().mean((1, 2, 3))


def has_contrast(image: Tensor, least: float) -> Tensor:
    """Whether each image's contrast reaches ``least``: ``(B,)`` of bool.

    Contrast is ``(p90 - p10) / p90`` of its grey values, the rule by which the released code
    chooses training patches; black images have none.
    """
    ordered = image.float().flatten(1).sort().values
    low, high = (ordered[:, round(share * (ordered.shape[1] - 1))] for share in (0.1, 0.9))
    return (high > 0) & (high - low >= least * high)
