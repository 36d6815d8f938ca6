"""How fast a model fuses, how fast metrics are measured, and how much memory that takes.

What is measured runs in a fresh Python process, so that nothing else of this one counts; neither
torch nor numpy is imported in this one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fusionzoo.errors import InputError, check_choice
from fusionzoo.processes import ask, resident_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fusionzoo.module import FusionModule
    from fusionzoo.network import FusionNetwork

__all__ = ["measure_fusing", "measure_metrics"]

_MB = 1e6
_DTYPES = ("float32", "bfloat16", "float16")


def measure_fusing(
    model: str = "didfuse",
    *,
    size: tuple[int, int] = (640, 480),
    options: Mapping[str, Any] | None = None,
    untrained: bool = False,
    runs: int = 5,
    threads: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 1,
    plain: bool = False,
    tile: int | str = "auto",
    memory: float | None = None,
) -> dict[str, Any]:
    """Time ``model.fuse`` on random 8-bit grey pairs, in a fresh Python process.

    One call comes first that does not count. Random images cost what real ones do, and every
    call has the same ones.

    Args:
        model: name, folder or checkpoint, as for :func:`fusionzoo.load`.
        size: width and height in pixels.
        options: model options in place of the stored ones.
        untrained: take fresh weights; ``model`` is a name then.
        runs: timed calls; with 0, the first call is the one that counts.
        threads: of the CPU (``OMP_NUM_THREADS``); by default what torch takes.
        device: ``cpu``, ``cuda``, ``mps``, …
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        batch_size: pairs in one call, fused together.
        plain: run the network as it is trained, without what ``for_inference`` makes faster: the
            baseline of that.
        tile, memory: see :meth:`fusionzoo.module.FusionModule.fuse`.

    Returns:
        What was asked for, and ``seconds_median``, ``seconds_min``, ``seconds_max`` of a call;
        ``seconds_first``, the call that does not count; ``seconds_processor``, the time of the
        CPU for one call, which what else the machine does changes little;
        ``megapixels_per_second``; ``memory_peak_mb``, the largest resident memory of the process
        (10^6 bytes), ``memory_loaded_mb``, that before the first call, and ``memory_extra_mb``,
        what the calls took at most beyond the model and the images (Linux); on CUDA also
        ``cuda_memory_peak_mb``, what torch had allocated there. A memory that the system does not
        tell is None. ``checksum``: mean and standard deviation of the first result, 0 … 255.

    Raises:
        InputError: an argument out of range.
        ResultError: the process failed; its error is part of the message.
    """
    check_choice("dtype", dtype, _DTYPES)
    question = {
        "model": str(model),
        "options": dict(options or {}),
        "untrained": untrained,
        "dtype": dtype,
        "plain": plain,
        "tile": tile,
        "memory": memory,
    }
    how = {"size": size, "runs": runs, "device": device, "batch_size": batch_size}
    result: dict[str, Any] = _ask("_fuse_here", {**question, **how}, threads)
    return result


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
        runs: timed calls; with 0, the first call is the one that counts.
        threads: of the CPU (``OMP_NUM_THREADS``); by default what torch takes.
        device: ``cpu``, ``cuda``, ``mps``, …
        batch_size: pairs in one call.

    Returns:
        What was asked for, with the keys of :func:`measure_fusing` as far as they have a meaning
        here; ``values`` are those of the first pair.

    Raises:
        InputError: an argument out of range.
        ResultError: the process failed; its error is part of the message.
    """
    question = {"protocol": protocol, "metrics": None if metrics is None else list(metrics)}
    how = {"size": size, "runs": runs, "device": device, "batch_size": batch_size}
    result: dict[str, Any] = _ask("_metrics_here", {**question, **how}, threads)
    return result


def _ask(function: str, question: Mapping[str, Any], threads: int | None) -> Any:
    """Call a function of this file in a new process, with plain values."""
    if min(*question["size"], question["batch_size"], threads or 1) < 1:
        raise InputError("size, threads and batch_size are at least 1")
    if question["runs"] < 0:
        raise InputError(f"runs={question['runs']}; use 0 or more")
    return ask(
        __name__, function, question, failure="the process that is measured failed", threads=threads
    )


# In the fresh process, which does nothing else ----------------------------------------------------


def _fuse_here(
    model: str,
    options: dict[str, Any],
    untrained: bool,
    dtype: str,
    plain: bool,
    tile: int | str,
    memory: float | None,
    size: Sequence[int],
    runs: int,
    device: str,
    batch_size: int,
) -> dict[str, Any]:
    import numpy as np
    import torch

    from fusionzoo import zoo

    make = zoo.create_model if untrained else zoo.load
    module = make(model, **options).eval().to(device)
    fuse_pairs = _plain_fuse(module, device, getattr(torch, dtype)) if plain else module.fuse
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (2, batch_size, height, width), np.uint8)
    irs, vis = list(pixels[0]), list(pixels[1])
    how = {"dtype": getattr(torch, dtype), "batch_size": batch_size, "tile": tile, "memory": memory}

    # The results are on the CPU, so a GPU has finished when this returns.
    def fuse() -> Any:
        return fuse_pairs(irs, vis, **how)[0]

    fused, times = _timed(fuse, size, runs, device, batch_size)
    return {
        "model": model,
        "options": options,
        "untrained": untrained,
        "dtype": dtype,
        "plain": plain,
        "tile": tile,
        "memory": memory,
        **times,
        "checksum": [float(fused.mean()), float(fused.std())],
    }


def _metrics_here(
    protocol: str,
    metrics: list[str] | None,
    size: Sequence[int],
    runs: int,
    device: str,
    batch_size: int,
) -> dict[str, Any]:
    from fusionzoo.metrics import get_protocol, per_image

    names = [entry.name for entry in get_protocol(protocol).select(metrics)]
    width, height = size
    images = [image.to(device) for image in _pictures(batch_size, height, width)]

    # The values are on the CPU, so a GPU has finished when this returns.
    def measure() -> dict[str, float]:
        values = per_image(protocol, names, *images)
        return {name: float(value[0]) for name, value in values.items()}

    values, times = _timed(measure, size, runs, device, batch_size)
    return {"protocol": protocol, "metrics": names, **times, "values": values}


def _timed(
    call: Callable[[], Any], size: Sequence[int], runs: int, device: str, batch_size: int
) -> tuple[Any, dict[str, Any]]:
    """What the first call gives, and the times and memory of all."""
    import torch

    from fusionzoo import __version__

    def seconds() -> tuple[float, Any]:
        start = time.perf_counter()
        result = call()
        return time.perf_counter() - start, result

    loaded, before = _peak_memory(), resident_memory(peak=False)
    processor = time.process_time()
    first, result = seconds()
    if runs:
        processor = time.process_time()
    others = [seconds()[0] for _ in range(runs)] or [first]
    processor = (time.process_time() - processor) / len(others)
    peak = _peak_memory()
    median = statistics.median(others)
    width, height = size
    on_cuda = torch.device(device).type == "cuda"
    return result, {
        "width": width,
        "height": height,
        "batch_size": batch_size,
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else _processor(),
        "threads": torch.get_num_threads(),
        "runs": runs,
        "seconds_median": median,
        "seconds_min": min(others),
        "seconds_max": max(others),
        "seconds_first": first,
        "seconds_processor": processor,
        "megapixels_per_second": width * height * batch_size / median / 1e6,
        "memory_loaded_mb": loaded,
        "memory_peak_mb": peak,
        "memory_extra_mb": None if peak is None or before is None else peak - before / _MB,
        "cuda_memory_peak_mb": torch.cuda.max_memory_allocated(device) / _MB if on_cuda else None,
        "fusionzoo": __version__,
        "torch": torch.__version__,
    }


def _plain_fuse(module: FusionModule, device: str, dtype: torch.dtype) -> Callable[..., Any]:
    """``module.fuse`` with the network as it is trained."""
    from fusionzoo.inference import fuse_images

    declared = cast("type[FusionNetwork]", type(module.network))
    return partial(
        fuse_images,
        module.network.to(dtype),
        device=device,
        size_multiple=declared.size_multiple,
        min_size=declared.min_size,
        value_range=declared.value_range,
    )


def _pictures(count: int, height: int, width: int) -> list[Tensor]:
    """Fused, infrared and visible: uint8 ``(count, 1, height, width)``, alike as real ones are."""
    import torch

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(
        (3 * count, 1, max(2, height // 8), max(2, width // 8)), generator=generator
    )
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    ir, vi, noise = torch.split(smooth, count)
    fused = 0.45 * ir + 0.45 * vi + 0.1 * noise
    return [(image * 255).round().to(torch.uint8) for image in (fused, ir, vi)]


def _peak_memory() -> float | None:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    peak = resident_memory()
    return None if peak is None else peak / _MB


def _processor() -> str:
    import platform

    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
