"""Evaluation protocols: which definition of each metric a published table used.

A protocol is a table. It names how images are brought to grey levels, and for every metric the
kernel with its constants and the way in which both sources are combined. ``zoo`` holds the
definitions of this package; the others reproduce public evaluation codes with their artefacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fusionzoo.metrics import _edges, _information, _intensity, _structure, _vif
from fusionzoo.metrics._inputs import ROLES, as_batch, check_images, to_levels, unknown_name

_OPENCV_GREY = (0.299, 0.587, 0.114)


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

    def vif(self, **options: Any) -> list[Tensor]:
        """Fidelity to the infrared and to the visible source."""
        key = ("vif", *options.items())
        return self.once(key, lambda: _vif.vif(self.fused, (self.ir, self.vi), **options))

    def edges(self, border: str, scale: float = 1.0) -> tuple[_edges.EdgeMap, ...]:
        """Edge maps of fused, ir and vi."""
        images = (self.fused, self.ir, self.vi)
        return self.once(
            ("edges", border, scale),
            lambda: tuple(_edges.edge_map(i * scale if scale != 1 else i, border) for i in images),
        )


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
        levels = [to_levels(batch) for batch in batches]
        if self.rounded:
            levels = [level.round() for level in levels]
        if self.grey_weights is not None or levels[0].shape[1] == 1:
            weights = self.grey_weights or _OPENCV_GREY
            levels = [self._grey(level, weights) for level in levels]
        dtype = levels[0].dtype
        for level in levels[1:]:
            dtype = torch.promote_types(dtype, level.dtype)
        return Images(*(level.to(dtype).expand_as(levels[0]) for level in levels))

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


# ------------------------------------------------------------------------------- cddfuse


def _peak_psnr(i: Images) -> Tensor:
    peak = i.fused.flatten(1).amax(1)
    return 10 * torch.log10(peak.square() / i.mse())


CDDFUSE = Protocol(
    name="cddfuse",
    title="Python evaluator published with CDDFuse (Zhao et al., CVPR 2023); SMFNet's tables",
    grey_weights=_OPENCV_GREY,
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
            lambda i: sum(m[0] for m in i.both(_information.mutual_information, base=torch.e)),
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
            lambda i: _edges.qabf(*i.edges("zero"), equal="gradient"),
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
            _peak_psnr,
            True,
            "10 log10(max(F)^2 / MSE), dB; the peak is the brightest pixel of the fused image",
        ),
    ),
)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({p.name: p for p in (CDDFUSE,)})


def get_protocol(name: str) -> Protocol:
    """Protocol of this name (any case); ValueError with the closest names for an unknown one."""
    protocol = PROTOCOLS.get(str(name).lower())
    if protocol is None:
        raise unknown_name("protocol", name, tuple(PROTOCOLS))
    return protocol
