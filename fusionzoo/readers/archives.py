"""NumPy's ``.npz`` archives of one array, or of several with names."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from fusionzoo.errors import InputError, did_you_mean
from fusionzoo.readers.arrays import read_npy
from fusionzoo.readers.content import label_of, open_stream
from fusionzoo.readers.reading import Reading

__all__ = ["read"]

_SHOWN = 10


def read(file: Path | io.BytesIO, *, page: int | str | None = None) -> Reading:
    """Read an array of an archive: its only one, or the one whose name or number is ``page``."""
    label = label_of(file)
    with open_stream(file, label) as stream, zipfile.ZipFile(stream) as archive:
        members = {
            one.filename.removesuffix(".npy"): one
            for one in archive.infolist()
            if one.filename.endswith(".npy")
        }
        name = _chosen(list(members), page, label)
        member = members[name]
        with archive.open(member) as content:
            inside = f"{label}[{name!r}]"
            return Reading(read_npy(content, member.file_size, inside, None), "npz")


def _chosen(names: list[str], page: int | str | None, label: str) -> str:
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    if page is None and len(names) == 1:
        return names[0]
    if page is None:
        if not names:
            raise InputError(f"{label} holds no arrays; replace it")
        raise InputError(
            f"{label} holds {len(names)} arrays ({listed}); pass the name of one: "
            f"fusionzoo.open_image(path, page={names[0]!r}), or --ir-page, --vi-page"
        )
    if isinstance(page, str) and page in names:
        return page
    if isinstance(page, int) and page < len(names):
        return names[page]
    hint = did_you_mean(page, names) if isinstance(page, str) else ""
    raise InputError(f"{label} has no array {page!r}; {hint and hint + ' '}it holds {listed}")
