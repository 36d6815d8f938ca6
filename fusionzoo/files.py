"""Writing files whole: under a temporary name first, and under the final name when complete."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["TEMPORARY_PREFIX", "temporary_name", "write_whole"]

#: Begins every temporary name. It holds the process's number, so that what a killed run left
#: behind can be told from what a running one still writes.
TEMPORARY_PREFIX = ".fusionzoo-"


def temporary_name(path: Path) -> Path:
    """Return a name in the folder of ``path`` that nobody else uses.

    It does not hold the name of ``path``: that may be as long as a file system allows.
    """
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex}.tmp")


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name, check that all of it arrived, and rename it.

    A file that was there is replaced. A full disk, a limit or a kill leaves the old file, or none.

    Raises:
        OSError: the folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    aside = temporary_name(path)
    try:
        with aside.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # some file systems report a full disk only here
        if (size := aside.stat().st_size) != len(content):
            raise OSError(f"{path}: {size} of {len(content)} bytes were written; is the disk full?")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
