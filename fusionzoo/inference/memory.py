"""Whether a network's memory suffices: asked beforehand on Linux, explained afterwards elsewhere.

Linux hands out memory that it does not have, and ends a process that then uses it, often a
different one. Other systems refuse, which becomes an error.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fusionzoo.errors import FusionZooError, InputError, OutOfMemoryError

#: Environment variable: GB (10^9 bytes) that may be used, in place of what the system says is free.
MEMORY_VARIABLE = "FUSIONZOO_MEMORY_GB"
#: Bytes a pixel that a network takes if it declares nothing: some 64 maps of float32.
DEFAULT_BYTES_PER_PIXEL = 256

#: Bytes a pixel of what `fuse` holds of a whole image while its tiles go through the network:
#: both grey images, the fused one, and copies of them that are padded.
BYTES_BESIDE = 20
#: The most memory that tiles are given: larger ones are no faster.
_ENOUGH = 2e9
# Of free memory, what a network may take: what it needs is estimated, and others need some too.
_SHARE = 0.5

_REMEDY = "pass smaller images or batch_size=1, or use a model that needs less, such as lapnet"
ALWAYS_THERE = 256e6  # not worth a question
_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


class DeviceMemoryError(FusionZooError, torch.cuda.OutOfMemoryError):
    """The memory of a GPU does not suffice."""


def check_memory(need: float, count: int, height: int, width: int) -> None:
    """Refuse images whose network needs more memory than there is; silent where that is unknown.

    Args:
        need: bytes at once, by the network's estimate.
        count: of images that go through the network together.
        height: of one, in pixels.
        width: of one, in pixels.

    Raises:
        OutOfMemoryError: a MemoryError that tells both numbers and what helps.
    """
    if need < ALWAYS_THERE:
        return
    have = available_memory()
    if have is None or need <= have:
        return
    images = "an image" if count == 1 else f"{count} images"
    raise OutOfMemoryError(
        f"fusing {images} of {width} x {height} (width x height) takes about {need / 1e9:.1f} GB "
        f"of memory, and {have / 1e9:.1f} GB are free; leave out tile='off', {_REMEDY} (the "
        f"environment variable {MEMORY_VARIABLE} sets how much may be used)"
    )


class Budget(NamedTuple):
    """Bytes that fusing may take beyond what is taken already.

    Attributes:
        usual: images that take more are cut.
        most: images that take more even in tiles are refused.
    """

    usual: float
    most: float


def memory_budget(device: torch.device, given: float | None) -> Budget | None:
    """Return what fusing may take; None where nobody knows.

    Args:
        device: where the network runs.
        given: by the user; else it follows from what is free there.
    """
    if given is not None:
        return Budget(float(given), float(given))
    if device.type == "cuda":
        free: float | None = float(torch.cuda.mem_get_info(device)[0])
    else:
        free = available_memory() if device.type == "cpu" else None
    return None if free is None else Budget(_SHARE * free, free)


def pixels_of_tile(
    budget: Budget, per_pixel: float, least: int, size: tuple[int, int], count: int
) -> int:
    """How many pixels a tile may have, so that fusing stays within a budget.

    Args:
        budget: of the device where the network runs.
        per_pixel: bytes that the network takes.
        least: pixels of the smallest tile that makes sense.
        size: height and width of the image, padded.
        count: images that are held at once.

    Raises:
        OutOfMemoryError: the smallest tile takes more.
    """
    height, width = size
    beside = BYTES_BESIDE * count * height * width
    least = min(least, height * width)
    need = beside + least * per_pixel
    if need > budget.most:
        raise OutOfMemoryError(
            f"fusing an image of {width} x {height} (width x height) takes about {need / 1e9:.2g} "
            f"GB of memory, however it is cut into tiles, and {budget.most / 1e9:.2g} GB may be "
            f"used; {_REMEDY} (memory= or the environment variable {MEMORY_VARIABLE} sets how much "
            "may be used)"
        )
    return max(int(min(budget.usual - beside, _ENOUGH) / per_pixel), least)


def measured_bytes_per_pixel(run: Callable[..., object], *images: torch.Tensor) -> float:
    """Bytes of all tensors that a network has at once, by the pixels of an image ``(B, 1, H, W)``.

    The images themselves do not count. Never less than what many networks take, since what does
    not pass through torch is not seen.
    """
    with torch.no_grad(), AllocatedBytes() as allocated:
        run(*images)
    pixels = images[0].shape[-2] * images[0].shape[-1]
    return max(float(allocated.peak / pixels), float(DEFAULT_BYTES_PER_PIXEL))


class AllocatedBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the tensors that are made while it is on, and remembers the peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What is there already is not made here: results may share its memory.
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self._know(leaf.untyped_storage(), 0)
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                self._know(storage, storage.nbytes())
        return result

    def _know(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


@contextmanager
def memory_errors_explained() -> Iterator[None]:
    """Give errors of missing memory a text that says what helps."""
    try:
        yield
    except FusionZooError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"the memory of this machine does not suffice; {_REMEDY}") from error
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(f"the memory of the GPU does not suffice; {_REMEDY}") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemoryError(f"the memory of this machine does not suffice; {_REMEDY}") from error


def available_memory() -> float | None:
    """Bytes that this process may take before Linux ends processes; None on other systems."""
    text = os.environ.get(MEMORY_VARIABLE, "").strip()
    if text:
        return _given(text)
    known = [_free_in_machine(), *_free_in_groups()]
    return min((value for value in known if value is not None), default=None)


def _given(text: str) -> float:
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not gigabytes > 0:
        raise InputError(f"{MEMORY_VARIABLE}={text!r}; set a number of GB above 0, such as 8")
    return gigabytes * 1e9


def _free_in_machine() -> float | None:
    values = _numbers(_MEMINFO)
    if "MemAvailable:" not in values:
        return None
    return 1024.0 * (values["MemAvailable:"] + values.get("SwapFree:", 0))


def _free_in_groups() -> Iterator[float | None]:
    """What each control group (container) that this process is in leaves; of both versions."""
    with suppress(OSError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                root, limit, usage = _GROUPS, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                root, limit, usage = _GROUPS / "memory", "memory.limit_in_bytes", _V1_USAGE
            else:
                continue
            # Limits hold for all groups below; inside a container the path may not be there.
            here = root / path.lstrip("/")
            for folder in (here, *here.parents):
                if folder.is_relative_to(root):
                    yield _left_in(folder, limit, usage)


_V1_USAGE = "memory.usage_in_bytes"


def _left_in(folder: Path, limit: str, usage: str) -> float | None:
    with suppress(OSError, ValueError):  # no such file, or "max"
        left = int((folder / limit).read_text()) - int((folder / usage).read_text())
        # Pages of files count as used, and go when memory is wanted.
        statistics = _numbers(folder / "memory.stat")
        key = "total_inactive_file" if usage == _V1_USAGE else "inactive_file"
        return float(left + statistics.get(key, 0))
    return None


def _numbers(path: Path) -> dict[str, int]:
    """The lines ``name number …`` of a file; nothing if there is none."""
    with suppress(OSError, ValueError, IndexError):
        lines = [line.split() for line in path.read_text().splitlines()]
        return {words[0]: int(words[1]) for words in lines if len(words) > 1}
    return {}
