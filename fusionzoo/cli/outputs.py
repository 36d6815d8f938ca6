"""Where commands write: never where their inputs are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fusionzoo.cli import UsageError

__all__ = ["check_apart", "resolved"]


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
                f"{result} would take the place of {clash}, an image to fuse; name another folder"
            )


def resolved(path: Path) -> Path:
    """The path with all links followed; it need not exist."""
    return Path(os.path.realpath(path))
