"""How fast the metrics of a protocol are measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from fusionzoo.benchmark.child import ask_child
from fusionzoo.benchmark.speed import _MB, _peak_memory, _processor

# The child gets its import path along with the question: it measures the same package as this one.
_CHILD = (
    "import json, sys; question = json.load(sys.stdin); sys.path[:] = question.pop('path'); "
    "from fusionzoo.benchmark.metric_speed import _measure_here; "
    "print(json.dumps(_measure_here(**question)))"
)


def measure_metrics(
    protocol: str = "cddfuse",
    metrics: Sequence[str] | None = None,
    *,
    size: tuple[int, int] = (640, 480),
    runs: int = 5,
    threads: int | None = None,
    device: str = "cpu",
    batch_size: int = 1,
) -> dict[str, Any]:
    """Time the metrics of a protocol on 8-bit grey pairs, in a fresh Python process.

    One call comes first that does not count. The images are smooth noise, and always the same.

    Args:
        protocol: its name.
        metrics: names; None takes the protocol's usual ones.
        size: width and height in pixels.
        runs: timed calls, at least 1.
        threads: of the CPU (``OMP_NUM_THREADS``); by default what torch takes.
        device: ``cpu``, ``cuda``, ``mps``, …
        batch_size: pairs in one call.

    Returns:
        What was asked for, with the keys of :func:`fusionzoo.benchmark.measure_fusing` as far as
        they have a meaning here; ``values`` are those of the first pair.

    Raises:
        ValueError: an argument out of range.
        RuntimeError: the process failed; its error is part of the message.
    """
    if min(*size, runs, batch_size, threads or 1) < 1:
        raise ValueError("size, runs, threads and batch_size are at least 1")
    question = {
        "protocol": protocol,
        "metrics": None if metrics is None else list(metrics),
        "size": list(size),
        "runs": runs,
        "device": device,
        "batch_size": batch_size,
    }
    return ask_child(_CHILD, question, threads, "measures")


def _measure_here(
    protocol: str,
    metrics: list[str] | None,
    size: list[int],
    runs: int,
    device: str,
    batch_size: int,
) -> dict[str, Any]:
    """Measure in this process, which does nothing else."""
    import torch

    from fusionzoo import __version__
    from fusionzoo.metrics import get_protocol, per_image

    names = [entry.name for entry in get_protocol(protocol).select(metrics)]
    width, height = size
    images = [image.to(device) for image in _pictures(batch_size, height, width)]

    def measure() -> tuple[float, dict[str, float]]:
        start = time.perf_counter()
        values = per_image(protocol, names, *images)
        # The values are on the CPU, so a GPU has finished when this returns.
        first = {name: float(value[0]) for name, value in values.items()}
        return time.perf_counter() - start, first

    loaded = _peak_memory()
    first, values = measure()
    seconds = [measure()[0] for _ in range(runs)]
    median = statistics.median(seconds)
    on_cuda = torch.device(device).type == "cuda"
    return {
        "protocol": protocol,
        "metrics": names,
        "width": width,
        "height": height,
        "batch_size": batch_size,
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else _processor(),
        "threads": torch.get_num_threads(),
        "runs": runs,
        "seconds_median": median,
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "seconds_first": first,
        "megapixels_per_second": width * height * batch_size / median / 1e6,
        "memory_loaded_mb": loaded,
        "memory_peak_mb": _peak_memory(),
        "cuda_memory_peak_mb": torch.cuda.max_memory_allocated(device) / _MB if on_cuda else None,
        "values": values,
        "fusionzoo": __version__,
        "torch": torch.__version__,
    }


def _pictures(count: int, height: int, width: int) -> list[Any]:
    """Fused, infrared and visible: uint8 ``(count, 1, height, width)``, alike as real ones are."""
    import torch

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(
        (3 * count, 1, max(2, height // 8), max(2, width // 8)), generator=generator
    )
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    ir, vi, noise = smooth.split(count)
    fused = 0.45 * ir + 0.45 * vi + 0.1 * noise
    return [(image * 255).round().to(torch.uint8) for image in (fused, ir, vi)]
