"""Files of object stores and servers, by their URLs: ``s3://``, ``gs://``, ``memory://``, ...

fsspec (the extra ``fusionzoo[remote]``) does the work; each kind of storage needs a package of its
own, as s3fs for ``s3://``. ``filecache::s3://bucket/folder`` keeps copies on the disk.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fusionzoo.errors import FileError, FusionZooError, InputError, MissingFileError
from fusionzoo.files import write_whole

__all__ = ["Fetched", "RemotePath", "as_path", "at_hand", "is_remote", "write_file"]

# Two letters at least: c:// is a drive. fsspec writes chains as filecache::s3://.
_URL = re.compile(r"[A-Za-z][\w+.-]+(::[A-Za-z][\w+.-]+)*://")
# Object stores have no folders to make, and their packages may make a bucket instead.
_WITHOUT_FOLDERS = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"))


class Fetched(io.BytesIO):
    """The content of a remote file, which errors call by its URL."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


class RemotePath(PurePosixPath):
    """A URL with as much of ``pathlib.Path`` as this package needs.

    Every method that looks at the storage raises FusionZooError: InputError where fsspec or the
    package for this kind of storage is missing, MissingFileError where there is no such file, and
    FileError for all else.
    """

    def __str__(self) -> str:
        text = super().__str__()  # which has one / where a URL has two
        return f"{text}//" if text.endswith(":") else text.replace(":/", "://", 1)

    def __fspath__(self) -> str:
        return str(self)

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        with self._storage() as (storage, path):
            return bool(storage.exists(path))

    def is_dir(self) -> bool:
        """Whether this is a folder, or begins the names of objects as one does."""
        with self._storage() as (storage, path):
            return bool(storage.isdir(path))

    def is_file(self) -> bool:
        """Whether this is a file."""
        with self._storage() as (storage, path):
            return bool(storage.isfile(path))

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies in this folder."""
        with self._storage() as (storage, path):
            return iter([self / PurePosixPath(one).name for one in storage.ls(path, detail=False)])

    def files(self) -> list[RemotePath]:
        """Every file at any depth below this folder, in one listing; sorted."""
        with self._storage() as (storage, path):
            start = len(path.rstrip("/"))
            return sorted(self / one[start:].lstrip("/") for one in storage.find(path))

    def read_bytes(self) -> bytes:
        """All that the file holds."""
        with self._storage() as (storage, path):
            return cast(bytes, storage.cat_file(path))

    def write_bytes(self, content: bytes) -> None:
        """Put a file in one piece; one that was there is replaced."""
        with self._storage() as (storage, path):
            storage.pipe_file(path, content)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder and those above it, where the storage has folders."""
        if str(self).partition("://")[0].rpartition("::")[2] in _WITHOUT_FOLDERS:
            return
        with self._storage() as (storage, path):
            storage.makedirs(path, exist_ok=True)

    def resolve(self) -> RemotePath:
        """Return this path: it is whole, and there are no links."""
        return self

    def samefile(self, other: object) -> bool:
        """Whether this is the same URL."""
        return self == other

    @contextmanager
    def _storage(self) -> Iterator[tuple[Any, str]]:
        """The storage, which is looked up anew in each process, and this path there."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise InputError(
                f"{self}: URLs need fsspec; run: pip install 'fusionzoo[remote]'"
            ) from None
        try:
            storage, path = url_to_fs(str(self))
        except ImportError as error:  # such as "Install s3fs to access S3"
            kind = str(self).partition("://")[0]
            raise InputError(
                f"{self}: {kind}:// needs a package that is not installed ({_first_line(error)})"
            ) from None
        except ValueError as error:
            raise InputError(f"{self}: {_first_line(error)}; check the URL") from None
        except Exception as error:  # packages raise what they like
            raise self._unreachable(error) from error
        try:
            yield storage, path
        except FusionZooError:
            raise
        except FileNotFoundError:
            raise MissingFileError(f"{self}: no such file; check the URL") from None
        except Exception as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> FileError:
        return FileError(
            f"{self} cannot be reached ({_first_line(error)}); check the URL, the network and your "
            "access"
        )


def is_remote(place: object) -> bool:
    """Whether this is a URL of a storage; a ``file://`` URL is none, and names a local file."""
    if isinstance(place, RemotePath):
        return True
    return isinstance(place, str) and _URL.match(place) is not None and not _is_local(place)


def as_path(place: str | os.PathLike[str]) -> Path:
    """A local path, or a :class:`RemotePath` in a path's place."""
    if isinstance(place, RemotePath) or not isinstance(place, str):
        return cast(Path, place) if isinstance(place, RemotePath) else Path(place)
    if _is_local(place):
        return Path(url2pathname(urlsplit(place).path))
    return cast(Path, RemotePath(place)) if is_remote(place) else Path(place)


def at_hand(file: Any) -> Any:
    """The content of a remote file, so that it is fetched once; all else as it is."""
    if not is_remote(file):
        return file
    path = as_path(file)
    return Fetched(path.read_bytes(), str(path))


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, wherever it lies; one that was there is replaced.

    Raises:
        FileError: it cannot be written, or the disk is full.
    """
    if is_remote(path):
        path.write_bytes(content)
        return
    try:
        write_whole(path, content)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror or error}); free space on that disk, check "
            "the folder's permissions, or choose another folder"
        ) from error


def _is_local(text: str) -> bool:
    return text.startswith("file://")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
