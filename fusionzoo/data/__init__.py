"""Paired images for training and evaluation.

Only the table of layouts is imported at once; torch and lightning load with what needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusionzoo.data.layouts import DatasetLayout, get_layout, list_layouts
from fusionzoo.lazy import lazily

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


__getattr__, __dir__ = lazily(__name__, _HOMES)
