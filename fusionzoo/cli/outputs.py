"""Where commands write: never where their inputs are."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from fusionzoo.cli import UsageError
from fusionzoo.remote import RemotePath, is_remote

__all__ = ["check_apart", "check_replaceable", "existing", "make_folder", "resolved"]


def check_apart(results: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuse to write where images to fuse are, as where a folder below OUT is a link to theirs.

    Raises:
        UsageError: a result would replace an input, or would be taken for one next time.
    """
    inputs = {}
    for path in sources:
        for one in (resolved(path.parent) / path.name, resolved(path)):
            inputs[one.with_suffix("")] = path
    for result in results:
        clash = inputs.get((resolved(result.parent) / result.name).with_suffix(""))
        if clash is not None:
            raise UsageError(
                f"{result} would replace {clash}, an image to fuse; name another folder"
            )


def resolved(path: Path) -> Path:
    """The path with all links followed; it need not exist."""
    if is_remote(path):
        return path
    return Path(os.path.realpath(path))


def existing(results: Collection[Path], folder: Path) -> set[Path]:
    """Those of the results below a folder that exist."""
    if isinstance(folder, RemotePath):  # one listing, not a question for each
        return set(results) & set(folder.files())
    return {path for path in results if path.exists()}


def check_replaceable(option: str, path: Path) -> None:
    """Refuse to write to what is no regular file, before time is spent on what goes there.

    Raises:
        UsageError: it is a folder, FIFO, device or the like.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{option} {path} is no regular file; name another one")


def make_folder(folder: Path, option: str) -> None:
    """Make a folder for results before any time is spent on them.

    Raises:
        UsageError: there is a file in the way, or a link that leads nowhere.
        OSError: another reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocking = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        what = "is a file" if blocking.exists() else "is a link that leads nowhere"
        raise UsageError(f"{option}: {blocking} {what}; name a folder for the results") from None
