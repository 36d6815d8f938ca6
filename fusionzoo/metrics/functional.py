"""Fusion metrics as pure functions of a batch.

All functions take images as (H,W), (B,H,W) or (B,C,H,W), floats in [0, 1] of any precision or
torch.uint8, on any device, and give a scalar (``reduction="mean"``) or one value per image, (B,)
(``reduction="none"``). Half precision is computed in float32, float64 in float64. With several
channels each is measured by itself and the values are averaged. Nothing but one check of the
values leaves the device.

Values with a unit are in grey levels of a 0...255 scale, whatever the type of the input;
``data_range=1`` gives them on a 0...1 scale.

Where a metric compares the fused image with one source at a time, ``combine`` says what to do
with both values: ``"sum"``, ``"mean"``, or one of them alone, ``"ir"`` and ``"vi"``.

Every function raises InputError (a ValueError) for images that differ in shape or device, are of
another type, contain NaN, lie outside [0, 1], or are too small for its window.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from fusionzoo.errors import check_choice
from fusionzoo.metrics import _edges, _fmi, _measures
from fusionzoo.metrics._inputs import Reduction, prepare, reduce
from fusionzoo.metrics._measures import Combine, Images, Measure

__all__ = [
    "average_gradient",
    "correlation_coefficient",
    "cross_entropy",
    "edge_intensity",
    "entropy",
    "fmi",
    "grey_level_difference",
    "ms_ssim",
    "mse",
    "mutual_information",
    "nabf",
    "normalised_mutual_information",
    "psnr",
    "qabf",
    "qcb",
    "qcv",
    "rmse",
    "scd",
    "spatial_frequency",
    "ssim",
    "standard_deviation",
    "vif",
    "viff",
]


def _measured(
    measure: Measure,
    images: tuple[Tensor, ...],
    reduction: Reduction,
    combine: Combine | None = None,
    **options: Any,
) -> Tensor:
    """Check images and measure them; of one source alone where ``combine`` names it."""
    if combine is not None:
        check_choice("combine", combine, ("sum", "mean", "ir", "vi"))
    (fused, *sources), channels = prepare(*images, exact=measure.exact)
    if combine in ("ir", "vi"):
        sources = sources[:1] if combine == "ir" else sources[1:]
    values = measure.use(combine, **options)(Images(fused, sources, channels))
    wide = any(image.dtype == torch.float64 for image in images)
    return reduce(values, channels, reduction).to(torch.float64 if wide else torch.float32)


# --------------------------------------------------------------------- fused image alone


def entropy(fused: Tensor, *, base: float = 2.0, reduction: Reduction = "mean") -> Tensor:
    """Entropy EN of the fused image: -sum p log p over its 256 nearest grey levels.

    Range 0...8 bits; higher is better; no gradient.
    Source: Roberts, van Aardt, Ahmed, J. Applied Remote Sensing 2 (2008).
    """
    return _measured(_measures.EN, (fused,), reduction, base=base)


def standard_deviation(
    fused: Tensor, *, data_range: float = 255.0, reduction: Reduction = "mean"
) -> Tensor:
    """Standard deviation SD of the fused image, over H*W pixels.

    Range 0...data_range/2; higher is better (more contrast).
    Source: Rao, Measurement Science and Technology 8 (1997).
    """
    return _measured(_measures.SD, (fused,), reduction) * (data_range / 255)


def spatial_frequency(
    fused: Tensor, *, data_range: float = 255.0, reduction: Reduction = "mean"
) -> Tensor:
    """Spatial frequency SF: sqrt(mean dx^2 + mean dy^2) of differences between neighbours.

    Range 0...sqrt(2)*data_range; higher is better. Differentiable; the gradient at a constant
    image is 0.
    Source: Eskicioglu and Fisher, IEEE Trans. Communications 43 (1995).
    """
    return _measured(_measures.SF, (fused,), reduction) * (data_range / 255)


def average_gradient(
    fused: Tensor, *, data_range: float = 255.0, reduction: Reduction = "mean"
) -> Tensor:
    """Average gradient AG: mean of sqrt((gx^2 + gy^2)/2), central differences.

    Differences are one-sided at the border. Range 0...data_range; higher is better.
    Differentiable; flat places have gradient 0. Some tables print sqrt(2) times this value
    (without the 1/2 under the root).
    Source: Cui, Feng, Xu, Li, Chen, Optics Communications 341 (2015).
    """
    return _measured(_measures.AG, (fused,), reduction) * (data_range / 255)


def edge_intensity(
    fused: Tensor, *, data_range: float = 255.0, reduction: Reduction = "mean"
) -> Tensor:
    """Edge intensity EI: mean length of the Sobel response (weights 1 2 1, border repeated).

    Range 0...4*sqrt(2)*data_range; higher is better. Differentiable.
    Source: Rajalingam and Priya, Int. J. Engineering Science Invention (2018).
    """
    return _measured(_measures.EI, (fused,), reduction) * (data_range / 255)


def grey_level_difference(
    fused: Tensor, *, data_range: float = 255.0, reduction: Reduction = "mean"
) -> Tensor:
    """Grey-level difference GLD: mean of |F - right neighbour| + |F - lower neighbour|.

    Over the (H-1)(W-1) pixels that have both. Range 0...2*data_range; higher is better.
    Differentiable.
    """
    return _measured(_measures.GLD, (fused,), reduction) * (data_range / 255)


# --------------------------------------------------------------------------- information


def mutual_information(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    base: float = 2.0,
    combine: Combine = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    """Mutual information MI of grey levels: H(F) + H(S) - H(F,S), 256 levels each.

    Range 0...8 bits for each source; higher is better; no gradient. ``base=math.e`` gives nats,
    which are 0.69 times the bits.
    Source: Qu, Zhang, Yan, Electronics Letters 38 (2002).
    """
    return _measured(_measures.MI, (fused, ir, vi), reduction, combine, base=base)


def normalised_mutual_information(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    combine: Combine = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    """Normalised mutual information: 2 I(F,S) / (H(F) + H(S)).

    Range 0...1 for each source, 0 where both images are constant; higher is better; no gradient.
    Source: Hossny, Nahavandi, Creighton, Electronics Letters 44 (2008).
    """
    return _measured(_measures.NMI, (fused, ir, vi), reduction, combine)


def cross_entropy(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    base: float = 2.0,
    combine: Combine = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross entropy CE, as the field calls it: sum p_S log(p_S / p_F) over grey levels.

    That is the divergence of the source's histogram from the fused one. Levels which only one of
    them has are left out, so the value is finite, and can be below 0. In bits; lower is better;
    no gradient.
    Source: Bulanon, Burks, Alchanatis, Biosystems Engineering 103 (2009).
    """
    return _measured(_measures.CE, (fused, ir, vi), reduction, combine, base=base)


def fmi(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    features: Literal["pixel", "dct", "wavelet", "edge"] = "pixel",
    reduction: Reduction = "mean",
) -> Tensor:
    """Feature mutual information FMI: 2 I(F,S) / (H(F) + H(S)) over 3x3 windows, mean of both.

    Every window, taken as a distribution of its stretched values over its 9 cells, is compared
    with the window of the source; the joint distribution lies between independence and a Frechet
    bound. Features are the pixels, the DCT of the whole image, one level of the Meyer wavelet
    (four bands side by side) or binary Sobel edges. Range 0...1; higher is better; no gradient.
    The public code's wavelet is MATLAB's FIR table of the Meyer wavelet, not Haar; here the taps
    come from the closed form of the filter and differ from the table by less than 1e-3.
    Source: Haghighat, Aghagolzadeh, Seyedarabi, Computers and Electrical Engineering 37 (2011);
    Haghighat and Razian, AICT 2014.
    """
    check_choice("features", features, _fmi.FEATURES)
    return _measured(_measures.FMI, (fused, ir, vi), reduction, features=features)


# --------------------------------------------------------------------- error, correlation


def mse(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    data_range: float = 255.0,
    combine: Combine = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Mean squared error MSE between the fused image and the sources.

    Range 0...data_range^2; lower is better. Differentiable.
    """
    unit = (data_range / 255) ** 2
    return _measured(_measures.MSE, (fused, ir, vi), reduction, combine) * unit


def rmse(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    data_range: float = 255.0,
    combine: Combine = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Root mean squared error RMSE; the root is taken for each source by itself.

    Range 0...data_range; lower is better. Differentiable.
    """
    return _measured(_measures.RMSE, (fused, ir, vi), reduction, combine) * (data_range / 255)


def psnr(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Peak signal-to-noise ratio PSNR: 10 log10(1 / MSE), MSE of 0...1 images, mean of sources.

    In dB; higher is better; infinite where the fused image equals both sources. Differentiable.
    """
    return _measured(_measures.PSNR, (fused, ir, vi), reduction)


def correlation_coefficient(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    combine: Combine = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Correlation coefficient CC of the fused image with the sources (Pearson, over pixels).

    Range -1...1, 0 where an image is constant; higher is better. Differentiable.
    """
    return _measured(_measures.CC, (fused, ir, vi), reduction, combine)


def scd(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Sum of the correlations of differences SCD: corr(F - vi, ir) + corr(F - ir, vi).

    Range -2...2; higher is better. Differentiable.
    Source: Aslantas and Bendes, AEU 69 (2015).
    """
    return _measured(_measures.SCD, (fused, ir, vi), reduction)


# ---------------------------------------------------------------------------- structure


def ssim(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    window: Literal["gaussian", "uniform"] = "gaussian",
    combine: Combine = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Structural similarity SSIM with the correct data range, K1 0.01, K2 0.03.

    ``"gaussian"`` is the paper's 11x11 window with sd 1.5; ``"uniform"`` a 7x7 window with sample
    variances. Only where the window fits: no padding. Range -1...1; higher is better.
    Differentiable: 1 - ssim(...) is a loss. Images of at least 11x11 (7x7) pixels.
    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13 (2004).
    """
    windows = {"gaussian": _measures.SSIM, "uniform": _measures.UNIFORM_SSIM}
    check_choice("window", window, windows)
    return _measured(windows[window], (fused, ir, vi), reduction, combine)


def ms_ssim(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    combine: Combine = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Multi-scale SSIM: contrast-structure at five scales, luminance at the last, weighted.

    A scale whose image is smaller than the 11x11 window is left out and the other weights are
    scaled up; all five need 176 pixels. Factors below 0 count as 0. Range 0...1; higher is
    better. Differentiable where no factor is 0.
    Source: Wang, Simoncelli, Bovik, Asilomar 2003.
    """
    return _measured(_measures.MS_SSIM, (fused, ir, vi), reduction, combine)


# ------------------------------------------------------------------- information fidelity


def vif(
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
    *,
    combine: Combine = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    """Visual information fidelity VIF in the pixel domain, four scales, noise variance 2.

    For each source 0 and more, 1 for a faithful copy, above 1 where contrast was added; 1 for a
    constant source. Scales that do not fit are left out; all four need 41 pixels. Higher is
    better. At least 17x17 pixels.
    Source: Sheikh and Bovik, IEEE Trans. Image Processing 15 (2006), and the authors' pixel-domain
    variant.
    """
    return _measured(_measures.VIF, (fused, ir, vi), reduction, combine)


def viff(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Visual information fidelity for fusion VIFF: at each place the source with smaller gain.

    Scale weights (1, 0, 0.15, 1)/2.15 and noise variance 0.005*255^2 as in the authors' program.
    0 and more, 1 for a faithful copy; higher is better. At least 17x17 pixels.
    Source: Han, Cai, Cao, Xu, Information Fusion 14 (2013).
    """
    return _measured(_measures.VIFF, (fused, ir, vi), reduction)


# --------------------------------------------------------------------------------- edges


def qabf(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Qabf: how much of the strength and orientation of source edges the fused image keeps.

    Sobel edges with the border repeated, weighted by source edge strength; angles are compared
    modulo pi (the authors' paper of 2005). Range 0...1 (a copy
    of both sources has 0.975, the product of both sigmoids at 1), 0 where the sources have no
    edge; higher is better.
    Source: Xydeas and Petrovic, Electronics Letters 36 (2000).
    """
    return _measured(_measures.QABF, (fused, ir, vi), reduction)


def nabf(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Nabf: fusion artefacts, edges which are stronger in the fused image than in both sources.

    Range 0...1; lower is better.
    Source: Petrovic and Xydeas, Information Fusion 2004; Shreyamsha Kumar, Signal, Image and
    Video Processing 7 (2013).
    """
    return _measured(_measures.NABF, (fused, ir, vi), reduction, slack=_edges.SLACK)


# ---------------------------------------------------------------------------- perception


def qcv(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Qcv: squared error as an eye sees it, by 16x16 blocks weighted by edge saliency.

    In squared grey levels, 0 and more; lower is better.
    Source: Chen and Varshney, Information Fusion 8 (2007).
    """
    return _measured(_measures.QCV, (fused, ir, vi), reduction)


def qcb(fused: Tensor, ir: Tensor, vi: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Qcb: share of the perceived local contrast of the sources that the fused image keeps.

    Range 0...1; higher is better. At least 2x2 pixels.
    Source: Chen and Blum, Image and Vision Computing 27 (2009).
    """
    return _measured(_measures.QCB, (fused, ir, vi), reduction)
