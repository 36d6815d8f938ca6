"""IFESNet's losses: windowed SSIM to the expected image, weight sum (eqs 8–13), brightness."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fusionzoo.errors import InputError

#: A patch whose values deviate less than this from their mean (Euclidean norm, images in [0, 1])
#: has no structure. Below one pixel that is off by one grey level of 8 bits (0.0039), and far above
#: what float32 rounding makes of a constant patch.
FLAT = 1e-4
#: C of eq. 11, which the paper leaves open: SSIM's usual (0.03 · range)².
STABILIZER = 0.03**2


def windows(image: Tensor, window: int) -> Tensor:
    """Every ``window`` × ``window`` patch of ``(B, 1, H, W)`` less its mean, as ``(B, N, L)``.

    N pixels a patch, L patches. Windows slide by one pixel and stay inside the image. These are
    explicit patches since differences of filtered squares would cancel in float32.

    Raises:
        InputError: the image is smaller than the window.
    """
    if min(image.shape[-2:]) < window:
        height, width = image.shape[-2:]
        raise InputError(
            f"the image is {height} x {width}, less than window={window}; train on larger crops "
            "or choose a smaller window"
        )
    patches = F.unfold(image, window)
    return patches - patches.mean(1, keepdim=True)


def expected_patches(
    ir: Tensor, vi: Tensor, window: int = 8, xi: float = 1.7, structure_power: float = 0.0
) -> Tensor:
    """Patches of the expected result Ī = ξ · C̄ · S̄ (eqs 9–10), each of mean 0: ``(B, N, L)``.

    In every window, C̄ is the larger contrast, the contrast Cₙ of a source being the norm of its
    patch less the mean; S̄ is the sum of both structures (patches divided by their contrast),
    normalised. Where sources contradict each other exactly, or both are flat, Ī is 0.

    Args:
        ir: infrared image ``(B, 1, H, W)`` in [0, 1].
        vi: visible image likewise.
        window: side of the sliding window (8 or 11 in the MEF-SSIM that the paper refers to).
        xi: ξ, how much the contrast is raised (section IV-A: 1.7).
        structure_power: weight of a structure in the sum, as this power of its contrast: 0 is
            eq. 10; above 0, what is nearly flat in one source has less say against the other.
    """
    patches = [windows(source, window) for source in (ir, vi)]
    contrasts = [patch.norm(dim=1, keepdim=True) for patch in patches]
    largest = contrasts[0].maximum(contrasts[1])
    structure = 0.0
    for patch, contrast in zip(patches, contrasts, strict=True):
        share = (contrast / largest.clamp_min(FLAT)) ** structure_power * (contrast > FLAT)
        structure = structure + share * patch / contrast.clamp_min(FLAT)
    return xi * largest * F.normalize(structure, dim=1, eps=FLAT)


def structural_similarity(
    fused: Tensor, expected: Tensor, window: int = 8, stabilizer: float = STABILIZER
) -> Tensor:
    """SSIM of eq. 11, mean over all windows: a scalar in (-1, 1].

    Variances and the covariance are means over the N pixels of a window; luminance does not enter.

    Args:
        fused: image ``(B, 1, H, W)``.
        expected: what :func:`expected_patches` gives for the same window.
        window: side of the sliding window.
        stabilizer: C.
    """
    patches = windows(fused, window)
    covariance = (patches * expected).mean(1)
    variances = patches.square().mean(1) + expected.square().mean(1)
    return ((2 * covariance + stabilizer) / (variances + stabilizer)).mean()


def weight_sum_loss(weight_ir: Tensor, weight_vi: Tensor, tau: float = 1.0) -> Tensor:
    """|τ − W₁ − W₂| of eq. 13, mean over pixels: a scalar."""
    return (tau - weight_ir - weight_vi).abs().mean()


def brightness_loss(fused: Tensor, ir: Tensor, vi: Tensor, window: int = 8) -> Tensor:
    """Mean distance of window means from the brighter source's: a scalar.

    Not of the paper, whose expected image has structure only: without it, nothing keeps a bright
    area of one source bright. Images ``(B, 1, H, W)``; windows slide as in :func:`windows`.
    """
    fused, ir, vi = (F.avg_pool2d(image, window, stride=1) for image in (fused, ir, vi))
    return (fused - ir.maximum(vi)).abs().mean()
