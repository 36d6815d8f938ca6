"""How fast a model fuses, and how much memory it takes."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo.benchmark.child import ask_child

if TYPE_CHECKING:
    import torch

    from fusionzoo.module import FusionModule

__all__ = ["measure_fusing"]

# The child gets its import path along with the question: it measures the same package as this one.
_CHILD = (
    "import json, sys; question = json.load(sys.stdin); sys.path[:] = question.pop('path'); "
    "from fusionzoo.benchmark.speed import _measure_here; "
    "print(json.dumps(_measure_here(**question)))"
)
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
) -> dict[str, Any]:
    """Time ``model.fuse`` on random 8-bit grey pairs, in a fresh Python process.

    One call comes first that does not count. Random images cost what real ones do, and every
    call has the same ones.

    Args:
        model: name, folder or checkpoint, as for :func:`fusionzoo.load`.
        size: width and height in pixels.
        options: model options in place of the stored ones.
        untrained: take fresh weights; ``model`` is a name then.
        runs: timed calls, at least 1.
        threads: of the CPU (``OMP_NUM_THREADS``); by default what torch takes.
        device: ``cpu``, ``cuda``, ``mps``, …
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        batch_size: pairs in one call, fused together.
        plain: run the network as it is trained, without what ``for_inference`` makes faster: the
            baseline of that.

    Returns:
        What was asked for, and ``seconds_median``, ``seconds_min``, ``seconds_max`` of a call;
        ``seconds_first``, the call that does not count; ``megapixels_per_second``;
        ``memory_peak_mb``, the largest resident memory of the process (10^6 bytes), and
        ``memory_loaded_mb``, that before the first call; on CUDA also ``cuda_memory_peak_mb``,
        what torch had allocated there. A memory that the system does not tell is None.
        ``checksum``: mean and standard deviation of the first result, 0 … 255.

    Raises:
        ValueError: an argument out of range.
        RuntimeError: the process failed; its error is part of the message.
    """
    if min(*size, runs, batch_size, threads or 1) < 1:
        raise ValueError("size, runs, threads and batch_size are at least 1")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype={dtype!r}; use one of {', '.join(_DTYPES)}")
    question = {
        "model": str(model),
        "size": list(size),
        "options": dict(options or {}),
        "untrained": untrained,
        "runs": runs,
        "device": device,
        "dtype": dtype,
        "batch_size": batch_size,
        "plain": plain,
    }
    return ask_child(_CHILD, question, threads, "fuses")


def _measure_here(
    model: str,
    size: list[int],
    options: dict[str, Any],
    untrained: bool,
    runs: int,
    device: str,
    dtype: str,
    batch_size: int,
    plain: bool,
) -> dict[str, Any]:
    """Measure in this process, which does nothing else."""
    import numpy as np
    import torch

    from fusionzoo import __version__, zoo

    make = zoo.create_model if untrained else zoo.load
    module = make(model, **options).eval().to(device)
    fuse_pairs = _plain_fuse(module, device, getattr(torch, dtype)) if plain else module.fuse
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (2, batch_size, height, width), np.uint8)
    irs, vis = list(pixels[0]), list(pixels[1])

    def fuse() -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        # The results are on the CPU, so a GPU has finished when this returns.
        fused = fuse_pairs(irs, vis, dtype=getattr(torch, dtype), batch_size=batch_size)
        return time.perf_counter() - start, fused[0]

    loaded = _peak_memory()
    first, fused = fuse()
    seconds = [fuse()[0] for _ in range(runs)]
    median = statistics.median(seconds)
    on_cuda = torch.device(device).type == "cuda"
    return {
        "model": model,
        "options": options,
        "untrained": untrained,
        "plain": plain,
        "width": width,
        "height": height,
        "batch_size": batch_size,
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else _processor(),
        "dtype": dtype,
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
        "checksum": [float(fused.mean()), float(fused.std())],
        "fusionzoo": __version__,
        "torch": torch.__version__,
    }


def _plain_fuse(module: FusionModule, device: str, dtype: torch.dtype) -> Callable[..., Any]:
    """``module.fuse`` with the network as it is trained."""
    from fusionzoo.inference import fuse_images

    network = module.network.to(dtype)
    return partial(
        fuse_images,
        network,
        device=device,
        size_multiple=network.size_multiple,
        min_size=network.min_size,
        value_range=network.value_range,
    )


def _peak_memory() -> float | None:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    # Linux's getrusage starts at the size of the process that started this one; this does not.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / _MB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _MB


def _processor() -> str:
    import platform

    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
