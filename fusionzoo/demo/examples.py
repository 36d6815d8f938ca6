"""The pairs that the page offers: those of the folder ``examples`` of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import fusionzoo
from fusionzoo.models import DEFAULT_MODEL

__all__ = ["ExamplePair", "example_pairs"]


class ExamplePair(NamedTuple):
    """A pair and the published weights that suit it.

    Attributes:
        title: what the page calls it.
        ir: the file of the first modality.
        vi: the file of the second modality.
        model: the key of the weights.
    """

    title: str
    ir: Path
    vi: Path
    model: str


_PAIRS = (
    ("Street at night: infrared and visible", "ir.png", "vi.png", DEFAULT_MODEL),
    ("Brain: PET and MRI", "pet.png", "pet_mri.png", f"{DEFAULT_MODEL}.medical"),
    ("Brain: CT and MRI", "ct.png", "ct_mri.png", f"{DEFAULT_MODEL}.medical"),
)


def example_pairs() -> list[ExamplePair]:
    """Return the pairs that are on this machine.

    A wheel keeps them inside the package, a checkout beside it.
    """
    package = Path(fusionzoo.__file__).parent
    for folder in (package / "examples", package.parent / "examples"):
        pairs = [
            ExamplePair(title, folder / ir, folder / vi, model) for title, ir, vi, model in _PAIRS
        ]
        if all(pair.ir.is_file() and pair.vi.is_file() for pair in pairs):
            return pairs
    return []
