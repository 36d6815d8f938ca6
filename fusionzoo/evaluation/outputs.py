"""The files that an evaluation is written to: refused early where they cannot be, written whole."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.remote import is_remote


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
