"""DIDFuse's training losses (section III-C, eqs 1–5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GAPS = {"l2": F.mse_loss, "l1": F.l1_loss}


def decomposition_gap(first: Tensor, second: Tensor, gap: str = "l2") -> Tensor:
    """Φ(‖first − second‖) of eq. 1, a scalar in [0, 1): tanh of the mean (squared) difference.

    ``gap="l2"`` is the paper's squared norm, ``"l1"`` the released code's. The mean over elements
    takes the place of the sum, so that the value does not depend on crop and batch.
    """
    return torch.tanh(GAPS[gap](first, second))


def intensity_loss(rebuilt: Tensor, source: Tensor, weight_ssim: float = 5.0) -> Tensor:
    """f(X, X̂) of eqs 3–4: mean squared error plus λ · (1 − SSIM) / 2, images in [0, 1]."""
    # Here, not above: who loads a model to fuse with needs no kornia.
    from kornia.losses import ssim_loss

    return F.mse_loss(rebuilt, source) + weight_ssim * ssim_loss(rebuilt, source, window_size=11)


def gradient_loss(rebuilt: Tensor, source: Tensor) -> Tensor:
    """‖∇X − ∇X̂‖₁ of eq. 2: mean absolute difference of the Sobel gradients."""
    from kornia.filters import SpatialGradient

    gradient = SpatialGradient()
    return F.l1_loss(gradient(rebuilt), gradient(source))
