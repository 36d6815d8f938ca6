"""Fusion metrics with named definitions.

    from fusionzoo.metrics import FusionMetrics, per_image

    metrics = FusionMetrics("cddfuse")
    metrics.update(fused, ir, vi)
    metrics.compute()                                         # {"EN": tensor(6.95), ...}

    per_image("cddfuse", ["VIF", "Qabf"], fused, ir, vi)      # {"VIF": (B,), "Qabf": (B,)}

One function per metric is in ``fusionzoo.metrics.functional``; what a protocol is and which
artefacts the public ones carry is told in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from fusionzoo.errors import InputError
from fusionzoo.metrics.protocols import PROTOCOLS, MetricEntry, Protocol, get_protocol

__all__ = [
    "FusionMetric",
    "FusionMetrics",
    "MetricEntry",
    "Protocol",
    "get_protocol",
    "list_metrics",
    "list_protocols",
    "per_image",
]


def list_protocols() -> list[str]:
    """Names of the protocols, the package's own first."""
    return list(PROTOCOLS)


def list_metrics(protocol: str = "zoo", *, columns_only: bool = False) -> list[str]:
    """Names of all metrics that a protocol offers, or of those measured when none are named.

    Raises:
        InputError: unknown protocol.
    """
    table = get_protocol(protocol)
    return list(table.columns if columns_only else table.metrics)


def per_image(
    protocol: str,
    metrics: Sequence[str] | None,
    fused: Tensor,
    ir: Tensor,
    vi: Tensor,
) -> dict[str, Tensor]:
    """Measure every image of a batch by itself.

    Args:
        protocol: name of a protocol, see ``list_protocols()``.
        metrics: names of its metrics in any case, None for its usual columns.
        fused: (H,W), (B,H,W) or (B,C,H,W) with C 1 or 3, floats in [0, 1] or uint8.
        ir: infrared image of that size and on that device.
        vi: visible image of that size and on that device.

    Returns:
        {metric name: (B,)}, in the order asked for, float64 (float32 on devices without it).

    Raises:
        InputError: unknown names, images that do not fit together, NaN, values out of range.
    """
    table = get_protocol(protocol)
    entries = table.select(metrics)
    return table.measure(table.prepare(fused, ir, vi), entries)


class FusionMetric(Metric):
    """Mean of one metric of one protocol over all images seen.

    Keeps two sums, so results of several processes are added (DDP) and batches may differ in
    size.

    Args:
        name: metric of the protocol, any case.
        protocol: name of the protocol.
    """

    is_differentiable = False
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self, name: str, protocol: str = "zoo", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Names only: a table entry holds functions and would not pickle.
        self.protocol = get_protocol(protocol).name
        self.metric = get_protocol(protocol).select(name)[0].name
        self.add_state("total", default=torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @property
    def entry(self) -> MetricEntry:
        """Definition of this metric."""
        return get_protocol(self.protocol).metrics[self.metric]

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Direction of improvement."""
        return self.entry.higher_is_better

    def update(
        self,
        fused: Tensor | None = None,
        ir: Tensor | None = None,
        vi: Tensor | None = None,
        *,
        values: Tensor | None = None,
    ) -> None:
        """Add the images of a batch; layouts and errors as in ``per_image``.

        ``values``, (B,), adds what was measured already, in place of the images.
        """
        if values is None:
            if fused is None or ir is None or vi is None:
                raise InputError("update needs fused, ir and vi, or values")
            values = per_image(self.protocol, [self.metric], fused, ir, vi)[self.metric]
        self.total += values.detach().sum().to(self.total)
        self.count += values.numel()

    def compute(self) -> Tensor:
        """Mean over all images, a scalar."""
        return self.total / self.count


class FusionMetrics(MetricCollection):
    """Means of the metrics of one protocol; ``update(fused, ir, vi)``, ``compute()``, ``reset()``.

    A batch is checked and brought to grey levels once for all metrics, and what they share (edge
    maps, errors) is computed once.

    Args:
        protocol: name of the protocol.
        metrics: names of its metrics in any case, None for its usual columns.
        prefix, postfix: put before and after each name in the result.

    Raises:
        InputError: unknown protocol or metric.
    """

    def __init__(
        self,
        protocol: str = "zoo",
        metrics: Sequence[str] | None = None,
        *,
        prefix: str | None = None,
        postfix: str | None = None,
    ) -> None:
        table = get_protocol(protocol)
        super().__init__(
            {entry.name: FusionMetric(entry.name, table.name) for entry in table.select(metrics)},
            prefix=prefix,
            postfix=postfix,
            # The metrics never share a state; looking for groups would cost a comparison of all.
            compute_groups=False,
        )
        self.protocol = table.name
        self._order = tuple(entry.name for entry in table.select(metrics))

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Direction of improvement of each metric."""
        return {name: metric.higher_is_better for name, metric in self._in_order()}

    def _in_order(self) -> list[tuple[str, FusionMetric]]:
        # MetricCollection sorts by name; tables want the order of the protocol or the caller.
        metrics = [(name, one) for name, one in self.items() if isinstance(one, FusionMetric)]
        return sorted(metrics, key=lambda item: self._order.index(item[1].metric))

    def _measure(self, fused: Tensor, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        return per_image(self.protocol, self._order, fused, ir, vi)

    def _add(self, values: dict[str, Tensor]) -> None:
        for _, metric in self._in_order():
            metric.update(values=values[metric.metric])

    @torch.no_grad()
    def update(self, fused: Tensor, ir: Tensor, vi: Tensor) -> None:  # type: ignore[override]
        """Add the images of a batch; layouts and errors as in ``per_image``."""
        self._add(self._measure(fused, ir, vi))

    @torch.no_grad()
    def forward(self, fused: Tensor, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Add a batch and give the means over this batch alone."""
        values = self._measure(fused, ir, vi)
        self._add(values)
        return {name: values[metric.metric].mean() for name, metric in self._in_order()}

    def compute(self) -> dict[str, Tensor]:
        """Mean of every metric over all images, in the order asked for."""
        return {name: metric.compute() for name, metric in self._in_order()}
