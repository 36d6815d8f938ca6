"""Public datasets of image pairs: where they come from and how their folders look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetLayout:
    """Facts about one dataset; the data itself is not part of this package."""

    name: str
    title: str
    home: str
    licence: str
    ir_dir: str
    vi_dir: str
    folders: str
    registered: bool
    notes: str = ""
    color_from: str = "vi"


LAYOUTS: dict[str, DatasetLayout] = {}


def get_layout(name: str) -> DatasetLayout:
    """The layout of that name.

    Raises:
        ValueError: there is none; names the known ones.
    """
    try:
        return LAYOUTS[name]
    except KeyError:
        known = ", ".join(sorted(LAYOUTS))
        raise ValueError(f"layout={name!r} is not known; use one of {known}") from None


def list_layouts() -> list[DatasetLayout]:
    """All known layouts, sorted by name."""
    return [LAYOUTS[name] for name in sorted(LAYOUTS)]
