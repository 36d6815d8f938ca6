"""The kernels against slow, literal NumPy versions of the same formulas, on small crops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from fusionzoo.metrics import _fmi, per_image

ASSETS = Path(__file__).parent / "assets"
ROLES = ("fused", "ir", "vi")


@pytest.fixture(scope="module")
def grey() -> list[np.ndarray]:
    return [np.array(Image.open(ASSETS / f"metrics_grey_{r}.png")).astype(float) for r in ROLES]


@pytest.fixture(scope="module")
def colour() -> list[np.ndarray]:
    return [np.array(Image.open(ASSETS / f"metrics_colour_{r}.png")).astype(float) for r in ROLES]


def measured(protocol: str, name: str, images: list[np.ndarray]) -> float:
    tensors = [torch.from_numpy(image / 255) for image in images]
    tensors = [t.permute(2, 0, 1)[None] if t.ndim == 3 else t[None, None] for t in tensors]
    return per_image(protocol, [name], *tensors)[name].item()


# ------------------------------------------------------------------------------- helpers


def correlate(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.einsum("ijkl,kl->ij", sliding_window_view(image, kernel.shape), kernel)


def gauss(size: int, sigma: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    window = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return window / window.sum()


def shannon(counts: np.ndarray, log) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * log(p)).sum())


def joint(first: np.ndarray, second: np.ndarray, cut: int = 255) -> np.ndarray:
    table = np.zeros((256, 256))
    for a, b in zip(first.ravel(), second.ravel(), strict=True):
        table[min(int(a), cut), min(int(b), cut)] += 1
    return table


def mutual(first: np.ndarray, second: np.ndarray, log, cut: int = 255) -> float:
    table = joint(first, second)
    both = shannon(table.sum(1), log) + shannon(table.sum(0), log)
    return both - shannon(joint(first, second, cut), log)


def stretch(image: np.ndarray) -> np.ndarray:
    low, high = image.min(), image.max()
    return np.floor((image - low) / (high - low) * 255 + 0.5)


# ------------------------------------------------------------------------------- cddfuse


def vif_of(ref: np.ndarray, dist: np.ndarray, noise: float = 2, saturate: bool = False):
    """Kept and present information at each scale, and the gain."""
    maps = []
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        window = gauss(size, size / 5)
        if scale > 1:
            ref, dist = (correlate(i, window)[::2, ::2] for i in (ref, dist))
        top = 255 if saturate and scale == 1 else np.inf
        m1, m2 = correlate(ref, window), correlate(dist, window)
        s1 = correlate(np.minimum(ref * ref, top), window) - m1 * m1
        s2 = correlate(np.minimum(dist * dist, top), window) - m2 * m2
        s12 = correlate(np.minimum(ref * dist, top), window) - m1 * m2
        kept, present, gain = (np.zeros_like(m1) for _ in range(3))
        for at in np.ndindex(m1.shape):
            v1, v2, v12 = max(s1[at], 0), max(s2[at], 0), s12[at]
            if v1 < 1e-10:
                continue
            g = v12 / (v1 + 1e-10)
            rest = v2 - g * v12
            if v2 < 1e-10 or g < 0:
                g, rest = 0, v2
            kept[at] = math.log(1 + g * g * v1 / (max(rest, 1e-10) + noise))
            present[at] = math.log(1 + v1 / noise)
            gain[at] = g
        maps.append((kept, present, gain))
    return maps


def vif_ratio(ref, dist, **options) -> float:
    maps = vif_of(ref, dist, **options)
    return sum(m[0].sum() for m in maps) / sum(m[1].sum() for m in maps)


def sobel(image: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(image, 1, mode=mode)
    kernel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return correlate(padded, kernel), correlate(padded, kernel.T)


def qabf(images: list[np.ndarray], mode: str, public: bool) -> float:
    strength, angle = [], []
    for image in images:
        x, y = sobel(image, mode)
        strength.append(np.hypot(x, y))
        safe = np.where(x == 0, 1, x)
        angle.append(np.where(x == 0, np.pi / 2, np.arctan(-y / safe)))
    top = bottom = 0.0
    for source in (1, 2):
        for at in np.ndindex(images[0].shape):
            s, f = strength[source][at], strength[0][at]
            ratio = (f if public else 1.0) if s == f else min(s, f) / max(s, f)
            turn = 1 - abs(angle[source][at] - angle[0][at]) / (math.pi / 2)
            turn = turn if public else abs(turn)
            q = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
            q *= 0.9879 / (1 + math.exp(-22 * (turn - 0.8)))
            top += q * s
            bottom += s
    return top / bottom


def ssim_map(x, y, window, data_range, sample=1.0):
    mx, my = correlate(x, window), correlate(y, window)
    vx = sample * (correlate(x * x, window) - mx * mx)
    vy = sample * (correlate(y * y, window) - my * my)
    cov = sample * (correlate(x * y, window) - mx * my)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    structure = (2 * cov + c2) / (vx + vy + c2)
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1) * structure, structure


def central(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.gradient(image))


def cddfuse(name: str, f, a, b) -> float:
    mse = (np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2
    gy, gx = central(f)
    uniform = np.full((7, 7), 1 / 49)
    return {
        "EN": lambda: shannon(np.bincount(f.astype(int).ravel()), np.log2),
        "SD": lambda: f.std(),
        "SF": lambda: np.sqrt(np.mean(np.diff(f, axis=0) ** 2) + np.mean(np.diff(f) ** 2)),
        "AG": lambda: np.mean(np.sqrt((gx**2 + gy**2) / 2)),
        "AG_gradient_magnitude": lambda: np.mean(np.hypot(gx, gy)),
        "MI": lambda: mutual(f, a, np.log) + mutual(f, b, np.log),
        "SCD": lambda: (
            np.corrcoef((f - b).ravel(), a.ravel())[0, 1]
            + np.corrcoef((f - a).ravel(), b.ravel())[0, 1]
        ),
        "VIF": lambda: vif_ratio(a, f) + vif_ratio(b, f),
        "Qabf": lambda: qabf([f, a, b], "constant", public=True),
        "SSIM": lambda: sum(ssim_map(f, s, uniform, 2, 49 / 48)[0].mean() for s in (a, b)),
        "CC": lambda: (
            (np.corrcoef(f.ravel(), a.ravel())[0, 1] + np.corrcoef(f.ravel(), b.ravel())[0, 1]) / 2
        ),
        "MSE": lambda: mse,
        "PSNR": lambda: 10 * np.log10(f.max() ** 2 / mse),
    }[name]()


CDDFUSE = [
    "EN",
    "SD",
    "SF",
    "AG",
    "AG_gradient_magnitude",
    "MI",
    "SCD",
    "VIF",
    "Qabf",
    "SSIM",
    "CC",
    "MSE",
    "PSNR",
]


@pytest.mark.parametrize("name", CDDFUSE)
def test_cddfuse(name, grey):
    assert measured("cddfuse", name, grey) == pytest.approx(cddfuse(name, *grey), rel=1e-7)


def test_cddfuse_grey_rule(colour):
    grey = [np.round(image @ [0.299, 0.587, 0.114]) for image in colour]
    for name in ("EN", "MI", "SF"):
        assert measured("cddfuse", name, colour) == pytest.approx(cddfuse(name, *grey), rel=1e-7)


# ---------------------------------------------------------------------------------- tang


def mef_ms_ssim(f, a, b) -> float:
    """Patch by patch, after Ma, Zeng, Wang 2015."""
    weights = np.array([0.0448, 0.2856, 0.3001])
    window = gauss(11, 1.5)
    product = 1.0
    for scale in range(3):
        if scale:
            f, a, b = (i.reshape(i.shape[0] // 2, 2, -1, 2).mean((1, 3)) for i in (f, a, b))
        values = []
        for y, x in np.ndindex(f.shape[0] - 10, f.shape[1] - 10):
            pf, pa, pb = (i[y : y + 11, x : x + 11] for i in (f, a, b))
            da, db = pa - pa.mean(), pb - pb.mean()
            na, nb = np.linalg.norm(da), np.linalg.norm(db)
            alike = np.linalg.norm(da + db) / (na + nb)
            power = min(np.tan(np.pi / 2 * alike), 10) if alike < 1 else 10
            ea, eb = na + 0.001, nb + 0.001
            share = ea**power / (ea**power + eb**power)
            wanted = share * da / ea + (1 - share) * db / eb
            wanted = wanted / np.linalg.norm(wanted) * max(ea, eb)
            mw, mf = (window * wanted).sum(), (window * pf).sum()
            vw, vf = (window * (wanted - mw) ** 2).sum(), (window * (pf - mf) ** 2).sum()
            cov = (window * (wanted - mw) * (pf - mf)).sum()
            c = (0.03 * 255) ** 2
            values.append((2 * cov + c) / (vw + vf + c))
        product *= np.mean(values) ** (weights[scale] / weights.sum())
    return product


def nabf(images: list[np.ndarray]) -> float:
    strength, angle = [], []
    for image in images:
        x, y = (response / 8 for response in sobel(image, "reflect"))
        strength.append(np.hypot(x, y))
        angle.append(np.where((x == 0) & (y == 0), 0, np.arctan2(x, y)))
        angle[-1] = np.where(angle[-1] > np.pi / 2, angle[-1] - np.pi, angle[-1])
        angle[-1] = np.where(angle[-1] < -np.pi / 2, angle[-1] + np.pi, angle[-1])
    top = bottom = 0.0
    for at in np.ndindex(images[0].shape):
        f = strength[0][at]
        for source in (1, 2):
            s = strength[source][at]
            weight = s**1.5 if s >= 2 else 0.001
            bottom += weight
            if f > strength[1][at] and f > strength[2][at]:
                ratio = 0 if s == 0 or f == 0 else min(s, f) / max(s, f)
                turn = abs(abs(angle[source][at] - angle[0][at]) - math.pi / 2) * 2 / math.pi
                q = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
                q *= 0.9995 / (1 + math.exp(-22 * (turn - 0.5)))
                top += (1 - math.sqrt(q)) * weight
    return top / bottom


def tang(name: str, f, a, b) -> float:
    mse = (np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2 / 255**2
    gy, gx = central(f)
    height, width = f.shape
    return {
        "SD": lambda: np.sqrt(
            np.mean(np.minimum(255, np.maximum(0, np.floor(f - f.mean() + 0.5)) ** 2))
        ),
        "SF": lambda: np.sqrt(np.mean(np.diff(f, axis=0) ** 2) + np.mean(np.diff(f) ** 2)) / 255,
        "AG": lambda: np.sqrt((gx**2 + gy**2) / 2).sum() / (height - 1) / (width - 1),
        "MI": lambda: mutual(f, a, np.log2, 254) + mutual(f, b, np.log2, 254),
        "VIF": lambda: vif_ratio(a, f, saturate=True) + vif_ratio(b, f, saturate=True),
        "MSE": lambda: mse,
        "PSNR": lambda: 20 * np.log10(255 / np.sqrt(mse)),
        "MS_SSIM": lambda: mef_ms_ssim(f, a, b),
    }[name]()


@pytest.mark.parametrize("name", ["SD", "SF", "AG", "MI", "VIF", "MSE", "PSNR", "MS_SSIM"])
def test_tang(name, grey):
    assert measured("tang", name, grey) == pytest.approx(tang(name, *grey), rel=1e-6)


def test_tang_mutual_information_with_saturated_levels(grey):
    # The crop has few bright pixels; here many levels are 254 and 255.
    bright = [np.minimum(image * 2, 255) for image in grey]
    bright[1][::2] = 254
    assert measured("tang", "MI", bright) == pytest.approx(tang("MI", *bright), rel=1e-9)
    assert measured("tang", "MI", bright) != pytest.approx(measured("zoo", "MI", bright), rel=1e-3)


# ---------------------------------------------------------------------------------- vifb


def blocks(image: np.ndarray, size: int = 16):
    image = np.pad(image, [(0, -side % size) for side in image.shape])
    for y in range(0, image.shape[0], size):
        for x in range(0, image.shape[1], size):
            yield image[y : y + size, x : x + size]


def frequencies(shape, per) -> np.ndarray:
    v, u = (np.fft.fftfreq(side) * 2 * side / per for side in shape)
    return np.hypot(v[:, None], u[None])


def qcv(f, a, b, mode: str = "constant") -> float:
    r = frequencies(f.shape, 8)
    seen = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    top = bottom = 0.0
    for source in (a, b):
        saliency = [block.sum() for block in blocks(np.hypot(*sobel(source, mode)) ** 5)]
        error = np.fft.ifft2(np.fft.fft2(source - f) * seen).real
        top += sum(s * (e**2).mean() for s, e in zip(saliency, blocks(error), strict=True))
        bottom += sum(saliency)
    return top / bottom


def qcb(f, a, b, mode: str = "constant") -> float:
    r = frequencies(f.shape, 30)
    sensitivity = np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    masked = []
    for image in (f, a, b):
        filtered = np.fft.ifft2(np.fft.fft2(image) * sensitivity).real
        padded = np.pad(filtered, 15, mode=mode)
        y, x = np.mgrid[-15:16, -15:16]
        narrow, wide = (
            correlate(padded, np.exp(-(x**2 + y**2) / (2 * s * s)) / (2 * np.pi * s * s))
            for s in (2, 4)
        )
        contrast = np.abs(narrow / wide - 1)
        masked.append(contrast**3 / (contrast**2 + 0.0001))
    cf, ca, cb = masked
    share = ca**2 / (ca**2 + cb**2)
    kept_a = np.minimum(ca, cf) / np.maximum(ca, cf)
    kept_b = np.minimum(cb, cf) / np.maximum(cb, cf)
    return np.mean(share * kept_a + (1 - share) * kept_b)


def divergence(source, fused) -> float:
    p, q = (np.bincount(i.astype(int).ravel(), minlength=256) / i.size for i in (source, fused))
    return sum(x * math.log2(x / y) for x, y in zip(p, q, strict=True) if x > 0 and y > 0)


def vifb(name: str, f, a, b) -> float:
    """One channel."""
    size = f.size
    norm = (np.sqrt(((a - f) ** 2).sum()) + np.sqrt(((b - f) ** 2).sum())) / 2 / size
    window = gauss(11, 1.5)
    sf, sa, sb = (stretch(i) for i in (f, a, b))
    return {
        "CE": lambda: (divergence(a, f) + divergence(b, f)) / 2,
        "EN": lambda: shannon(np.bincount(f.astype(int).ravel()), np.log2),
        "MI": lambda: mutual(sf, sa, np.log) + mutual(sf, sb, np.log),
        "PSNR": lambda: 20 * np.log10(255 / np.sqrt(norm)),
        "EI": lambda: np.hypot(*sobel(f, "edge")).mean(),
        "Qabf": lambda: qabf([f, a, b], "constant", public=True),
        "RMSE": lambda: norm,
        "SSIM": lambda: sum(ssim_map(f, s, window, 255)[0].mean() for s in (a, b)),
        "Qcb": lambda: qcb(sf, sa, sb),
        "Qcv": lambda: qcv(sf, sa, sb),
    }[name]()


@pytest.mark.parametrize(
    "name", ["CE", "EN", "MI", "PSNR", "EI", "Qabf", "RMSE", "SSIM", "Qcb", "Qcv"]
)
def test_vifb(name, colour):
    wanted = np.mean([vifb(name, *(i[..., c] for i in colour)) for c in range(3)])
    assert measured("vifb", name, colour) == pytest.approx(wanted, rel=1e-7)


def test_vifb_spatial_frequency_runs_over_the_channels(colour):
    wide = np.concatenate([colour[0][..., c] for c in range(3)], axis=1)
    total = (np.diff(wide, axis=0) ** 2).sum() + (np.diff(wide) ** 2).sum()
    assert measured("vifb", "SF", colour) == pytest.approx(np.sqrt(total / wide.size), rel=1e-9)


# ----------------------------------------------------------------------------------- zoo


def ms_ssim(x, y) -> float:
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:3]  # all that 80 pixels allow
    product = 1.0
    for scale in range(3):
        if scale:
            x, y = (i.reshape(i.shape[0] // 2, 2, -1, 2).mean((1, 3)) for i in (x, y))
        whole, structure = ssim_map(x, y, gauss(11, 1.5), 255)
        product *= (whole if scale == 2 else structure).mean() ** (weights[scale] / weights.sum())
    return product


def viff(f, a, b) -> float:
    total = 0.0
    of_a, of_b = (vif_of(source, f, noise=0.005 * 255**2) for source in (a, b))
    for weight, (ka, pa, ga), (kb, pb, gb) in zip((1, 0, 0.15, 1), of_a, of_b, strict=True):
        kept, present = np.where(ga < gb, ka, kb), np.where(ga < gb, pa, pb)
        total += weight / 2.15 * kept.sum() / present.sum()
    return total


def zoo(name: str, f, a, b) -> float:
    window = gauss(11, 1.5)
    h = [shannon(np.bincount(i.astype(int).ravel()), np.log2) for i in (f, a, b)]
    return {
        "EI": lambda: np.hypot(*sobel(f, "edge")).mean(),
        "GLD": lambda: np.abs(np.diff(f)[:-1]).mean() + np.abs(np.diff(f, axis=0)[:, :-1]).mean(),
        "MI": lambda: mutual(f, a, np.log2) + mutual(f, b, np.log2),
        "NMI": lambda: (
            2 * mutual(f, a, np.log2) / (h[0] + h[1]) + 2 * mutual(f, b, np.log2) / (h[0] + h[2])
        ),
        "RMSE": lambda: (np.sqrt(np.mean((a - f) ** 2)) + np.sqrt(np.mean((b - f) ** 2))) / 2,
        "PSNR": lambda: (
            10 * np.log10(255**2 / ((np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2))
        ),
        "SSIM": lambda: sum(ssim_map(f, s, window, 255)[0].mean() for s in (a, b)) / 2,
        "MS_SSIM": lambda: (ms_ssim(f, a) + ms_ssim(f, b)) / 2,
        "VIF_ir": lambda: vif_ratio(a, f),
        "VIF_vi": lambda: vif_ratio(b, f),
        "VIFF": lambda: viff(f, a, b),
        "Qabf": lambda: qabf([f, a, b], "edge", public=False),
        "Nabf": lambda: nabf([f, a, b]),
        "Qcv": lambda: qcv(f, a, b, "edge"),
        "Qcb": lambda: qcb(f, a, b, "edge"),
    }[name]()


ZOO = [
    "EI",
    "GLD",
    "MI",
    "NMI",
    "RMSE",
    "PSNR",
    "SSIM",
    "MS_SSIM",
    "VIF_ir",
    "VIF_vi",
    "VIFF",
    "Qabf",
    "Nabf",
    "Qcv",
    "Qcb",
]


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name, grey):
    assert measured("zoo", name, grey) == pytest.approx(zoo(name, *grey), rel=1e-6)


# ----------------------------------------------------------------------------------- FMI


def fmi_window(first: np.ndarray, second: np.ndarray) -> float:
    if (first == second).all():
        return 1.0
    marginals = []
    for window in (first, second):
        window = window.T.ravel()  # down the columns first
        span = window.max() - window.min()
        window = np.ones(9) if span == 0 else (window - window.min()) / span
        marginals.append(window / window.sum())
    p, q = marginals
    places = np.arange(1, 10)
    spread = [np.sqrt((m * places**2).sum() - (m * places).sum() ** 2) for m in marginals]
    flat = np.ptp(p) < 1e-12 or np.ptp(q) < 1e-12
    c = 0.0 if flat else np.corrcoef(p, q)[0, 1]
    cp, cq = np.cumsum(p)[:, None], np.cumsum(q)[None]
    bound = np.minimum(cp, cq) if c >= 0 else np.maximum(cp + cq - 1, 0)
    degree = 0.0
    if c != 0 and min(spread) > 0:
        degree = c / ((bound - cp * cq).sum() / (spread[0] * spread[1]))
    cells = np.diff(np.diff(np.pad(bound, [(1, 0), (1, 0)]), axis=0), axis=1)
    both = degree * cells + (1 - degree) * p[:, None] * q[None]
    both = both[np.abs(both) > 1e-15]
    h_both = -(both * np.log2(np.abs(both))).sum()
    h = sum(-(m[m > 0] * np.log2(m[m > 0])).sum() for m in marginals)
    return 2 * (h - h_both) / h if h > 1e-9 else 0.0


def fmi(f, a, b) -> float:
    values = []
    for y, x in np.ndindex(f.shape[0] - 2, f.shape[1] - 2):
        wf, wa, wb = (i[y : y + 3, x : x + 3] for i in (f, a, b))
        values.append((fmi_window(wf, wa) + fmi_window(wf, wb)) / 2)
    return np.mean(values)


def dct(image: np.ndarray) -> np.ndarray:
    def table(n):
        k, i = np.mgrid[:n, :n]
        return np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * np.where(k, np.sqrt(2 / n), n**-0.5)

    return table(image.shape[0]) @ image @ table(image.shape[1]).T


def meyer(image: np.ndarray) -> np.ndarray:
    """One level of a filter bank with half-point symmetric extension, by direct sums."""
    low = np.array(_fmi.meyer_lowpass())
    high = np.array([(-1) ** (n + 1) * low[len(low) - 1 - n] for n in range(len(low))])

    def split(signal, taps):
        n = len(signal)
        extended = np.pad(signal, len(taps) - 1, mode="symmetric")
        out = []
        for i in range((n + len(taps) - 1) // 2):
            # Position of the newest sample under the filter, in the extended signal.
            newest = 2 * i + 1 + len(taps) - 1
            out.append(sum(taps[k] * extended[newest - k] for k in range(len(taps))))
        return np.array(out)

    def bands(taps_x, taps_y):
        rows = np.stack([split(row, taps_x) for row in image])
        return np.stack([split(column, taps_y) for column in rows.T]).T

    return np.block([[bands(low, low), bands(low, high)], [bands(high, low), bands(high, high)]])


@pytest.mark.parametrize(
    ("name", "feature"), [("FMI_pixel", lambda i: i), ("FMI_dct", dct), ("FMI_wavelet", meyer)]
)
def test_fmi(name, feature, grey):
    small = [image[20:30, 30:43] for image in grey]
    wanted = fmi(*(np.round(feature(image), 6) for image in small))
    assert measured("zoo", name, small) == pytest.approx(wanted, rel=1e-4)


def test_meyer_filter_is_an_orthogonal_bank():
    low = np.array(_fmi.meyer_lowpass())
    assert low.sum() == pytest.approx(math.sqrt(2))
    assert (low * low).sum() == pytest.approx(1, abs=1e-3)
    for shift in range(2, len(low), 2):
        assert abs((low[shift:] * low[:-shift]).sum()) < 1e-3
    np.testing.assert_allclose(low[1:], low[1:][::-1], atol=1e-9)  # symmetric


def test_sobel_edges_of_a_step():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 5:] = 200
    edges = _fmi.sobel_edges(image)[0, 0]
    # Thinned to one of the two columns that respond equally; the outermost rows never count.
    wanted = torch.zeros(9, 9)
    wanted[1:-1, 5] = 1
    assert torch.equal(edges, wanted)
