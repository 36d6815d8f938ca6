"""Evaluation protocols: which definition of each metric a published table used.

A protocol is a table. It names how images are brought to grey levels, and for every metric the
kernel with its constants and the way in which both sources are combined. ``zoo`` holds the
definitions of this package; the others reproduce public evaluation codes with their artefacts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fusionzoo.metrics import _edges, _fmi, _information, _intensity, _perceptual, _structure, _vif
from fusionzoo.metrics._filters import sobel, sobel_in_matlab_order
from fusionzoo.metrics._inputs import ROLES, as_batch, check_images, to_levels, unknown_name

_BT601_GREY = (0.299, 0.587, 0.114)
_MATLAB_GREY = (0.298936021293776, 0.587043074451121, 0.114020904255103)


class Images:
    """One batch as a protocol sees it, with what several metrics share computed once.

    Attributes:
        fused, ir, vi: grey levels 0...255, (N,1,H,W); N is B, or B*C where a protocol measures
            every channel by itself.
        channels: C, the number of consecutive entries of N that belong to one image.
    """

    def __init__(self, fused: Tensor, ir: Tensor, vi: Tensor) -> None:
        self.channels = fused.shape[1]
        self.fused, self.ir, self.vi = (i.flatten(0, 1)[:, None] for i in (fused, ir, vi))
        self._shared: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Result of ``compute()``, kept under ``key`` for the other metrics."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def both(self, kernel: Callable[..., Tensor], **options: Any) -> tuple[Tensor, Tensor]:
        """``kernel(fused, source, **options)`` for the infrared and the visible source."""
        return kernel(self.fused, self.ir, **options), kernel(self.fused, self.vi, **options)

    def mse(self) -> Tensor:
        """Squared error in squared grey levels, mean of both sources."""
        return self.once("mse", lambda: sum(self.both(_intensity.mean_squared_error)) / 2)

    def psnr(self, peak: float | Tensor = 255.0) -> Tensor:
        """10 log10(peak^2 / MSE) in dB."""
        return 10 * torch.log10(peak**2 / self.mse())

    def mutual_information(self, **options: Any) -> Tensor:
        """Sum over both sources."""
        return sum(found[0] for found in self.both(_information.mutual_information, **options))

    def stretched(self) -> Images:
        """The same batch with each image spread over 0...255 and rounded."""
        return self.once(
            "stretched",
            lambda: Images(*(_perceptual.stretched(i) for i in (self.fused, self.ir, self.vi))),
        )

    def vif(self, **options: Any) -> list[Tensor]:
        """Fidelity to the infrared and to the visible source."""
        key = ("vif", *options.items())
        return self.once(key, lambda: _vif.vif(self.fused, (self.ir, self.vi), **options))

    def qabf(self, sobel: Callable[[Tensor], tuple[Tensor, Tensor]], rule: _edges.Rule) -> Tensor:
        """Edge preservation with this edge detector and this rule of ``edge_preservation``."""
        maps = (_edges.edge_map(*sobel(image)) for image in (self.fused, self.ir, self.vi))
        return _edges.qabf(*maps, rule=rule)


@dataclass(frozen=True)
class MetricEntry:
    """One metric of a protocol.

    Attributes:
        name: as printed in tables.
        values: from a batch to one value per image (or per channel), (N,).
        higher_is_better: direction of improvement; None where there is none.
        definition: formula, unit and range in one line.
        verified: whether published values of the protocol's authors were reproduced.
    """

    name: str
    values: Callable[[Images], Tensor]
    higher_is_better: bool | None
    definition: str
    verified: bool = True


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
            ValueError: a name that this protocol does not have, with the closest ones.
        """
        if metrics is None:
            metrics = self.columns
        if isinstance(metrics, str):
            metrics = (metrics,)
        known = {name.lower(): entry for name, entry in self.metrics.items()}
        for name in metrics:
            if str(name).lower() not in known:
                raise unknown_name(f"metric of protocol {self.name}", name, tuple(self.metrics))
        return tuple(known[str(name).lower()] for name in metrics)

    def prepare(self, fused: Tensor, ir: Tensor, vi: Tensor) -> Images:
        """Check a batch and bring it to the grey levels which this protocol measures.

        Args:
            fused, ir, vi: (H,W), (B,H,W) or (B,C,H,W) with C 1 or 3 (RGB), floats in [0, 1] or
                uint8; the number of channels may differ between them.

        Raises:
            ValueError: sizes, devices or channels that do not fit, NaN, values out of range.
        """
        batches = [as_batch(i, role) for i, role in zip((fused, ir, vi), ROLES, strict=True)]
        check_images(batches, same_channels=False)
        for role, batch in zip(ROLES, batches, strict=True):
            if batch.shape[1] not in (1, 3):
                raise ValueError(
                    f"{role} has {batch.shape[1]} channels; protocol {self.name} takes 1 (grey) "
                    "or 3 (RGB)"
                )
        levels = [to_levels(batch, exact=True) for batch in batches]
        if self.rounded:
            levels = [level.round() for level in levels]
        if self.grey_weights is not None or levels[0].shape[1] == 1:
            weights = self.grey_weights or _BT601_GREY
            levels = [self._grey(level, weights) for level in levels]
        return Images(*(level.expand_as(levels[0]) for level in levels))

    def _grey(self, levels: Tensor, weights: tuple[float, float, float]) -> Tensor:
        if levels.shape[1] == 1:
            return levels
        grey = (levels * levels.new_tensor(weights).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return grey.round() if self.rounded else grey

    def measure(self, images: Images, metrics: Sequence[MetricEntry]) -> dict[str, Tensor]:
        """Value of each metric for each image of a prepared batch, {name: (B,)}."""
        found = {}
        for entry in metrics:
            values = entry.values(images)
            # A metric that treats the channels together has one value per image already.
            found[entry.name] = values.view(-1, images.channels).mean(1)
        return found


def _table(*entries: MetricEntry) -> Mapping[str, MetricEntry]:
    names = [entry.name.lower() for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"a metric is defined twice: {sorted(names)}")
    return MappingProxyType({entry.name: entry for entry in entries})


# ----------------------------------------------------------------------------------- zoo

ZOO = Protocol(
    name="zoo",
    title="definitions of this package: float images, correct ranges, no artefacts",
    grey_weights=_BT601_GREY,
    rounded=False,
    columns=("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM", "CC", "MSE", "PSNR"),
    metrics=_table(
        MetricEntry(
            "EN",
            lambda i: _information.entropy(i.fused, base=2),
            True,
            "entropy of the nearest of 256 grey levels, bits, 0...8",
        ),
        MetricEntry(
            "SD",
            lambda i: _intensity.standard_deviation(i.fused),
            True,
            "standard deviation, grey levels, 0...127.5",
        ),
        MetricEntry(
            "SF",
            lambda i: _structure.spatial_frequency(i.fused),
            True,
            "root of the mean squared differences along rows plus along columns, grey levels",
        ),
        MetricEntry(
            "AG",
            lambda i: _structure.average_gradient(i.fused),
            True,
            "mean of sqrt((gx^2 + gy^2)/2), central differences, grey levels per pixel",
        ),
        MetricEntry(
            "EI",
            lambda i: _structure.edge_intensity(i.fused),
            True,
            "mean length of the Sobel response, border repeated, grey levels",
        ),
        MetricEntry(
            "GLD",
            lambda i: _structure.grey_level_difference(i.fused),
            True,
            "mean of the absolute differences to the right and lower neighbour, grey levels",
        ),
        MetricEntry(
            "MI",
            lambda i: i.mutual_information(base=2),
            True,
            "mutual information on grey levels, bits, sum over both sources",
        ),
        MetricEntry(
            "NMI",
            lambda i: sum(i.both(_information.normalised_mutual_information)),
            True,
            "2 I(F,S) / (H(F) + H(S)), sum over both sources, 0...2",
        ),
        MetricEntry(
            "CE",
            lambda i: sum(i.both(_information.cross_entropy, base=2)) / 2,
            False,
            "divergence of the sources' histograms from the fused one, bits, mean of both",
        ),
        MetricEntry(
            "CC",
            lambda i: sum(i.both(_intensity.correlation)) / 2,
            True,
            "correlation with the sources, mean of both, -1...1",
        ),
        MetricEntry(
            "SCD",
            lambda i: _intensity.difference_correlation(i.fused, i.ir, i.vi),
            True,
            "corr(F - vi, ir) + corr(F - ir, vi), -2...2",
        ),
        MetricEntry(
            "MSE",
            lambda i: i.mse(),
            False,
            "mean squared error, mean of both sources, squared grey levels",
        ),
        MetricEntry(
            "RMSE",
            lambda i: sum(e.sqrt() for e in i.both(_intensity.mean_squared_error)) / 2,
            False,
            "root mean squared error, mean of both sources, grey levels",
        ),
        MetricEntry("PSNR", lambda i: i.psnr(), True, "10 log10(255^2 / MSE), dB"),
        MetricEntry(
            "SSIM",
            lambda i: sum(i.both(_structure.gaussian_ssim)) / 2,
            True,
            "11x11 Gaussian window, data range 255, mean of both sources, -1...1",
        ),
        MetricEntry(
            "MS_SSIM",
            lambda i: sum(i.both(_structure.ms_ssim)) / 2,
            True,
            "five-scale SSIM, mean of both sources, 0...1",
        ),
        MetricEntry("VIF", lambda i: sum(i.vif()), True, "pixel-domain VIF, sum over both sources"),
        MetricEntry("VIF_ir", lambda i: i.vif()[0], True, "pixel-domain VIF, infrared source"),
        MetricEntry("VIF_vi", lambda i: i.vif()[1], True, "pixel-domain VIF, visible source"),
        MetricEntry(
            "VIFF",
            lambda i: _vif.viff(i.fused, i.ir, i.vi),
            True,
            "VIF for fusion (Han et al. 2013)",
        ),
        MetricEntry(
            "Qabf",
            lambda i: i.qabf(partial(sobel, border="replicate"), rule="authors"),
            True,
            "edge preservation, border repeated, angles modulo pi, 0...1",
        ),
        MetricEntry(
            "Nabf",
            lambda i: _edges.nabf(i.fused, i.ir, i.vi, slack=_edges.SLACK),
            False,
            "edges that no source has (Shreyamsha Kumar), 0...1",
        ),
        MetricEntry(
            "Qcv",
            lambda i: _perceptual.qcv(i.fused, i.ir, i.vi),
            False,
            "perceived squared error by salient block (Chen and Varshney), 0 and more",
        ),
        MetricEntry(
            "Qcb",
            lambda i: _perceptual.qcb(i.fused, i.ir, i.vi),
            True,
            "perceived local contrast that is kept (Chen and Blum), 0...1",
        ),
        MetricEntry(
            "FMI_pixel",
            lambda i: _fmi.fmi(i.fused, i.ir, i.vi, features="pixel"),
            True,
            "feature mutual information of 3x3 windows of pixels, 0...1",
        ),
        MetricEntry(
            "FMI_dct",
            lambda i: _fmi.fmi(i.fused, i.ir, i.vi, features="dct"),
            True,
            "the same of the discrete cosine transform of the whole image",
        ),
        MetricEntry(
            "FMI_wavelet",
            lambda i: _fmi.fmi(i.fused, i.ir, i.vi, features="wavelet"),
            True,
            "the same of one level of the Meyer wavelet",
        ),
    ),
)


# ------------------------------------------------------------------------------- cddfuse


CDDFUSE = Protocol(
    name="cddfuse",
    title="Python evaluator published with CDDFuse (Zhao et al., CVPR 2023); SMFNet's tables",
    grey_weights=_BT601_GREY,
    rounded=True,
    columns=("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM", "CC", "MSE", "PSNR"),
    metrics=_table(
        MetricEntry(
            "EN",
            lambda i: _information.entropy(i.fused, base=2),
            True,
            "entropy of the integer grey levels, bits, 0...8",
        ),
        MetricEntry(
            "SD",
            lambda i: _intensity.standard_deviation(i.fused),
            True,
            "standard deviation of the fused image, grey levels 0...255",
        ),
        MetricEntry(
            "SF",
            lambda i: _structure.spatial_frequency(i.fused),
            True,
            "root of the mean squared differences along rows plus along columns, grey levels",
        ),
        MetricEntry(
            "AG",
            lambda i: _structure.average_gradient(i.fused),
            True,
            "mean of sqrt((gx^2 + gy^2)/2), central differences, grey levels per pixel",
        ),
        MetricEntry(
            "AG_gradient_magnitude",
            lambda i: _structure.average_gradient(i.fused, halved=False),
            True,
            "AG without the 1/2 under the root, sqrt(2) times AG; SMFNet's table prints this one",
        ),
        MetricEntry(
            "MI",
            lambda i: i.mutual_information(base=math.e),
            True,
            "mutual information in nats on integer grey levels, sum over both sources",
        ),
        MetricEntry(
            "SCD",
            lambda i: _intensity.difference_correlation(i.fused, i.ir, i.vi),
            True,
            "corr(F - vi, ir) + corr(F - ir, vi), -2...2",
        ),
        MetricEntry(
            "VIF",
            lambda i: sum(i.vif()),
            True,
            "pixel-domain VIF, sum over both sources",
        ),
        MetricEntry(
            "Qabf",
            lambda i: i.qabf(partial(sobel, border="zero"), rule="public"),
            True,
            "edge preservation; zeros around the image, ratio of equal gradients is the gradient",
        ),
        MetricEntry(
            "SSIM",
            lambda i: sum(i.both(_structure.uniform_ssim, data_range=2.0)),
            True,
            "7x7 uniform-window SSIM with data_range 2 on 0...255 images, sum over both sources",
        ),
        MetricEntry(
            "CC",
            lambda i: sum(i.both(_intensity.correlation)) / 2,
            True,
            "correlation with the sources, mean of both, -1...1",
        ),
        MetricEntry(
            "MSE",
            lambda i: i.mse(),
            False,
            "mean squared error, mean of both sources, squared grey levels",
        ),
        MetricEntry(
            "PSNR",
            lambda i: i.psnr(i.fused.flatten(1).amax(1)),
            True,
            "10 log10(max(F)^2 / MSE), dB; the peak is the brightest pixel of the fused image",
        ),
    ),
)


# ---------------------------------------------------------------------------------- tang
# The published numbers come from code that computed on MATLAB uint8 arrays, where every result
# is rounded and cut to 0...255.

TANG = Protocol(
    name="tang",
    title="MATLAB evaluation of Linfeng-Tang/Image-Fusion in its uint8 state; CoCoNet's tables",
    grey_weights=_MATLAB_GREY,
    rounded=True,
    columns=("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "CC", "MSE", "PSNR"),
    metrics=_table(
        CDDFUSE.metrics["EN"],
        MetricEntry(
            "SD",
            lambda i: _intensity.saturated_standard_deviation(i.fused),
            True,
            "sqrt(mean(min(255, max(0, round(F - mean))^2))): uint8 cuts what is below the mean "
            "and every square above 255, so at most 16",
        ),
        MetricEntry(
            "SF",
            lambda i: _structure.spatial_frequency(i.fused) / 255,
            True,
            "spatial frequency of the image in 0...1",
        ),
        MetricEntry(
            "AG",
            lambda i: _structure.average_gradient(i.fused, inner_count=True),
            True,
            "sum of sqrt((gx^2 + gy^2)/2) over all pixels by (H-1)(W-1), grey levels per pixel",
        ),
        MetricEntry(
            "MI",
            lambda i: i.mutual_information(base=2, joint_top=254),
            True,
            "mutual information in bits, sum over both sources; levels 254 and 255 fall together "
            "in the joint histogram, because grey + 1 saturates",
        ),
        CDDFUSE.metrics["SCD"],
        MetricEntry(
            "VIF",
            lambda i: sum(i.vif(saturate_first=True)),
            True,
            "pixel-domain VIF, sum over both sources; products at the finest scale are cut to "
            "255, so that its variances drop out",
        ),
        MetricEntry(
            "Qabf",
            lambda i: i.qabf(sobel_in_matlab_order, rule="public"),
            True,
            "edge preservation of images in 0...1; zeros around the image, ratio of equal "
            "gradients is the gradient",
        ),
        CDDFUSE.metrics["CC"],
        MetricEntry(
            "MSE",
            lambda i: i.mse() / 255**2,
            False,
            "mean squared error of images in 0...1, mean of both sources",
        ),
        MetricEntry(
            "PSNR",
            lambda i: i.psnr(255.0**2),
            True,
            "20 log10(255 / sqrt(MSE)) with the MSE of images in 0...1: 48.13 dB too high",
        ),
        MetricEntry(
            "MS_SSIM",
            lambda i: _structure.mef_ms_ssim(i.fused, i.ir, i.vi),
            True,
            "three-scale similarity to the patch wanted from both sources (MEF-SSIM)",
            verified=False,
        ),
        MetricEntry(
            "Nabf",
            lambda i: _edges.nabf(i.fused, i.ir, i.vi, unit=True),
            False,
            "added edges of images in 0...1, where no gradient reaches the threshold of 2, so "
            "that all pixels weigh the same",
            verified=False,
        ),
        MetricEntry(
            "FMI_pixel",
            lambda i: _fmi.fmi(i.fused, i.ir, i.vi, features="edge"),
            True,
            "feature mutual information of binary Sobel edges, which is what that code computes "
            "under this name",
            verified=False,
        ),
        MetricEntry(
            "FMI_dct",
            lambda i: _fmi.fmi(i.fused, i.ir, i.vi, features="dct"),
            True,
            "feature mutual information of the discrete cosine transform of the whole image",
            verified=False,
        ),
        MetricEntry(
            "FMI_wavelet",
            lambda i: _fmi.fmi(i.fused, i.ir, i.vi, features="wavelet"),
            True,
            "feature mutual information of one level of the Meyer wavelet",
            verified=False,
        ),
    ),
)


# ---------------------------------------------------------------------------------- vifb


def _error_norm(i: Images) -> Tensor:
    """Euclidean norm of the error over the number of pixels, mean of both sources."""
    pixels = i.fused.shape[-1] * i.fused.shape[-2]
    return sum((e / pixels).sqrt() for e in i.both(_intensity.mean_squared_error)) / 2


def _side_by_side_sf(i: Images) -> Tensor:
    """Spatial frequency of the channels laid side by side, one value per channel."""
    count, _, height, width = i.fused.shape
    channels = i.fused.view(-1, i.channels, height, width).transpose(1, 2)
    wide = channels.reshape(count // i.channels, 1, height, i.channels * width)
    values = _structure.spatial_frequency(wide, over_all_pixels=True)
    return values.repeat_interleave(i.channels)


def _of_stretched(kernel: Callable[..., Tensor], **options: Any) -> Callable[[Images], Tensor]:
    def values(i: Images) -> Tensor:
        spread = i.stretched()
        return kernel(spread.fused, spread.ir, spread.vi, **options)

    return values


VIFB = Protocol(
    name="vifb",
    title="MATLAB benchmark VIFB (Zhang, Ye, Xiao, CVPR workshops 2020); channel by channel",
    grey_weights=None,
    rounded=True,
    columns=(
        "CE",
        "EN",
        "MI",
        "PSNR",
        "AG",
        "EI",
        "Qabf",
        "SD",
        "SF",
        "RMSE",
        "SSIM",
        "Qcb",
        "Qcv",
    ),
    metrics=_table(
        MetricEntry(
            "CE",
            lambda i: sum(i.both(_information.cross_entropy, base=2)) / 2,
            False,
            "divergence of the sources' histograms from the fused one, bits, mean of both",
        ),
        CDDFUSE.metrics["EN"],
        MetricEntry(
            "MI",
            lambda i: i.stretched().mutual_information(base=math.e),
            True,
            "mutual information in nats of images stretched to 0...255, sum over both sources",
        ),
        MetricEntry(
            "PSNR",
            lambda i: 20 * torch.log10(255 / _error_norm(i).sqrt()),
            True,
            "20 log10(255 / sqrt(RMSE)) with this protocol's RMSE: depends on the image size",
        ),
        TANG.metrics["AG"],
        MetricEntry(
            "EI",
            lambda i: _structure.edge_intensity(i.fused),
            True,
            "mean length of the Sobel response, border repeated, grey levels",
        ),
        CDDFUSE.metrics["Qabf"],
        CDDFUSE.metrics["SD"],
        MetricEntry(
            "SF",
            _side_by_side_sf,
            True,
            "spatial frequency of the channels laid side by side, grey levels",
        ),
        MetricEntry(
            "RMSE",
            _error_norm,
            False,
            "sqrt(sum of squared errors) / (H W) in grey levels, mean of both sources: the root "
            "mean squared error over sqrt(H W)",
        ),
        MetricEntry(
            "SSIM",
            lambda i: sum(i.both(_structure.gaussian_ssim)),
            True,
            "11x11 Gaussian window, data range 255, sum over both sources, -2...2",
        ),
        MetricEntry(
            "Qcb",
            _of_stretched(_perceptual.qcb, border="zero"),
            True,
            "perceived local contrast that is kept, of images stretched to 0...255",
        ),
        MetricEntry(
            "Qcv",
            _of_stretched(_perceptual.qcv, border="zero", pad_blocks=True),
            False,
            "perceived squared error by salient block, of images stretched to 0...255",
        ),
    ),
)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {p.name: p for p in (ZOO, CDDFUSE, TANG, VIFB)}
)


def get_protocol(name: str) -> Protocol:
    """Protocol of this name (any case); ValueError with the closest names for an unknown one."""
    protocol = PROTOCOLS.get(str(name).lower())
    if protocol is None:
        raise unknown_name("protocol", name, tuple(PROTOCOLS))
    return protocol
