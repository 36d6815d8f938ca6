"""Paired images for training and evaluation.

Only the table of layouts is imported at once; torch and lightning load with what needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusionzoo.data.layouts import DatasetLayout, get_layout, list_layouts

if TYPE_CHECKING:
    from fusionzoo.data.datamodule import FusionDataModule
    from fusionzoo.data.dataset import Batch, PairDataset
    from fusionzoo.data.masks import target_mask
    from fusionzoo.data.pairs import Pair, PairError, find_pairs

__all__ = [
    "Batch",
    "DatasetLayout",
    "FusionDataModule",
    "Pair",
    "PairDataset",
    "PairError",
    "find_pairs",
    "get_layout",
    "list_layouts",
    "target_mask",
]

# Public name -> module that defines it; imported on first use (PEP 562).
_HOMES = {
    "Batch": "fusionzoo.data.dataset",
    "FusionDataModule": "fusionzoo.data.datamodule",
    "Pair": "fusionzoo.data.pairs",
    "PairDataset": "fusionzoo.data.dataset",
    "PairError": "fusionzoo.data.pairs",
    "find_pairs": "fusionzoo.data.pairs",
    "target_mask": "fusionzoo.data.masks",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
