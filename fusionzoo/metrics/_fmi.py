"""Feature mutual information on 3x3 windows: (N,1,H,W) levels in, (N,) out. No gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionzoo.metrics._filters import sobel
from fusionzoo.metrics._inputs import precise
from fusionzoo.metrics._structure import need_size

_SIDE = 3
_CELLS = _SIDE**2
# Windows in work at one time, so that temporaries stay in the tens of MB.
_CHUNK = 1 << 17


# ------------------------------------------------------------------------------ features


def _cosines(size: int, like: Tensor) -> Tensor:
    # In float64 on the host: the angles grow with the square of the size.
    k = torch.arange(size, dtype=torch.float64)
    table = torch.cos(math.pi / size * k[:, None] * (k[None] + 0.5)) * math.sqrt(2 / size)
    table[0] /= math.sqrt(2)
    return table.to(like)


def dct(images: Tensor) -> Tensor:
    """Orthonormal two-dimensional DCT-II of the whole image."""
    height, width = images.shape[-2:]
    return _cosines(height, images) @ images @ _cosines(width, images).T


def _exactly(transform: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Do a transform in float64 and cut off its rounding errors.

    Windows are stretched to 0...1 afterwards: where the image is flat, rounding errors would be
    all that is left of them.
    """

    def exact(images: Tensor) -> Tensor:
        return transform(precise(images)).round(decimals=6).to(images)

    return exact


@lru_cache(maxsize=1)
def meyer_lowpass(reach: int = 30) -> tuple[float, ...]:
    """Taps -reach-1...reach of the low-pass filter of Meyer's wavelet, sqrt(2) in sum.

    The inverse transform of its closed form in the frequency domain, cut off where the taps are
    below 1e-4. The FIR table that MATLAB calls "dmey" differs from it by less than 1e-3.
    """
    size = 4096
    frequency = torch.fft.fftfreq(size, dtype=torch.float64).abs() * 2
    t = (3 * frequency - 1).clamp(0, 1)
    auxiliary = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    response = torch.cos(math.pi / 2 * auxiliary)
    taps = torch.fft.ifft(response).real
    taps = torch.cat([taps[-reach - 1 :], taps[: reach + 1]])
    taps[0] = 0  # an even number of taps, as the wavelet's own shift asks for
    return tuple((taps / taps.sum() * math.sqrt(2)).tolist())


def _mirrored(size: int, reach: int, device: torch.device) -> Tensor:
    """Indices -reach...size+reach-1 of an image repeated by reflection, edge pixels doubled."""
    index = torch.arange(-reach, size + reach, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def meyer_bands(images: Tensor) -> Tensor:
    """One level of the Meyer wavelet: [approximation, horizontal; vertical, diagonal]."""
    low = torch.tensor(meyer_lowpass(), dtype=images.dtype, device=images.device)
    taps = len(low)
    sign = 1 - 2 * (torch.arange(taps, device=images.device) % 2)
    # Quadrature mirror of the low-pass; conv2d correlates, so both are reversed.
    high = -sign * low.flip(0)
    bank = torch.stack([low, high]).flip(1)

    def split(signal: Tensor) -> tuple[Tensor, Tensor]:
        index = _mirrored(signal.shape[-1], taps - 1, signal.device)
        extended = signal[..., index][..., 1:]
        height = extended.shape[-2]
        rows = extended.reshape(-1, 1, extended.shape[-1])
        bands = F.conv1d(rows, bank[:, None], stride=2)
        smooth, detail = (bands[:, i].reshape(len(signal), 1, height, -1) for i in (0, 1))
        return smooth, detail

    def split_down(signal: Tensor) -> tuple[Tensor, Tensor]:
        smooth, detail = split(signal.transpose(2, 3))
        return smooth.transpose(2, 3), detail.transpose(2, 3)

    smooth, detail = split(images)
    approximation, horizontal = split_down(smooth)
    vertical, diagonal = split_down(detail)
    top = torch.cat([approximation, horizontal], 3)
    return torch.cat([top, torch.cat([vertical, diagonal], 3)], 2)


def sobel_edges(images: Tensor) -> Tensor:
    """Thinned binary Sobel edges, threshold at twice the root mean squared gradient."""
    across, down = (response.abs() / 8 for response in sobel(images, "replicate"))
    power = across.square() + down.square()
    strong = power > 4 * power.mean(dim=(1, 2, 3), keepdim=True)
    inner = power[..., 1:-1, 1:-1]
    over_w = (power[..., 1:-1, :-2] <= inner) & (inner > power[..., 1:-1, 2:])
    over_h = (power[..., :-2, 1:-1] <= inner) & (inner > power[..., 2:, 1:-1])
    across, down = across[..., 1:-1, 1:-1], down[..., 1:-1, 1:-1]
    slack = 100 * torch.finfo(torch.float64).eps
    crest = ((across >= down - slack) & over_w) | ((down >= across - slack) & over_h)
    return F.pad((crest & strong[..., 1:-1, 1:-1]).to(images), (1, 1, 1, 1))


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "pixel": lambda images: images,
    "edge": sobel_edges,
    "dct": _exactly(dct),
    "wavelet": _exactly(meyer_bands),
}


# ------------------------------------------------------------------------------- windows


def fmi(fused: Tensor, ir: Tensor, vi: Tensor, *, features: str) -> Tensor:
    """Mean over windows and both sources of 2 I(f,s) / (H(f) + H(s))."""
    need_size(fused, _SIDE, "fmi")
    of_fused, of_ir, of_vi = (
        _windows(FEATURES[features](i.detach()).float()) for i in (fused, ir, vi)
    )
    count, windows = of_fused.shape[:2]
    of_fused = of_fused.flatten(0, 1)
    total = of_fused.new_zeros(())
    for source in (of_ir, of_vi):
        chunks = (torch.split(part, _CHUNK) for part in (of_fused, source.flatten(0, 1)))
        pairs = zip(*chunks, strict=True)
        values = torch.cat([_window_information(f, s) for f, s in pairs])
        total = total + values.view(count, windows).mean(1)
    return (total / 2).to(fused)


def _windows(images: Tensor) -> Tensor:
    """Every 3x3 window as a row, (N, windows, 9), down the columns of the window first."""
    patches = images.unfold(2, _SIDE, 1).unfold(3, _SIDE, 1)
    return patches.transpose(-1, -2).reshape(len(images), -1, _CELLS)


def _distribution(windows: Tensor) -> Tensor:
    low = windows.amin(1, keepdim=True)
    span = windows.amax(1, keepdim=True) - low
    flat = span == 0
    weights = torch.where(flat, 1.0, (windows - low) / torch.where(flat, 1.0, span))
    return weights / weights.sum(1, keepdim=True)


def _mean_and_spread(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the position in the window, each (M,1)."""
    position = torch.arange(_CELLS, dtype=probability.dtype, device=probability.device)
    mean = (probability * position).sum(1, keepdim=True)
    return mean, (probability * (position - mean).square()).sum(1, keepdim=True).sqrt()


def _window_information(fused: Tensor, source: Tensor) -> Tensor:
    """Normalised mutual information of each pair of windows, (M,9) and (M,9) to (M,).

    Haghighat et al. 2011/2014: the joint distribution lies between independence and one of the
    two Frechet bounds, as far as the correlation of the marginals asks for (Nelsen).
    """
    p, q = _distribution(fused), _distribution(source)
    p_about, q_about = p - 1 / _CELLS, q - 1 / _CELLS
    mixed = (p_about * q_about).sum(1, keepdim=True)
    power = p_about.square().sum(1, keepdim=True) * q_about.square().sum(1, keepdim=True)
    # Rounding leaves a constant window a little power.
    none = power <= 1e-12
    correlation = torch.where(none, 0.0, mixed / torch.where(none, 1.0, power).sqrt())
    # The lower bound is the upper one of the source counted backwards.
    q = torch.where(correlation < 0, q.flip(1), q)

    # The upper bound puts its mass on a staircase of at most 17 of the 81 cells: the pieces into
    # which both cumulative distributions cut 0...1.
    cuts, order = torch.cat([p.cumsum(1), q.cumsum(1)], 1).sort(1)
    mass = F.pad(cuts, (1, 0)).diff(dim=1)
    of_p = F.pad((order < _CELLS)[:, :-1].long(), (1, 0)).cumsum(1)
    at_q = (torch.arange(2 * _CELLS, device=p.device) - of_p).clamp(max=_CELLS - 1)
    at_p = of_p.clamp(max=_CELLS - 1)

    (mean_p, spread_p), (mean_q, spread_q) = _mean_and_spread(p), _mean_and_spread(q)
    covariance = (mass * at_p * at_q).sum(1, keepdim=True) - mean_p * mean_q
    bound_correlation = covariance / (spread_p * spread_q)
    usable = bound_correlation.isfinite() & (bound_correlation != 0) & ~none
    degree = correlation.abs() / torch.where(usable, bound_correlation, 1.0)
    degree = torch.where(usable, degree, 0.0)

    # Entropy of degree * bound + (1 - degree) * p q: the independent part over all cells has a
    # closed form, the cells of the staircase are then exchanged. The degree can be above 1 and
    # give small negative cells; of their logarithm the public code takes the real part.
    entropies = torch.special.entr(p).sum(1) + torch.special.entr(q).sum(1)
    rest = 1 - degree
    independent = rest * p.gather(1, at_p) * q.gather(1, at_q)
    joint = independent + degree * mass
    exchanged = torch.xlogy(joint, joint.abs()) - torch.xlogy(independent, independent.abs())
    rest = rest[:, 0]
    information = torch.xlogy(rest, rest.abs()) - rest * entropies + exchanged.sum(1) + entropies
    peaked = entropies <= 1e-6
    value = torch.where(peaked, 0.0, 2 * information / torch.where(peaked, 1.0, entropies))
    return torch.where((fused == source).all(1), 1.0, value)
