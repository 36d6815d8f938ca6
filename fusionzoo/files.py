"""Writing files whole: under a temporary name first, and under the final name when complete.

A killed run leaves its temporary file behind. The next run that writes to the same folder removes
it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
import zlib
from pathlib import Path

__all__ = ["TEMPORARY_PREFIX", "remove_leftovers", "temporary_name", "write_whole"]

#: Begins every temporary name. Machine and process follow, so that what a killed run left behind
#: can be told from what a running one still writes.
TEMPORARY_PREFIX = ".fusionzoo-"

_TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{32}}\.tmp")
_A_DAY = 24 * 60 * 60.0
_looked_through: set[str] = set()


def temporary_name(path: Path) -> Path:
    """Return a name in the folder of ``path`` that nobody else uses.

    It does not hold the name of ``path``: that may be as long as a file system allows. A process's
    first name for a folder removes what killed runs left there (:func:`remove_leftovers`).
    """
    folder = os.path.abspath(path.parent)
    if folder not in _looked_through:
        _looked_through.add(folder)
        remove_leftovers(folder)
    return path.with_name(
        f"{TEMPORARY_PREFIX}{_this_machine()}-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    )


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files and folders that killed runs left in a folder.

    Those of a process of this machine that still runs stay. So do those of other machines, which
    may share the folder, for a day. What cannot be removed stays, too: it is in nobody's way.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        match = _TEMPORARY.fullmatch(name)
        if match is None:
            continue
        machine, process = match.groups()
        leftover = Path(folder, name)
        try:
            dead = machine == _this_machine() and not _is_running(int(process))
            if dead or time.time() - leftover.lstat().st_mtime > _A_DAY:
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
        except OSError:
            continue


def _this_machine() -> str:
    import platform

    return f"{zlib.crc32(platform.node().encode(errors='replace')):08x}"


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it there; age decides
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name, check that all of it arrived, and rename it.

    A file that was there is replaced. A full disk, a limit or a kill leaves the old file, or none.

    Raises:
        OSError: the folder does not exist or cannot be written, the disk is full, or there is
            something else than a file of that name, such as a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Is no regular file, and is not replaced", str(path))
    aside = temporary_name(path)
    try:
        with aside.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # some file systems report a full disk only here
        if (size := aside.stat().st_size) != len(content):
            raise OSError(errno.ENOSPC, f"{size} of {len(content)} bytes were written", str(path))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
