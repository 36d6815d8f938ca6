"""The files that an evaluation is written to: refused early where they cannot be, written whole."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from fusionzoo.errors import FileError, FusionZooError, InputError, MissingFileError
from fusionzoo.remote import is_remote, write_file


def check_output(path: Path, endings: Collection[str]) -> None:
    """Refuse, before the work is done, a file that could not be written after it.

    Raises:
        InputError: another ending, or the path of a folder, FIFO or device.
        MissingFileError: the folder does not exist.
        FileError: the folder cannot be written to.
    """
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: name a file that ends in {', '.join(endings)}")
    if is_remote(path):
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; name another one")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FileError(f"{path}: the folder {path.parent} is locked; choose another one")


def write_output(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there.

    Raises:
        FileError: the file cannot be written, or the disk is full.
    """
    try:
        write_file(path, content)
    except FusionZooError:
        raise
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror or error}); make room on that disk, or "
            "choose another folder"
        ) from error
