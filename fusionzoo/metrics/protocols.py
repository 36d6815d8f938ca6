"""Evaluation protocols: which definition of each metric a published table used.

A protocol is a table. It names how images are brought to grey levels, and for every metric the
measure with its options and the way in which both sources are combined. ``zoo`` holds the
definitions of this package; the others reproduce public evaluation codes with their artefacts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor

from fusionzoo.errors import InputError, did_you_mean
from fusionzoo.metrics import _measures as m
from fusionzoo.metrics._edges import SLACK
from fusionzoo.metrics._inputs import ROLES, as_batch, check_images, to_levels
from fusionzoo.metrics._measures import Images, Measure

_Entry = TypeVar("_Entry")

_BT601_GREY = (0.299, 0.587, 0.114)
_MATLAB_GREY = (0.298936021293776, 0.587043074451121, 0.114020904255103)


@dataclass(frozen=True)
class MetricEntry:
    """One metric of a protocol.

    Attributes:
        name: as printed in tables.
        measure: what is computed, and with which options.
        definition: formula, unit and range in one line.
        verified: whether published values of the protocol's authors were reproduced.
    """

    name: str
    measure: Measure
    definition: str
    verified: bool = True

    @property
    def higher_is_better(self) -> bool:
        """Direction of improvement."""
        return self.measure.higher_is_better


@dataclass(frozen=True)
class Protocol:
    """A named set of metric definitions.

    Attributes:
        name: key in ``PROTOCOLS``.
        title: one line on where it comes from.
        grey_weights: R, G, B weights of the grey conversion; None measures each channel by
            itself and averages.
        rounded: whether images are rounded to integer grey levels first.
        metrics: every metric it offers.
        columns: the metrics measured when none are named.
    """

    name: str
    title: str
    grey_weights: tuple[float, float, float] | None
    rounded: bool
    metrics: Mapping[str, MetricEntry]
    columns: tuple[str, ...]

    def select(self, metrics: Sequence[str] | None = None) -> tuple[MetricEntry, ...]:
        """Entries of the named metrics (any case), or of ``columns``.

        Raises:
            InputError: a name that this protocol does not have, with the closest ones.
        """
        if metrics is None:
            metrics = self.columns
        if isinstance(metrics, str):
            metrics = (metrics,)
        kind = f"metric of protocol {self.name}"
        return tuple(_named(kind, name, self.metrics) for name in metrics)

    def prepare(self, fused: Tensor, ir: Tensor, vi: Tensor) -> Images:
        """Check a batch and bring it to the grey levels which this protocol measures.

        Args:
            fused: (H,W), (B,H,W) or (B,C,H,W) with C 1 or 3 (RGB), floats in [0, 1] or uint8.
            ir: infrared image of that size; its number of channels may differ.
            vi: visible image of that size; its number of channels may differ.

        Raises:
            InputError: sizes, devices or channels that do not fit, NaN, values out of range.
        """
        batches = [as_batch(i, role) for i, role in zip((fused, ir, vi), ROLES, strict=True)]
        check_images(batches, same_channels=False)
        for role, batch in zip(ROLES, batches, strict=True):
            if batch.shape[1] not in (1, 3):
                raise InputError(
                    f"{role} has {batch.shape[1]} channels; protocol {self.name} takes 1 (grey) "
                    "or 3 (RGB)"
                )
        levels = [to_levels(batch, exact=True) for batch in batches]
        if self.rounded:
            levels = [level.round() for level in levels]
        if self.grey_weights is not None or levels[0].shape[1] == 1:
            weights = self.grey_weights or _BT601_GREY
            levels = [self._grey(level, weights) for level in levels]
        channels = levels[0].shape[1]
        fused, *sources = (level.expand_as(levels[0]).flatten(0, 1)[:, None] for level in levels)
        return Images(fused, sources, channels)

    def _grey(self, levels: Tensor, weights: tuple[float, float, float]) -> Tensor:
        if levels.shape[1] == 1:
            return levels
        grey = (levels * levels.new_tensor(weights).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return grey.round() if self.rounded else grey

    def measure(self, images: Images, metrics: Sequence[MetricEntry]) -> dict[str, Tensor]:
        """Value of each metric for each image of a prepared batch, {name: (B,)}."""
        values_of = {}
        for entry in metrics:
            values = entry.measure(images)
            values_of[entry.name] = values.view(-1, images.channels).mean(1)
        return values_of


def _named(kind: str, name: str, known: Mapping[str, _Entry]) -> _Entry:
    """Look a name up, whatever its case."""
    by_lower = {key.lower(): entry for key, entry in known.items()}
    if str(name).lower() in by_lower:
        return by_lower[str(name).lower()]
    hint = " ".join(filter(None, [did_you_mean(name, known), "known: " + ", ".join(known)]))
    raise InputError(f"unknown {kind} {name!r}; {hint}")


def _table(
    rows: Mapping[str, MetricEntry | tuple[Measure, str]],
    unverified: Mapping[str, tuple[Measure, str]] = MappingProxyType({}),
) -> Mapping[str, MetricEntry]:
    table = {
        name: row if isinstance(row, MetricEntry) else MetricEntry(name, *row)
        for name, row in rows.items()
    }
    table |= {name: MetricEntry(name, *row, verified=False) for name, row in unverified.items()}
    return MappingProxyType(table)


# Each row: the name in tables, what is measured with which options, and the definition in words.

_ZOO = _table(
    {
        "EN": (m.EN, "entropy of the nearest of 256 grey levels, bits, 0...8"),
        "SD": (m.SD, "standard deviation, grey levels, 0...127.5"),
        "SF": (m.SF, "sqrt(mean dx^2 + mean dy^2) of differences between neighbours, grey levels"),
        "AG": (m.AG, "mean of sqrt((gx^2 + gy^2)/2), central differences, grey levels per pixel"),
        "EI": (m.EI, "mean length of the Sobel response, border repeated, grey levels"),
        "GLD": (m.GLD, "mean of |F - right neighbour| + |F - lower neighbour|, grey levels"),
        "MI": (m.MI, "mutual information on grey levels, bits, sum over both sources"),
        "NMI": (m.NMI, "2 I(F,S) / (H(F) + H(S)), sum over both sources, 0...2"),
        "CE": (
            m.CE,
            "divergence of the sources' histograms from the fused, bits, mean of both",
        ),
        "CC": (m.CC, "correlation with the sources, mean of both, -1...1"),
        "SCD": (m.SCD, "corr(F - vi, ir) + corr(F - ir, vi), -2...2"),
        "MSE": (m.MSE, "mean squared error, mean of both sources, squared grey levels"),
        "RMSE": (m.RMSE, "root mean squared error, mean of both sources, grey levels"),
        "PSNR": (m.PSNR, "10 log10(255^2 / MSE), dB"),
        "SSIM": (m.SSIM, "11x11 Gaussian window, data range 255, mean of both sources, -1...1"),
        "MS_SSIM": (m.MS_SSIM, "five-scale SSIM, mean of both sources, 0...1"),
        "VIF": (m.VIF, "pixel-domain VIF, sum over both sources"),
        "VIF_ir": (m.VIF.use("ir"), "pixel-domain VIF, infrared source"),
        "VIF_vi": (m.VIF.use("vi"), "pixel-domain VIF, visible source"),
        "VIFF": (m.VIFF, "VIF for fusion (Han et al. 2013)"),
        "Qabf": (m.QABF, "edge preservation, border repeated, angles modulo pi, 0...1"),
        "Nabf": (m.NABF.use(slack=SLACK), "edges that no source has (Shreyamsha Kumar), 0...1"),
        "Qcv": (m.QCV, "perceived squared error by salient block (Chen and Varshney), 0 and more"),
        "Qcb": (m.QCB, "perceived local contrast that is kept (Chen and Blum), 0...1"),
        "FMI_pixel": (
            m.FMI.use(features="pixel"),
            "feature mutual information of 3x3 windows of pixels, 0...1",
        ),
        "FMI_dct": (
            m.FMI.use(features="dct"),
            "the same of the discrete cosine transform of the whole image",
        ),
        "FMI_wavelet": (
            m.FMI.use(features="wavelet"),
            "the same of one level of the Meyer wavelet",
        ),
    }
)

_CDDFUSE = _table(
    {
        "EN": (m.EN, "entropy of the integer grey levels, bits, 0...8"),
        "SD": (m.SD, "standard deviation of the fused image, grey levels 0...255"),
        "SF": _ZOO["SF"],
        "AG": _ZOO["AG"],
        "AG_gradient_magnitude": (
            m.AG.use(halved=False),
            "AG without the 1/2 under the root, sqrt(2) times AG; SMFNet's table prints this one",
        ),
        "MI": (
            m.MI.use(base=math.e),
            "mutual information in nats on integer grey levels, sum over both sources",
        ),
        "SCD": _ZOO["SCD"],
        "VIF": _ZOO["VIF"],
        "Qabf": (
            m.QABF.use(border="zero", rule="public"),
            "edge preservation; zeros around the image, ratio of equal gradients is the gradient",
        ),
        "SSIM": (
            m.UNIFORM_SSIM.use("sum", data_range=2.0),
            "7x7 uniform-window SSIM with data_range 2 on 0...255 images, sum over both sources",
        ),
        "CC": _ZOO["CC"],
        "MSE": _ZOO["MSE"],
        "PSNR": (
            m.PSNR.use(peak=None),
            "10 log10(max(F)^2 / MSE), dB; the peak is the brightest pixel of the fused image",
        ),
    }
)

# The published numbers come from code that computed on MATLAB uint8 arrays, where every result
# is rounded and cut to 0...255.
_TANG = _table(
    {
        "EN": _CDDFUSE["EN"],
        "SD": (
            m.SATURATED_SD,
            "sqrt(mean(min(255, max(0, round(F - mean))^2))): uint8 cuts what is below the mean "
            "and every square above 255, so at most 16",
        ),
        "SF": (m.SF.use(divisor=255), "spatial frequency of the image in 0...1"),
        "AG": (
            m.AG.use(inner_count=True),
            "sum of sqrt((gx^2 + gy^2)/2) over all pixels by (H-1)(W-1), grey levels per pixel",
        ),
        "MI": (
            m.MI.use(joint_top=254),
            "mutual information in bits, sum over both sources; levels 254 and 255 fall together "
            "in the joint histogram, because grey + 1 saturates",
        ),
        "SCD": _ZOO["SCD"],
        "VIF": (
            m.VIF.use(saturate_first=True),
            "pixel-domain VIF, sum over both sources; products at the finest scale are cut to "
            "255, so that its variances drop out",
        ),
        "Qabf": (
            m.QABF.use(border="matlab", rule="public"),
            "edge preservation of images in 0...1; zeros around the image, ratio of equal "
            "gradients is the gradient",
        ),
        "CC": _ZOO["CC"],
        "MSE": (
            m.MSE.use(divisor=255**2),
            "mean squared error of images in 0...1, mean of both sources",
        ),
        "PSNR": (
            m.PSNR.use(peak=255.0**2),
            "20 log10(255 / sqrt(MSE)) with the MSE of images in 0...1: 48.13 dB too high",
        ),
    },
    unverified={
        "MS_SSIM": (
            m.MEF_MS_SSIM,
            "three-scale similarity to the patch wanted from both sources (MEF-SSIM)",
        ),
        "Nabf": (
            m.NABF.use(unit=True),
            "added edges of images in 0...1, where no gradient reaches the threshold of 2, so "
            "that all pixels weigh the same",
        ),
        "FMI_pixel": (
            m.FMI.use(features="edge"),
            "feature mutual information of binary Sobel edges, which is what that code computes "
            "under this name",
        ),
        "FMI_dct": (
            m.FMI.use(features="dct"),
            "feature mutual information of the discrete cosine transform of the whole image",
        ),
        "FMI_wavelet": (
            m.FMI.use(features="wavelet"),
            "feature mutual information of one level of the Meyer wavelet",
        ),
    },
)

_VIFB = _table(
    {
        "CE": _ZOO["CE"],
        "EN": _CDDFUSE["EN"],
        "MI": (
            m.MI.use(stretched=True, base=math.e),
            "mutual information in nats of images stretched to 0...255, sum over both sources",
        ),
        "PSNR": (
            m.PSNR_OF_ERROR_NORM,
            "20 log10(255 / sqrt(RMSE)) with this protocol's RMSE: depends on the image size",
        ),
        "AG": _TANG["AG"],
        "EI": _ZOO["EI"],
        "Qabf": _CDDFUSE["Qabf"],
        "SD": _CDDFUSE["SD"],
        "SF": (
            m.SIDE_BY_SIDE_SF,
            "spatial frequency of the channels laid side by side, grey levels",
        ),
        "RMSE": (
            m.ERROR_NORM,
            "sqrt(sum of squared errors) / (H W) in grey levels, mean of both sources: the root "
            "mean squared error over sqrt(H W)",
        ),
        "SSIM": (
            m.SSIM.use("sum"),
            "11x11 Gaussian window, data range 255, sum over both sources, -2...2",
        ),
        "Qcb": (
            m.QCB.use(stretched=True, border="zero"),
            "perceived local contrast that is kept, of images stretched to 0...255",
        ),
        "Qcv": (
            m.QCV.use(stretched=True, border="zero", pad_blocks=True),
            "perceived squared error by salient block, of images stretched to 0...255",
        ),
    }
)

_USUAL = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM", "CC", "MSE", "PSNR")

_ALL = (
    Protocol(
        name="zoo",
        title="definitions of this package: float images, correct ranges, no artefacts",
        grey_weights=_BT601_GREY,
        rounded=False,
        metrics=_ZOO,
        columns=_USUAL,
    ),
    Protocol(
        name="cddfuse",
        title="Python evaluator published with CDDFuse (Zhao et al., CVPR 2023); SMFNet's tables",
        grey_weights=_BT601_GREY,
        rounded=True,
        metrics=_CDDFUSE,
        columns=_USUAL,
    ),
    Protocol(
        name="tang",
        title="MATLAB evaluation of Linfeng-Tang/Image-Fusion in its uint8 state; CoCoNet's tables",
        grey_weights=_MATLAB_GREY,
        rounded=True,
        metrics=_TANG,
        columns=tuple(name for name in _USUAL if name != "SSIM"),
    ),
    Protocol(
        name="vifb",
        title="MATLAB benchmark VIFB (Zhang, Ye, Xiao, CVPR workshops 2020); channel by channel",
        grey_weights=None,
        rounded=True,
        metrics=_VIFB,
        columns=tuple(_VIFB),
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({one.name: one for one in _ALL})


def get_protocol(name: str) -> Protocol:
    """Protocol of this name (any case).

    Raises:
        InputError: no such protocol; with the closest names.
    """
    return _named("protocol", name, PROTOCOLS)
