"""CHITNet's training losses (eqs 4, 8, 12–19); images are ``(B, 1, H, W)`` in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fusionzoo.saliency import histogram_contrast


def gradient(image: Tensor) -> Tensor:
    """∇: signed Laplacian, 3×3, normalised as kornia does (kernel magnitudes sum to one)."""
    # Here, not above: who loads a model to fuse with needs no kornia.
    from kornia.filters import laplacian

    return laplacian(image, 3)


def joint_gradient(ir: Tensor, vi: Tensor) -> Tensor:
    """O(max(|∇I_ir|, |∇I_vis|)) of eq. 12: the Laplacian of larger magnitude, with its sign."""
    ir, vi = gradient(ir), gradient(vi)
    return torch.where(ir.abs() >= vi.abs(), ir, vi)


def salient_mean(ir: Tensor, vi: Tensor) -> Tensor:
    """ω_ir · I_ir + ω_vis · I_vis, what eqs 13 and 15 ask for, in [0, 1].

    ω_ir = 0.5 + 0.5 (S_ir − S_vis) with each image's saliency scaled to its maximum. Eq. 13
    divides by S_ir − S_vis instead, which leaves [0, 1] and breaks down where both are equal; the
    saliency methods that it refers to have the form used here.
    """
    weight = 0.5 + 0.5 * (histogram_contrast(ir) - histogram_contrast(vi))
    return torch.lerp(vi, ir, weight)


def interaction(label: Tensor, image: Tensor) -> Tensor:
    """KL(label ‖ image) of eq. 19: both made distributions over the pixels by softmax.

    Mean over the batch; no gradient reaches the label.
    """
    expected = label.detach().flatten(1).log_softmax(1)
    actual = image.flatten(1).log_softmax(1)
    return F.kl_div(actual, expected, log_target=True, reduction="batchmean")


def fusion_terms(fused: Tensor, intensity: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Intensity and joint gradient term of an image (eqs 12–13, 15–16), scalars.

    ``intensity`` and ``edges`` are :func:`salient_mean` and :func:`joint_gradient` of the sources.
    """
    return F.l1_loss(fused, intensity), F.l1_loss(gradient(fused), edges)


def reconstruction(rebuilt: tuple[Tensor, Tensor], ir: Tensor, vi: Tensor) -> Tensor:
    """ℓ_rec of eq. 4: one half of the channels gives infrared, the other visible."""
    return F.l1_loss(rebuilt[0], ir) + F.l1_loss(rebuilt[1], vi)


def edge_reconstruction(rebuilt: tuple[Tensor, Tensor], ir: Tensor, vi: Tensor) -> Tensor:
    """ℓ_grad of eq. 8: :func:`reconstruction` of Laplacians."""
    one, two = (gradient(image) for image in rebuilt)
    return reconstruction((one, two), gradient(ir), gradient(vi))
