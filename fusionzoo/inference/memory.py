"""Whether a network's memory suffices: asked beforehand on Linux, explained afterwards elsewhere.

Linux hands out memory that it does not have, and ends a process that then uses it, often a
different one. Other systems refuse, which becomes an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from fusionzoo.errors import FusionZooError, InputError, OutOfMemoryError

#: Environment variable: GB (10^9 bytes) that may be used, in place of what the system says is free.
MEMORY_VARIABLE = "FUSIONZOO_MEMORY_GB"
#: Bytes a pixel that a network takes if it declares nothing: some 64 maps of float32.
DEFAULT_BYTES_PER_PIXEL = 256

_REMEDY = "pass smaller images or batch_size=1, or use a model that needs less, such as lapnet"
_ALWAYS_THERE = 256e6  # not worth a question
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
    if need < _ALWAYS_THERE:
        return
    have = available_memory()
    if have is None or need <= have:
        return
    images = "an image" if count == 1 else f"{count} images"
    raise OutOfMemoryError(
        f"fusing {images} of {width} x {height} (width x height) takes about {need / 1e9:.1f} GB "
        f"of memory, and {have / 1e9:.1f} GB are free; {_REMEDY} (the environment variable "
        f"{MEMORY_VARIABLE} sets how much may be used)"
    )


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
