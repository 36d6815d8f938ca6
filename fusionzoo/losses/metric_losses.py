"""Metrics as functions with usable gradients, and their weighted sum as a loss."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from fusionzoo.errors import InputError
from fusionzoo.metrics import _intensity, _structure, _vif
from fusionzoo.metrics._filters import sobel

# Gradients less steep than this (grey levels) have a direction that is mostly rounding; from here
# on the derivative of the direction stays bounded.
_LEAST_GRADIENT = 1e-3


def vif(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Visual information fidelity in the pixel domain, sum over both sources.

    Args:
        fused, ir, vi: float ``(B, 1, H, W)`` on a 0 ... 1 scale, at least 17 x 17 pixels; all four
            scales need 41.

    Returns:
        ``(B,)``, 0 and more, 2 for a picture that equals both sources; the value of
        :func:`fusionzoo.metrics.functional.vif`, which is computed in float64, to about 1e-4.

    Raises:
        InputError: shapes that differ or images that are too small.

    Source: Sheikh and Bovik, IEEE Trans. Image Processing 15 (2006), pixel-domain variant.
    """
    fused, ir, vi = _levels(fused, ir, vi)
    of_ir, of_vi = _vif.vif(fused, (ir, vi))
    return of_ir + of_vi


def ssim(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    window: Literal["gaussian", "uniform"] = "uniform",
    data_range: float = 2.0,
) -> Tensor:
    """Structural similarity, sum over both sources.

    The defaults are those of the protocol ``cddfuse``: a 7 x 7 uniform window and a data range of
    2 for images of 0 ... 255. That range makes the constants so small that flat places count only
    where they equal the source to a fraction of a grey level. ``window="gaussian",
    data_range=255`` is the definition of the paper, twice the value of the protocol ``zoo``.

    Args:
        fused, ir, vi: float ``(B, 1, H, W)`` on a 0 ... 1 scale, at least as large as the window.
        window: ``"uniform"``, 7 x 7, or ``"gaussian"``, 11 x 11.
        data_range: of the constants, in grey levels.

    Returns:
        ``(B,)`` in -2 ... 2.

    Raises:
        InputError: shapes that differ, another window, images that are too small.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13 (2004).
    """
    kernels = {"gaussian": _structure.gaussian_ssim, "uniform": _structure.uniform_ssim}
    if window not in kernels:
        raise InputError(f"window must be 'uniform' or 'gaussian', not {window!r}")
    fused, ir, vi = _levels(fused, ir, vi)
    measure = kernels[window]
    return measure(fused, ir, data_range=data_range) + measure(fused, vi, data_range=data_range)


def scd(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Sum of the correlations of differences: corr(F - vi, ir) + corr(F - ir, vi).

    Args:
        fused, ir, vi: float ``(B, 1, H, W)`` on a 0 ... 1 scale.

    Returns:
        ``(B,)`` in -2 ... 2; the value of :func:`fusionzoo.metrics.functional.scd`.

    Raises:
        InputError: shapes that differ.

    Source: Aslantas and Bendes, AEU 69 (2015).
    """
    return _intensity.difference_correlation(*_levels(fused, ir, vi))


def qabf(fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
    """Edge preservation, weighted by the strength of the sources' edges.

    Directions are compared modulo pi and the border is repeated, as in the protocol ``zoo``. The
    metric's own gradient is infinite in flat places: the square root at 0 and the arctangent of
    a division by 0. Here the first is 0 there and the second is bounded.

    Args:
        fused, ir, vi: float ``(B, 1, H, W)`` on a 0 ... 1 scale.

    Returns:
        ``(B,)`` in 0 ... 1; the value of :func:`fusionzoo.metrics.functional.qabf` to about 1e-4.

    Raises:
        InputError: shapes that differ.

    Source: Xydeas and Petrovic, Electronics Letters 36 (2000).
    """
    fused, ir, vi = _levels(fused, ir, vi)
    strength, angle = _edges(fused)
    kept = total = fused.new_zeros(len(fused))
    for source in (ir, vi):
        source_strength, source_angle = _edges(source)
        high = torch.maximum(strength, source_strength)
        low = torch.minimum(strength, source_strength)
        ratio = torch.where(high > 0, low / torch.where(high > 0, high, 1.0), 1.0)
        alignment = (1 - (source_angle - angle).abs() / (math.pi / 2)).abs()
        preserved = 0.9994 * torch.sigmoid(15 * (ratio - 0.5))
        preserved = preserved * 0.9879 * torch.sigmoid(22 * (alignment - 0.8))
        kept = kept + (preserved * source_strength).flatten(1).sum(1)
        total = total + source_strength.flatten(1).sum(1)
    return torch.where(total > 0, kept / torch.where(total > 0, total, 1.0), 0.0)


class MetricLoss(nn.Module):
    """The negative weighted sum of metrics, mean over the batch.

    Args:
        vif: weight of :func:`vif`.
        qabf: weight of :func:`qabf`.
        ssim: weight of :func:`ssim` with its defaults.
        scd: weight of :func:`scd`.

    A metric of weight 0 is not computed.

    Raises:
        InputError: a weight that is negative, or none that is positive.
    """

    def __init__(
        self, *, vif: float = 0.0, qabf: float = 0.0, ssim: float = 0.0, scd: float = 0.0
    ) -> None:
        super().__init__()
        self.weights = {"vif": vif, "qabf": qabf, "ssim": ssim, "scd": scd}
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise InputError(
                f"weights {self.weights}: give numbers of at least 0, one of them above 0"
            )

    def scores(self, fused: Tensor, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """The batch's mean of every metric that has a weight, unweighted, by name."""
        return {
            name: _METRICS[name](fused, ir, vi).mean()
            for name, weight in self.weights.items()
            if weight
        }

    def forward(self, fused: Tensor, ir: Tensor, vi: Tensor) -> Tensor:
        """The loss, a scalar; images as in :func:`vif`."""
        scores = self.scores(fused, ir, vi)
        return -torch.stack([self.weights[name] * score for name, score in scores.items()]).sum()

    def extra_repr(self) -> str:
        """The weights, for ``print``."""
        return ", ".join(f"{name}={weight}" for name, weight in self.weights.items())


_METRICS = {"vif": vif, "qabf": qabf, "ssim": ssim, "scd": scd}


def _levels(*images: Tensor) -> list[Tensor]:
    """Images on a 0 ... 255 scale, float32 at least."""
    for name, image in zip(("fused", "ir", "vi"), images, strict=True):
        if image.ndim != 4 or image.shape[1] != 1 or not image.is_floating_point():
            raise InputError(
                f"{name} is {image.dtype} of shape {tuple(image.shape)}; pass floats (B, 1, H, W)"
            )
        if image.shape != images[0].shape:
            raise InputError(
                f"fused and {name} differ in shape: {tuple(images[0].shape)} and "
                f"{tuple(image.shape)}; pass images of one size"
            )
    return [image.to(torch.promote_types(image.dtype, torch.float32)) * 255 for image in images]


def _edges(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and direction of the edge at every pixel."""
    along_w, along_h = sobel(levels, "replicate")
    strength = _intensity.safe_sqrt(along_w.square() + along_h.square())
    steep = along_w.abs().clamp_min(_LEAST_GRADIENT)
    across = torch.where(along_w < 0, -steep, steep)
    return strength, torch.where(along_w == 0, math.pi / 2, torch.atan(-along_h / across))
