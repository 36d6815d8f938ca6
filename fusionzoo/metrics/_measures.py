"""What can be measured of a batch: one kernel for each quantity, and what the kernel is given.

The functions of functional.py and the tables of protocols.py are these, with options of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fusionzoo.metrics import _edges, _fmi, _information, _intensity, _perceptual, _structure, _vif

Combine = Literal["sum", "mean", "ir", "vi"]
#: What a kernel is given: the fused image; the fused image and one source, for each source; the
#: fused image and a tuple of the sources; fused, ir and vi; the Images.
Takes = Literal["fused", "each", "sources", "all", "batch"]


class Images:
    """One batch of grey levels, with what several metrics share computed once.

    Attributes:
        fused: ``(N, 1, H, W)``, 0...255; N is B, or B*C where channels are measured one by one.
        sources: infrared and visible of that shape, or the one of them that is asked for.
        channels: C, the number of consecutive entries of N that belong to one image.
    """

    def __init__(self, fused: Tensor, sources: Sequence[Tensor] = (), channels: int = 1) -> None:
        self.fused, self.sources, self.channels = fused, tuple(sources), channels
        self._by_source: dict[Any, Sequence[Tensor]] = {}
        self._stretched: Images | None = None

    def by_source(self, measure: Measure) -> Sequence[Tensor]:
        """One value of each source, ``(N,)``, kept for the other metrics that want it."""
        key = (measure.kernel, *sorted(measure.options.items()))
        if key not in self._by_source:
            kernel, options = measure.kernel, measure.options
            self._by_source[key] = (
                kernel(self.fused, self.sources, **options)
                if measure.takes == "sources"
                else [kernel(self.fused, source, **options) for source in self.sources]
            )
        return self._by_source[key]

    def stretched(self) -> Images:
        """The same batch with each image spread over 0...255 and rounded."""
        if self._stretched is None:
            fused, *sources = (_perceptual.stretched(i) for i in (self.fused, *self.sources))
            self._stretched = Images(fused, sources, self.channels)
        return self._stretched


@dataclass(frozen=True)
class Measure:
    """A kernel and how it is used.

    Attributes:
        kernel: from grey levels ``(N, 1, H, W)`` to values ``(N,)``.
        takes: what the kernel is given.
        combine: what becomes of the values of both sources, where there is one of each.
        higher_is_better: direction of improvement.
        exact: whether levels are wanted in float64, since nearly equal numbers are compared.
        stretched: whether images are spread over 0...255 first.
        divisor: what the values are divided by.
        options: of the kernel.
    """

    kernel: Callable[..., Any]
    takes: Takes
    combine: Combine = "mean"
    higher_is_better: bool = True
    exact: bool = False
    stretched: bool = False
    divisor: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def use(
        self,
        combine: Combine | None = None,
        *,
        stretched: bool = False,
        divisor: float = 1.0,
        **options: Any,
    ) -> Measure:
        """The same with options of the kernel, and with another use of its values."""
        combine = combine or self.combine
        return replace(self, combine=combine, stretched=stretched, divisor=divisor, options=options)

    def __call__(self, images: Images) -> Tensor:
        """Values of a batch, ``(N,)``."""
        if self.stretched:
            images = images.stretched()
        values: Tensor
        if self.takes == "fused":
            values = self.kernel(images.fused, **self.options)
        elif self.takes == "all":
            values = self.kernel(images.fused, *images.sources, **self.options)
        elif self.takes == "batch":
            values = self.kernel(images, **self.options)
        else:
            values = self._combined(images.by_source(self))
        return values / self.divisor

    def _combined(self, values: Sequence[Tensor]) -> Tensor:
        if self.combine in ("ir", "vi"):
            return values[0 if self.combine == "ir" else -1]
        total = values[0] + values[1]
        return total / 2 if self.combine == "mean" else total


def _psnr(images: Images, *, peak: float | None = 255.0) -> Tensor:
    """10 log10(peak^2 / MSE) in dB; without ``peak`` that of the fused image's brightest pixel."""
    highest = images.fused.flatten(1).amax(1) if peak is None else peak
    return 10 * torch.log10(highest**2 / MSE(images))


def _error_norm(images: Images) -> Tensor:
    """Euclidean norm of the error over the number of pixels, mean of both sources."""
    pixels = images.fused.shape[-1] * images.fused.shape[-2]
    ir, vi = ((error / pixels).sqrt() for error in images.by_source(MSE))
    return (ir + vi) / 2


def _psnr_of_error_norm(images: Images) -> Tensor:
    return 20 * torch.log10(255 / _error_norm(images).sqrt())


def _side_by_side_spatial_frequency(images: Images) -> Tensor:
    """Spatial frequency of the channels laid side by side, one value per channel."""
    count, _, height, width = images.fused.shape
    channels = images.fused.view(-1, images.channels, height, width).transpose(1, 2)
    wide = channels.reshape(count // images.channels, 1, height, images.channels * width)
    values = _structure.spatial_frequency(wide, over_all_pixels=True)
    return values.repeat_interleave(images.channels)


# The field's names. Of the fused image alone:
EN = Measure(_information.entropy, "fused")
SD = Measure(_intensity.standard_deviation, "fused")
SATURATED_SD = Measure(_intensity.saturated_standard_deviation, "fused")
SF = Measure(_structure.spatial_frequency, "fused")
SIDE_BY_SIDE_SF = Measure(_side_by_side_spatial_frequency, "batch")
AG = Measure(_structure.average_gradient, "fused")
EI = Measure(_structure.edge_intensity, "fused")
GLD = Measure(_structure.grey_level_difference, "fused")
# Of the fused image and its sources:
MI = Measure(_information.mutual_information, "each", "sum")
NMI = Measure(_information.normalised_mutual_information, "each", "sum")
CE = Measure(_information.cross_entropy, "each", higher_is_better=False)
FMI = Measure(_fmi.fmi, "all")
MSE = Measure(_intensity.mean_squared_error, "each", higher_is_better=False)
RMSE = Measure(_intensity.root_mean_squared_error, "each", higher_is_better=False)
PSNR = Measure(_psnr, "batch")
ERROR_NORM = Measure(_error_norm, "batch", higher_is_better=False)
PSNR_OF_ERROR_NORM = Measure(_psnr_of_error_norm, "batch")
CC = Measure(_intensity.correlation, "each")
SCD = Measure(_intensity.difference_correlation, "all")
SSIM = Measure(_structure.gaussian_ssim, "each")
UNIFORM_SSIM = Measure(_structure.uniform_ssim, "each")
MS_SSIM = Measure(_structure.ms_ssim, "each")
MEF_MS_SSIM = Measure(_structure.mef_ms_ssim, "all")
VIF = Measure(_vif.vif, "sources", "sum", exact=True)
VIFF = Measure(_vif.viff, "all", exact=True)
QABF = Measure(_edges.edge_transfer, "all", exact=True)
NABF = Measure(_edges.nabf, "all", exact=True, higher_is_better=False)
QCV = Measure(_perceptual.qcv, "all", exact=True, higher_is_better=False)
QCB = Measure(_perceptual.qcb, "all", exact=True)
